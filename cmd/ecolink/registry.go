package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const registriesPath = "/v1/registry-credentials"

// registryLogin is a log-in for a container registry, without its password.
type registryLogin struct {
	ID        int64      `json:"id"`
	Host      string     `json:"host"`
	Username  string     `json:"username"`
	CreatedAt *time.Time `json:"created_at"`
}

func registryCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Store, list and remove the account's log-ins for private container registries"}
	cmd.AddCommand(registryLoginCommand(), registryListCommand(), registryLogoutCommand())
	return cmd
}

func registryLoginCommand() *cobra.Command {
	var username string
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "login HOST --username NAME",
		Short: "Store a log-in for a registry; the password is asked for",
		Long: `Store a log-in for a registry, in place of the one that the account has for it. The
password is asked for, or read from standard input; it is never an argument, which
others on this machine could read. It is kept sealed, and used for images of that
registry which the account launches.`,
		Example: `  ecolink registry login ghcr.io --username ana
  pass show ghcr | ecolink registry login ghcr.io --username ana --password-stdin`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVarP(&username, "username", "u", "", "name at the registry")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input without asking")
	cmd.MarkFlagRequired("username")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		password, err := askPassword(cmd, fromStdin)
		if err != nil {
			return err
		}
		in := map[string]string{"host": args[0], "username": username, "password": password}
		var out record[registryLogin]
		// Stored twice it is what it is stored once.
		store := request{method: http.MethodPost, path: registriesPath, in: in, repeatable: true}
		if err := c.call(cmd.Context(), store, &out); err != nil {
			return err
		}
		return p.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "images of %s are fetched as %s from now on\n", printable(out.V.Host), printable(out.V.Username))
		})
	})
	return cmd
}

// maxPassword is more than the API takes.
const maxPassword = 64 << 10

func askPassword(cmd *cobra.Command, fromStdin bool) (string, error) {
	if in, ok := cmd.InOrStdin().(*os.File); ok && !fromStdin && term.IsTerminal(int(in.Fd())) {
		fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
		raw, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(raw), err
	}
	raw, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxPassword)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(raw, "\r\n"), nil
}

func registryListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the account's log-ins for registries", Args: cobra.NoArgs}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		all, err := c.registries(cmd)
		if err != nil {
			return err
		}
		return p.show(all, func(w io.Writer) {
			row(w, "ID", "REGISTRY", "USER NAME", "STORED")
			for _, r := range all {
				row(w, r.V.ID, r.V.Host, r.V.Username, moment(r.V.CreatedAt))
			}
		})
	})
	return cmd
}

func (c *client) registries(cmd *cobra.Command) ([]record[registryLogin], error) {
	var all page[registryLogin]
	err := c.do(cmd.Context(), http.MethodGet, registriesPath, nil, &all)
	return all.Data, err
}

func registryLogoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout HOST",
		Short: "Remove the account's log-in for a registry",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newClient()
			if err != nil {
				return err
			}
			all, err := c.registries(cmd)
			if err != nil {
				return err
			}
			for _, r := range all {
				if !strings.EqualFold(r.V.Host, args[0]) {
					continue
				}
				if err := c.do(cmd.Context(), http.MethodDelete, fmt.Sprintf("%s/%d", registriesPath, r.V.ID), nil, nil); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "removed the log-in for %s\n", printable(r.V.Host))
				return nil
			}
			return fmt.Errorf("the account has no log-in for %s: `ecolink registry ls` shows what it has", args[0])
		},
	}
}
