package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// terminalSession is a shell of an instance that goes on, watched or not.
type terminalSession struct {
	Name    string    `json:"name"`
	Viewers int       `json:"viewers"`
	UsedAt  time.Time `json:"used_at"`
	Program string    `json:"program"` // has the keyboard
}

func (i instance) terminalsPath() string { return i.path() + "/terminals" }

func terminalsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "terminals INSTANCE",
		Short: "List the shells that go on in an instance, or close one",
		Long: `List the shells that go on in an instance, whether somebody watches them or not.

Those of the browser and of ` + "`ecolink instance terminal`" + ` and those of SSH are among
them. A shell ends with exit, or with ` + "`ecolink instance terminals close`" + `.`,
		Example:           "  ecolink instance terminals trainer\n  ecolink instance terminals close trainer ssh-1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		i, err := c.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		var all page[terminalSession] // there is one page
		if err := c.do(cmd.Context(), http.MethodGet, i.V.terminalsPath(), nil, &all); err != nil {
			return err
		}
		return p.show(all.Data, func(w io.Writer) {
			row(w, "NAME", "PROGRAM", "WATCHED BY", "LAST USED")
			for _, s := range all.Data {
				row(w, s.V.Name, s.V.Program, s.V.Viewers, moment(&s.V.UsedAt))
			}
		})
	})
	cmd.AddCommand(closeTerminalCommand())
	return cmd
}

func closeTerminalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "close INSTANCE NAME",
		Aliases: []string{"end", "rm"},
		Short:   "End a shell and what was started in it",
		Long: `End a shell and what was started in it, also when somebody works in it. What it
printed is gone as well.`,
		Example:           "  ecolink instance terminals close trainer ssh-1\n  ecolink instance terminals close trainer main --yes",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeInstance,
	}
	meant := confirming(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, i, err := onInstance(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		happens := fmt.Sprintf("the shell %s of %v is ended with all that was started in it", args[1], i.V)
		if err := meant(loss{happens, "its name"}, args[1]); err != nil {
			return err
		}
		r := request{method: http.MethodDelete, path: i.V.terminalsPath() + "/" + url.PathEscape(args[1])}
		err = c.call(cmd.Context(), r, nil)
		if lost := (*lostError)(nil); errors.As(err, &lost) {
			return fmt.Errorf("%w; whether the shell was ended is not known: see `ecolink instance terminals %d`", err, i.V.ID)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the shell %s of %v has ended\n", printable(args[1]), i.V)
		return err
	}
	return cmd
}
