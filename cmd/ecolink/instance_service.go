package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

// serviceWords says where the service is and who reaches it.
func (i instance) serviceWords() string {
	switch {
	case i.ServicePort == 0:
		return ""
	case i.ServicePublic:
		return fmt.Sprintf("port %d, open to everybody, at %s", i.ServicePort, i.ServiceURL)
	default:
		return fmt.Sprintf("port %d, for members only, at %s", i.ServicePort, i.ServiceURL)
	}
}

// serviceChange is what the API takes; what is nil stays.
type serviceChange struct {
	Port   *int  `json:"service_port,omitempty"`
	Public *bool `json:"service_public,omitempty"`
}

func serviceCommand() *cobra.Command {
	var port int
	var public, private, off bool
	cmd := &cobra.Command{
		Use:   "service INSTANCE [--port P] [--public | --private | --off]",
		Short: "Show or change how the service in an instance is reached",
		Long: `Show or change how the service in an instance is reached.

A service is whatever listens on the port inside; that it listens on the instance's
own loopback is enough. Members of the account reach it at the service URL, programs
with an API key, and with --public everybody does. It holds from the next request on.`,
		Example: `  ecolink instance service llm --port 8000
  ecolink instance service llm --public
  ecolink instance service llm --private
  ecolink instance service llm --off`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	cmd.Flags().IntVar(&port, "port", 0, "port that it listens on")
	cmd.Flags().BoolVar(&public, "public", false, "open it to everybody")
	cmd.Flags().BoolVar(&private, "private", false, "close it to all but members of the account")
	cmd.Flags().BoolVar(&off, "off", false, "have no service")
	cmd.MarkFlagsMutuallyExclusive("public", "private", "off")
	cmd.MarkFlagsMutuallyExclusive("port", "off")
	asking(cmd, func(cmd *cobra.Command, args []string, c *client, p printer) error {
		var change serviceChange
		if cmd.Flags().Changed("port") {
			change.Port = &port
		}
		if off {
			change.Port = new(int)
		}
		if public || private {
			change.Public = &public
		}
		i, err := c.find(cmd.Context(), args[0])
		if err == nil && change != (serviceChange{}) {
			was := i
			i = record[instance]{}
			err = c.call(cmd.Context(), request{method: http.MethodPatch, path: was.V.path(), in: change, repeatable: true}, &i)
			if lost := (*lostError)(nil); errors.As(err, &lost) {
				return fmt.Errorf("%w; whether the service of %v was changed is not known: see `ecolink instance show %d`", err, was.V, was.V.ID)
			}
		}
		if err != nil {
			return err
		}
		return p.show(i, func(w io.Writer) {
			words := i.V.serviceWords()
			if words == "" {
				words = "no service"
			}
			fmt.Fprintf(w, "%v: %s\n", i.V, words)
		})
	})
	return cmd
}
