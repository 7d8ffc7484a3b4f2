package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"ecolink/agent"
	"ecolink/web"
	"ecolink/web/socket"
)

// execBroke is the exit code of a command whose end nobody saw, as ssh has it.
const execBroke exitCode = 255

// execMissing is the exit code of a command that does not exist, as a shell has it.
const execMissing exitCode = 127

func execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec INSTANCE -- COMMAND…",
		Short: "Run a command as root inside a running instance",
		Long: `Run a command as root inside a running instance, with this command's standard
input, output and error, and exit with its exit code. The code is 127 when there is
no such command, and 255 when the connection is lost before the command's end,
which then ends too.

There is no terminal: for that, see ` + "`ecolink instance terminal`.",
		Example: `  ecolink instance exec llm -- nvidia-smi
  tar c src | ecolink instance exec llm -- tar x -C /root`,
		Args:              execArgs,
		ValidArgsFunction: completeInstance,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, i, err := onInstance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.exec(cmd.Context(), i.V, args[1:], agent.Stdio{
				Stdin: cmd.InOrStdin(), Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
			})
		},
	}
}

func execArgs(cmd *cobra.Command, args []string) error {
	if err := commandBehindDash(1)(cmd, args); err != nil {
		return err
	}
	if len(args) == 1 {
		return misuse("name a command: write `%s`", usageLine(cmd))
	}
	return nil
}

func (c *client) exec(ctx context.Context, i instance, argv []string, stdio agent.Stdio) error {
	conn, err := socket.DialExec(ctx, c.base+i.path()+"/exec", c.key, argv, socket.WithHTTPClient(c.http))
	if err != nil {
		return refusedBySocket(err)
	}
	code, err := conn.Run(ctx, stdio)
	var refused *web.Failure
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &refused):
		if refused.Param != nil && *refused.Param == "command" {
			fmt.Fprintf(os.Stderr, "ecolink: %s\n", refused.Message)
			return execMissing
		}
		return refusedBySocket(err)
	case err != nil:
		fmt.Fprintf(os.Stderr, "ecolink: %v: the command has not come to its end\n", err)
		return execBroke
	case code != 0:
		return exitCode(code)
	}
	return nil
}

// refusedBySocket makes a refusal of web/socket one like the API's others.
func refusedBySocket(err error) error {
	var f *web.Failure
	if !errors.As(err, &f) {
		return err
	}
	e := &apiError{Status: f.Status, Code: f.Code, Message: f.Message, RequestID: f.RequestID}
	if f.Param != nil {
		e.Param = *f.Param
	}
	if e.Status == 0 { // it came over the socket, which has no status
		e.Status = statusOfCode(f.Code)
	}
	return e
}

func statusOfCode(code string) int {
	status, ok := map[string]int{
		"insufficient_balance": http.StatusPaymentRequired,
		"not_found":            http.StatusNotFound,
		"conflict":             http.StatusConflict,
		"unauthorized":         http.StatusUnauthorized,
		"forbidden":            http.StatusForbidden,
		"unavailable":          http.StatusServiceUnavailable,
		"internal_error":       http.StatusInternalServerError,
	}[code]
	if !ok {
		status = http.StatusUnprocessableEntity
	}
	return status
}
