package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// priceChange is what holds for an item from an instant on.
type priceChange struct {
	Item   string    `json:"item"`
	Unit   string    `json:"unit"`
	Amount *string   `json:"amount"` // nil: it has no price
	From   time.Time `json:"from"`
	SetAt  time.Time `json:"set_at"`
	Note   string    `json:"note"`
}

func (c priceChange) price() string { return priceOrNone(c.Amount) }

// standingPrice is how the list stands for an item.
type standingPrice struct {
	Item   string       `json:"item"`
	Unit   string       `json:"unit"`
	Amount *string      `json:"amount"`
	From   *time.Time   `json:"from"`
	Next   *priceChange `json:"next"`
}

func priceOrNone(amount *string) string {
	if amount == nil {
		return "none"
	}
	return dollars(*amount)
}

func priceCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "price",
		Short: "Set, announce, withdraw and list prices",
		Long: `Set, announce, withdraw and list prices. What has a price is written

  gpu/TYPE                      per GPU-hour, such as gpu/h100
  mig/TYPE/PROFILE              per slice-hour, such as mig/h100/1g.10gb
  storage/drive                 per GB-month
  storage/shared-filesystem     per GB-month
  model/NAME/UNIT               per million input-tokens or output-tokens, or per
                                image, audio-second or video-second

A price that has been in force stays on the list as it was, and what was launched
at it keeps it.`,
	}
	cmd.AddCommand(priceSetCommand(box), priceWithdrawCommand(box), priceCancelCommand(box), priceListCommand(box), priceHistoryCommand(box))
	return cmd
}

func priceSetCommand(box boxFlags) *cobra.Command {
	var from, note string
	cmd := &cobra.Command{
		Use:   "set ITEM AMOUNT",
		Short: "Set a price in dollars, from now or from a later time on",
		Example: `  ecolink admin price set gpu/h100 1.60
  ecolink admin price set gpu/h100 1.80 --from 2027-01-01 --note 'new power contract'
  ecolink admin price set model/meta-llama/Llama-3.1-8B/input-tokens 0.05`,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&from, "from", "", "date (from 00:00 UTC) or time like 2026-12-01T09:30:00Z; now without it")
	cmd.Flags().StringVar(&note, "note", "", "why, for the price's history")
	asPriceChange(cmd, box, "/admin/prices", func(args []string) any {
		return map[string]string{"item": args[0], "amount": args[1], "from": from, "note": note}
	}, func(c priceChange) string {
		return fmt.Sprintf("%s costs %s %s from %s on", c.Item, c.price(), c.Unit, since(c.From, from))
	})
	return cmd
}

func priceWithdrawCommand(box boxFlags) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:     "withdraw ITEM",
		Short:   "Leave something without a price, from now or from a later time on",
		Example: "  ecolink admin price withdraw gpu/v100 --from 2027-01-01",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&from, "from", "", "date (from 00:00 UTC) or time like 2026-12-01T09:30:00Z; now without it")
	asPriceChange(cmd, box, "/admin/prices/withdraw", func(args []string) any {
		return map[string]string{"item": args[0], "from": from}
	}, func(c priceChange) string {
		return fmt.Sprintf("%s has no price from %s on", c.Item, since(c.From, from))
	})
	return cmd
}

func priceCancelCommand(box boxFlags) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:     "cancel ITEM --from TIME",
		Short:   "Take back a change that is announced for a time",
		Example: "  ecolink admin price cancel gpu/h100 --from 2027-01-01",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&from, "from", "", "date or time that the change is announced for")
	cmd.MarkFlagRequired("from")
	asPriceChange(cmd, box, "/admin/prices/cancel", func(args []string) any {
		return map[string]string{"item": args[0], "from": from}
	}, func(c priceChange) string {
		return fmt.Sprintf("%s does not change at %s", c.Item, since(c.From, from))
	})
	return cmd
}

// asPriceChange makes cmd one that changes the list and tells what holds.
func asPriceChange(cmd *cobra.Command, box boxFlags, path string, in func(args []string) any, tell func(priceChange) string) {
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		var out record[priceChange]
		if err := box.call(cmd.Context(), http.MethodPost, path, in(args), &out); err != nil {
			return err
		}
		return p.show(out, func(w io.Writer) { fmt.Fprintln(w, printable(tell(out.V))) })
	}
}

// since is the instant in the words of who asked: now, unless a time was named.
func since(t time.Time, asked string) string {
	if asked == "" {
		return "now"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func priceListCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the prices and what is announced", Args: cobra.NoArgs}
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		var out page[standingPrice]
		if err := box.call(cmd.Context(), http.MethodGet, "/admin/prices", nil, &out); err != nil {
			return err
		}
		return p.show(out.Data, func(w io.Writer) {
			row(w, "ITEM", "PRICE", "UNIT", "SINCE", "NEXT", "FROM")
			for _, r := range out.Data {
				s := r.V
				next, from := "", ""
				if s.Next != nil {
					next, from = s.Next.price(), moment(&s.Next.From)
				}
				row(w, s.Item, priceOrNone(s.Amount), s.Unit, moment(s.From), next, from)
			}
		})
	}
	return cmd
}

func priceHistoryCommand(box boxFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "history ITEM",
		Short:   "List the prices that something had, has and will have, newest first",
		Example: "  ecolink admin price history gpu/h100",
		Args:    cobra.ExactArgs(1),
	}
	printed := printing(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := printed()
		if err != nil {
			return err
		}
		var out page[priceChange]
		if err := box.call(cmd.Context(), http.MethodGet, "/admin/prices/history?item="+url.QueryEscape(args[0]), nil, &out); err != nil {
			return err
		}
		return p.show(out.Data, func(w io.Writer) {
			row(w, "FROM", "PRICE", "UNIT", "SET", "NOTE")
			for _, r := range out.Data {
				c := r.V
				row(w, moment(&c.From), c.price(), c.Unit, moment(&c.SetAt), c.Note)
			}
		})
	}
	return cmd
}
