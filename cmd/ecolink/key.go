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

	MonthlyCap     *string `json:"monthly_cap"`
	SpentThisMonth string  `json:"spent_this_month"`
	CapUsed        *string `json:"cap_used"`
}

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make, list, cap and revoke API keys of your account"}
	cmd.AddCommand(keyListCommand(), keyCreateCommand(), keyCapCommand(), keyRevokeCommand())
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
			row(w, "ID", "NAME", "KEY", "TAG", "CREATED", "LAST USED", "SPENT THIS MONTH", "MONTHLY CAP")
			for _, k := range keys.Data {
				row(w, k.V.ID, k.V.Name, k.V.Prefix+"…", k.V.Tag, moment(k.V.CreatedAt), moment(k.V.LastUsedAt), dollars(k.V.SpentThisMonth), k.V.cap())
			}
		})
	})
	return cmd
}

// cap is the key's monthly cap, for people.
func (k apiKey) cap() string {
	if k.MonthlyCap == nil {
		return ""
	}
	return dollars(*k.MonthlyCap)
}

func keyCreateCommand() *cobra.Command {
	var tag, limit string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an API key; its secret goes to standard output, this once",
		Example: `  ecolink key create ci --tag nightly > key.txt
  ecolink key create students --monthly-cap 25.00
  ECOLINK_API_KEY=$(ecolink key create ci) make deploy`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&tag, "tag", "", "source that usage with this key is counted under")
	cmd.Flags().StringVar(&limit, "monthly-cap", "", "the most that may be spent with it in a calendar month, UTC, in US dollars")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		in := map[string]string{"name": args[0]}
		if tag != "" {
			in["tag"] = tag
		}
		if limit != "" {
			in["monthly_cap"] = limit
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

func keyCapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cap ID AMOUNT|none",
		Short: "Cap what may be spent with an API key in a calendar month, UTC",
		Example: `  ecolink key cap 2 25.00
  ecolink key cap 2 none`,
		Args: cobra.ExactArgs(2),
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		id, err := keyNumber(args[0])
		if err != nil {
			return err
		}
		in := map[string]*string{"monthly_cap": &args[1]}
		if args[1] == "none" {
			in["monthly_cap"] = nil
		}
		var key record[apiKey]
		change := request{method: http.MethodPatch, path: fmt.Sprintf("/v1/api-keys/%d", id), in: in, repeatable: true}
		if err := c.call(cmd.Context(), change, &key); err != nil {
			return err
		}
		return p.show(key, func(w io.Writer) {
			k := key.V
			if k.MonthlyCap == nil || k.CapUsed == nil {
				fmt.Fprintf(w, "key %d (%s) has no cap; %s spent this month\n", k.ID, printable(k.Name), dollars(k.SpentThisMonth))
				return
			}
			fmt.Fprintf(w, "key %d (%s) may spend %s a month; %s of it used in this one\n", k.ID, printable(k.Name), dollars(*k.MonthlyCap), dollars(*k.CapUsed))
		})
	})
	return cmd
}

// keyNumber reads the argument that names a key.
func keyNumber(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		return 0, misuse("%q is not a key's number: `ecolink key ls` shows them", arg)
	}
	return id, nil
}

func keyRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an API key: the next request with it is refused",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := keyNumber(args[0])
			if err != nil {
				return err
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
