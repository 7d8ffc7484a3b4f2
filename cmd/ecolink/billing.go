package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

type balance struct {
	Available string `json:"available"`
	Held      string `json:"held"`
	Total     string `json:"total"`
}

func (b balance) String() string {
	return fmt.Sprintf("$%s available, $%s held", b.Available, b.Held)
}

type transaction struct {
	ID           int64     `json:"id"`
	Time         time.Time `json:"time"`
	Type         string    `json:"type"`
	Amount       string    `json:"amount"` // below zero when it leaves the account
	BalanceAfter string    `json:"balance_after"`
	HeldAfter    string    `json:"held_after"`
	Description  string    `json:"description"`
	Resource     string    `json:"resource"`
	RequestID    string    `json:"request_id"`
}

func (c *client) balance(ctx context.Context) (b record[balance], err error) {
	return b, c.do(ctx, http.MethodGet, "/v1/billing/balance", nil, &b)
}

func billingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "billing",
		Short: "Show the account's balance, transactions and statement",
		Args:  cobra.NoArgs,
	}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		b, err := c.balance(cmd.Context())
		if err != nil {
			return err
		}
		return p.show(b, func(w io.Writer) {
			row(w, "available", "$"+b.V.Available)
			row(w, "held", "$"+b.V.Held)
			row(w, "total", "$"+b.V.Total)
		})
	})
	cmd.AddCommand(transactionsCommand(), statementCommand())
	return cmd
}

func transactionsCommand() *cobra.Command {
	var limit int
	var all bool
	cmd := &cobra.Command{
		Use:   "transactions",
		Short: "List what came in and went out, newest first",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many")
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	cmd.MarkFlagsMutuallyExclusive("limit", "all")
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		if limit < 1 {
			return fmt.Errorf("--limit %d: ask for 1 or more, or for --all", limit)
		}
		if all {
			limit = 0
		}
		rows, err := collect(list[transaction](cmd.Context(), c, "/v1/billing/transactions", limit))
		if err != nil {
			return err
		}
		return p.show(rows, func(w io.Writer) {
			row(w, "ID", "TIME", "TYPE", "AMOUNT", "AVAILABLE", "HELD", "RESOURCE", "DESCRIPTION")
			for _, r := range rows {
				t := r.V
				row(w, t.ID, moment(&t.Time), t.Type, t.Amount, t.BalanceAfter, t.HeldAfter, t.Resource, t.Description)
			}
		})
	})
	return cmd
}

func statementCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "statement",
		Short:   "Write all transactions as CSV to standard output, newest first",
		Example: "  ecolink billing statement > statement.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient()
			if err != nil {
				return err
			}
			out := csv.NewWriter(cmd.OutOrStdout())
			if err := out.Write([]string{"id", "time", "type", "amount", "balance_after", "held_after", "resource", "description", "request_id"}); err != nil {
				return err
			}
			for r, err := range list[transaction](cmd.Context(), c, "/v1/billing/transactions", 0) {
				if err != nil {
					return err
				}
				t := r.V
				cells := []string{strconv.FormatInt(t.ID, 10), t.Time.UTC().Format(time.RFC3339Nano), t.Type, t.Amount,
					t.BalanceAfter, t.HeldAfter, t.Resource, t.Description, t.RequestID}
				if err := out.Write(cells); err != nil {
					return err
				}
			}
			out.Flush()
			return out.Error()
		},
	}
}
