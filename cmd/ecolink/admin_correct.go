package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func correctCommand(box boxFlags) *cobra.Command {
	var reason, key string
	cmd := &cobra.Command{
		Use:   "correct ACCOUNT AMOUNT --reason R",
		Short: "Add to or take from an account; the reason stands in its statement",
		Long: `Add to an account, given by number or its owner's e-mail, or take from it with an
amount below zero. More than is available is taken from what is held, from the
newest hold first; at $0 the account's instances end. No row is ever changed: the
correction is a row of its own, with the reason.`,
		Example: "  ecolink admin correct ana@example.org 4.80 --reason 'GPU failed on 3 May'\n  ecolink admin correct --reason 'credited twice' -- 7 -25.00",
		Args:    cobra.ExactArgs(2),
	}
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		in := map[string]string{"account": args[0], "amount": args[1], "reason": reason}
		var out struct {
			AccountID     int64  `json:"account_id"`
			Available     string `json:"available"`
			Held          string `json:"held"`
			TransactionID int64  `json:"transaction_id"`
		}
		if err := box.moveMoney(cmd.Context(), "/admin/correct", key, in, &out); err != nil {
			return err
		}
		return p.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "account %s was corrected by %s: %s available, %s held\n", args[0], dollars(args[1]), dollars(out.Available), dollars(out.Held))
		})
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the account's statement")
	cmd.Flags().StringVar(&key, "key", "", "idempotency key: the same key corrects once; without it, a new one is made")
	cmd.MarkFlagRequired("reason")
	return cmd
}

func acceptClockCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept-clock",
		Short: "Say that the box's clock is right although the ledger's rows say otherwise",
		Long: `When the box's clock is more than a few minutes before the newest row of the
ledger, or more than three months after it, no money moves: either the clock is wrong now, or it was wrong when that
row was written. Set the clock right first. If it is right now, this command says
so: rows go on from the present time, and those that were written keep theirs.`,
		Args: cobra.NoArgs,
	}
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		var out struct {
			Now      time.Time `json:"now"`
			Newest   time.Time `json:"newest_row"`
			Accepted bool      `json:"accepted"`
		}
		if err := box.call(cmd.Context(), http.MethodPost, "/admin/ledger/accept-clock", nil, &out); err != nil {
			return err
		}
		return p.show(out, func(w io.Writer) {
			if out.Accepted {
				fmt.Fprintf(w, "accepted: it is %s; the newest row says %s and stays as it is\n", out.Now.Format(time.RFC3339), out.Newest.Format(time.RFC3339))
			} else {
				fmt.Fprintf(w, "nothing to accept: no row is later than %s\n", out.Now.Format(time.RFC3339))
			}
		})
	}
	return cmd
}
