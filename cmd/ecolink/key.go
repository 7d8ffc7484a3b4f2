package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

type apiKey struct {
	ID         int64      `json:"id"`
	Name       string     `json:"name"`
	Tag        string     `json:"tag"`
	Prefix     string     `json:"prefix"`
	CreatedAt  *time.Time `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	Secret     string     `json:"secret"` // only in the answer that made it
}

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make, list and revoke API keys of your account"}
	cmd.AddCommand(keyListCommand(), keyCreateCommand(), keyRevokeCommand())
	return cmd
}

func keyListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List the account's API keys", Args: cobra.NoArgs}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		var keys page[apiKey]
		if err := c.do(cmd.Context(), http.MethodGet, "/v1/api-keys", nil, &keys); err != nil {
			return err
		}
		return p.show(keys.Data, func(w io.Writer) {
			row(w, "ID", "NAME", "KEY", "TAG", "CREATED", "LAST USED")
			for _, k := range keys.Data {
				row(w, k.V.ID, k.V.Name, k.V.Prefix+"…", k.V.Tag, moment(k.V.CreatedAt), moment(k.V.LastUsedAt))
			}
		})
	})
	return cmd
}

func keyCreateCommand() *cobra.Command {
	var tag string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an API key; its secret goes to standard output, this once",
		Example: `  ecolink key create ci --tag nightly > key.txt
  ECOLINK_API_KEY=$(ecolink key create ci) make deploy`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&tag, "tag", "", "source that usage with this key is counted under")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		in := map[string]string{"name": args[0]}
		if tag != "" {
			in["tag"] = tag
		}
		var key record[apiKey]
		if err := c.do(cmd.Context(), http.MethodPost, "/v1/api-keys", in, &key); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "made key %d; keep the secret now, it is not shown again\n", key.V.ID)
		return p.show(key, func(w io.Writer) { fmt.Fprintln(w, key.V.Secret) })
	})
	return cmd
}

func keyRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an API key: the next request with it is refused",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is not a key's number: `ecolink key ls` shows them", args[0])
			}
			c, err := newClient()
			if err != nil {
				return err
			}
			if err := c.do(cmd.Context(), http.MethodDelete, fmt.Sprintf("/v1/api-keys/%d", id), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "revoked key %d\n", id)
			return nil
		},
	}
}
