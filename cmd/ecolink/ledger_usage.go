package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func rebuildUsageCommand(box boxFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild-usage",
		Short: "Make the sums of usage anew, from the whole ledger",
		Long: `Make the sums of usage anew, from the whole ledger. They are no money, and nothing but
the Billing page, ` + "`ecolink billing usage`" + ` and new caps of API keys are made of them.
It takes a while in the background; what people see is exact meanwhile, and slow.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out any
			if err := box.call(cmd.Context(), http.MethodPost, "/admin/ledger/rebuild-usage", nil, &out); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "the sums of usage are being made anew")
			return err
		},
	}
}
