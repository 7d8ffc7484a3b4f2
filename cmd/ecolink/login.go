package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func loginCommand() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Remember an EcoLink and an API key for the other commands",
		Long:  "Remember an EcoLink and an API key for the other commands. Make a key on the console's API keys page.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			base, err := baseURL(args[0])
			if err != nil {
				return err
			}
			key, err := askKey(cmd, keyFile)
			if err != nil {
				return err
			}
			if key == "" {
				return misuse("the API key is empty: make one on the API keys page of %s, and give it here or by --key-file", base)
			}
			c := &client{base: base, key: key, http: &http.Client{}}
			if err := c.do(cmd.Context(), http.MethodGet, "/v1/me", nil, nil); err != nil {
				return err
			}
			if err := (profile{URL: base, Key: key}).save(); err != nil {
				return fmt.Errorf("save the log-in: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "logged in to %s\n", base)
			return nil
		},
	}
	cmd.Flags().StringVar(&keyFile, "key-file", "", "file with the API key, or - for standard input, instead of asking")
	return cmd
}

func askKey(cmd *cobra.Command, file string) (string, error) {
	if file != "" {
		return readSecret(file, cmd.InOrStdin())
	}
	fmt.Fprint(cmd.ErrOrStderr(), "API key: ")
	if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		raw, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return strings.TrimSpace(string(raw)), err
	}
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
