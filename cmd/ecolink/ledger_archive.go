package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func ledgerArchiveCommand(box boxFlags) *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use:   "archive --before DATE",
		Short: "Move old rows of the ledger to compressed files beside the database",
		Long: `Move rows of the ledger that are at least 30 days old from the database to compressed
files in the folder ledger-archive beside it. Statements and "ledger verify" read them
from there as before, and backups have them; only their idempotency keys are
forgotten. The room that the rows took is used for new ones. It may be cut off at any
time, and goes on when it is called again.`,
		Example: "  ecolink ledger archive --before 2026-01-01",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&before, "before", "", "date (from 00:00 UTC) or time like 2026-01-01T00:00:00Z")
	cmd.MarkFlagRequired("before")
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		c, done, err := box.client(cmd.Context(), false)
		if err != nil {
			return err
		}
		defer done()
		// Not by call: this takes as long as it takes.
		resp, err := c.send(cmd.Context(), request{method: http.MethodPost, path: "/admin/ledger/archive", in: map[string]string{"before": before}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var out record[struct {
			Files   []any `json:"files"`
			Rows    int64 `json:"rows"`
			Bytes   int64 `json:"bytes"`
			Through int64 `json:"through"`
		}]
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			return c.broken(cmd.Context(), err)
		}
		return p.show(out, func(w io.Writer) {
			fmt.Fprintf(w, "archived %s in %s of %s; rows up to %d are in archives now\n", count(out.V.Rows, "row"), count(len(out.V.Files), "file"), byteSize(out.V.Bytes), out.V.Through)
		})
	}
	return cmd
}
