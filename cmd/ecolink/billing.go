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

	"ecolink/ledger/statement"
)

type balance struct {
	Available string `json:"available"`
	Held      string `json:"held"`
	Total     string `json:"total"`

	SpentThisMonth  string `json:"spent_this_month"` // these are in the answer for it alone
	CallsThisMonth  int64  `json:"calls_this_month"`
	TokensThisMonth int64  `json:"tokens_this_month"`

	BurnPerHour string     `json:"burn_per_hour"`
	LastsUntil  *time.Time `json:"lasts_until"` // nil: it does not run out
}

func (b balance) String() string {
	return fmt.Sprintf("%s available, %s held", dollars(b.Available), dollars(b.Held))
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
		Short: "Show the account's balance, transactions, usage and statement",
		Args:  cobra.NoArgs,
	}
	asking(cmd, func(cmd *cobra.Command, _ []string, c *client, p printer) error {
		b, err := c.balance(cmd.Context())
		if err != nil {
			return err
		}
		return p.show(b, func(w io.Writer) {
			row(w, "available", dollars(b.V.Available))
			row(w, "held", dollars(b.V.Held))
			row(w, "total", dollars(b.V.Total))
			row(w, "spent this month", dollars(b.V.SpentThisMonth))
			row(w, "calls this month", b.V.CallsThisMonth)
			row(w, "tokens this month", b.V.TokensThisMonth)
			row(w, "burn per hour", dollars(b.V.BurnPerHour))
			if b.V.LastsUntil != nil {
				row(w, "lasts until", moment(b.V.LastsUntil))
			}
		})
	})
	cmd.AddCommand(transactionsCommand(), usageCommand(), statementCommand())
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
			return misuse("--limit %d: ask for 1 or more, or for --all", limit)
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
	var month, format string
	cmd := &cobra.Command{
		Use:   "statement",
		Short: "Write a month's statement, or all transactions, to standard output",
		Long: `Write a month's statement to standard output: the balance at its beginning, every
transaction, oldest first, the balance at its end, and the totals by type. Without
--month, write all transactions as plain CSV, newest first.`,
		Example: `  ecolink billing statement --month 2026-11 > 2026-11.csv
  ecolink billing statement > everything.csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "csv" && format != "json" {
				return misuse("--format %s: choose csv or json", format)
			}
			if month == "" && format != "csv" {
				return misuse("--format json is for a month's statement: add --month, or ask `ecolink billing transactions --all -o json`")
			}
			c, err := newClient()
			if err != nil {
				return err
			}
			if month != "" {
				return c.download(cmd.Context(), monthlyStatement(month, format), cmd.OutOrStdout())
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
					t.BalanceAfter, t.HeldAfter, statement.Harmless(t.Resource), statement.Harmless(t.Description), statement.Harmless(t.RequestID)}
				if err := out.Write(cells); err != nil {
					return err
				}
			}
			out.Flush()
			return out.Error()
		},
	}
	cmd.Flags().StringVar(&month, "month", "", "calendar month, UTC, like 2026-11")
	cmd.Flags().StringVar(&format, "format", "csv", "csv or json")
	return cmd
}
