package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"ecolink/ledger"
	"ecolink/scheduler"
)

// settlement is how an instance's hold ended.
type settlement struct {
	Used     ledger.MicroUSD `json:"used"`
	Refunded ledger.MicroUSD `json:"refunded"`
}

func terminateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "terminate INSTANCE",
		Short: "End an instance; what was paid and not used is refunded at once",
		Long: `End an instance; what was paid and not used is refunded at once.

Its files outside a mounted drive are gone then. Terminating an instance that is
over changes nothing.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		i, err := c.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := c.call(cmd.Context(), request{method: http.MethodPost, path: i.V.path() + "/terminate", repeatable: true}, &i); err != nil {
			return err
		}
		return c.showEnd(cmd.Context(), p, i)
	})
	return cmd
}

func (c *client) showEnd(ctx context.Context, p printer, i record[instance]) error {
	s, err := c.settlement(ctx, i.V)
	if err != nil {
		return fmt.Errorf("%v is %s; what was refunded can't be read: %w", i.V, i.V.State, err)
	}
	b, err := c.balance(ctx)
	if err != nil {
		return fmt.Errorf("%v is %s; the balance can't be read: %w", i.V, i.V.State, err)
	}
	out := struct {
		Instance record[instance] `json:"instance"`
		settlement
		Balance record[balance] `json:"balance"`
	}{i, s, b}
	return p.show(out, func(w io.Writer) {
		fmt.Fprintf(w, "%v is %s: %s used, %s refunded; balance %v\n", i.V, i.V.State, s.Used.Dollars(), s.Refunded.Dollars(), b.V)
	})
}

// settlement reads from the account's transactions what an instance has cost.
func (c *client) settlement(ctx context.Context, i instance) (s settlement, err error) {
	resource := scheduler.Instance{ID: scheduler.InstanceID(i.ID)}.Resource()
	for r, err := range list[transaction](ctx, c, "/v1/billing/transactions", 0) {
		if err != nil {
			return s, err
		}
		if r.V.Time.Before(i.CreatedAt) {
			break // newest first: the rest is older than the instance
		}
		if r.V.Resource != resource {
			continue
		}
		amount, err := ledger.ParseUSD(r.V.Amount)
		if err != nil {
			return s, err
		}
		switch ledger.Type(r.V.Type) {
		case ledger.Refund:
			s.Refunded += amount
		case ledger.GPUUsage:
			s.Used -= amount
		}
	}
	return s, nil
}
