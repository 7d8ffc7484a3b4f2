package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// extension is the API's answer to an extend.
type extension struct {
	Instance  instance   `json:"instance"`
	AddedCost string     `json:"added_cost"`
	Balance   balance    `json:"balance"`
	Deadline  *time.Time `json:"deadline"`
}

func extendCommand() *cobra.Command {
	var hours float64
	cmd := &cobra.Command{
		Use:               "extend INSTANCE --hours H",
		Short:             "Pay for more hours of an instance",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	cmd.Flags().Float64Var(&hours, "hours", 0, "how many hours more: 1 at least, fractions are fine")
	cmd.MarkFlagRequired("hours")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		i, err := c.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		var x record[extension]
		err = c.call(cmd.Context(), request{
			method: http.MethodPost, path: i.V.path() + "/extend",
			in: map[string]float64{"hours": hours}, key: newIdempotencyKey(),
		}, &x)
		if lost := (*lostError)(nil); errors.As(err, &lost) {
			return fmt.Errorf("%w; whether %v was extended is not known: see `ecolink instance show %d`", err, i.V, i.V.ID)
		}
		if err != nil {
			return err
		}
		return p.show(x, func(w io.Writer) {
			until := ""
			if x.V.Deadline != nil {
				until = ", until " + moment(x.V.Deadline)
			}
			fmt.Fprintf(w, "%v has %gh more for %s%s; balance %v\n", i.V, hours, dollars(x.V.AddedCost), until, x.V.Balance)
		})
	})
	return cmd
}
