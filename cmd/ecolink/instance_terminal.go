package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ecolink/agent"
	"ecolink/web/socket"
)

func terminalCommand() *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use:   "terminal INSTANCE",
		Short: "Open a root shell in a running instance",
		Long: `Open a root shell in a running instance.

The shell lives in the instance, not in this terminal: it goes on when you leave,
and the same command comes back to it, with what it printed meanwhile. A lost
connection is made again by itself. Each session name is a shell of its own, and
several people may be in one.

Keys, at the beginning of a line as in ssh:
  ~.   leave; the shell lives on
  ~~   type one ~
To end the shell itself, type exit. While the connection is lost, ctrl-C leaves.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeInstance,
	}
	cmd.Flags().StringVar(&session, "session", "", "which shell (default \"main\")")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in, out, err := ownTerminal(cmd)
		if err != nil {
			return err
		}
		c, i, err := onInstance(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		dial := func(ctx context.Context, from int64) (agent.Terminal, error) {
			cols, rows := windowSize(out)
			options := []socket.DialOption{socket.WithHTTPClient(c.http), socket.From(from), socket.WithWindow(cols, rows)}
			if session != "" {
				options = append(options, socket.WithSession(session))
			}
			t, err := socket.Dial(ctx, c.base+i.V.path()+"/terminal", c.key, options...)
			if err != nil {
				return nil, err // and not a nil connection in an interface
			}
			return t, nil
		}
		return enter(cmd.Context(), in, out, cmd.ErrOrStderr(), i.V, dial)
	}
	return cmd
}

// ownTerminal is where the user sits.
func ownTerminal(cmd *cobra.Command) (in, out *os.File, err error) {
	in, isFile := cmd.InOrStdin().(*os.File)
	out, isFileToo := cmd.OutOrStdout().(*os.File)
	if !isFile || !isFileToo || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil, nil, errors.New("this needs a terminal on standard input and output: for scripts there is `ecolink instance exec`")
	}
	return in, out, nil
}

// windowSize gives a size that the server takes, whatever the terminal says of itself.
func windowSize(out *os.File) (cols, rows uint16) {
	const most = 4096
	c, r, err := term.GetSize(int(out.Fd()))
	if err != nil || c < 1 || r < 1 {
		return 80, 24
	}
	return uint16(min(c, most)), uint16(min(r, most))
}

// resetScreen undoes what full-screen programs switch on, for when one of them is
// left running: other screen, mouse, bracketed paste, hidden cursor, keypad,
// colours. It moves no cursor.
const resetScreen = "\x1b[?1047l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m"

// enter connects and gives the keyboard to the shell. However it ends, signals
// included, the user's terminal is as it was before.
func enter(ctx context.Context, in, out *os.File, stderr io.Writer, i instance, dial func(context.Context, int64) (agent.Terminal, error)) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM, os.Interrupt)
	defer stop()
	t, err := firstDial(ctx, dial)
	if err != nil {
		return refusedBySocket(err)
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		_ = t.Close()
		return fmt.Errorf("switch the terminal to raw input: %w", err)
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	typed := make(chan []byte, 64)
	go readKeys(ctx, in, typed, leave) // ends with the process: a read of a terminal can't be called off
	a := &attachment{
		dial: dial, size: func() (uint16, uint16) { return windowSize(out) },
		resized: resized, typed: typed, out: out, notice: &notice{w: stderr},
	}
	err = func() error {
		defer func() {
			_ = term.Restore(int(in.Fd()), before)
			fmt.Fprint(out, resetScreen)
		}()
		return a.run(ctx, t)
	}()
	if err != nil { // the shell was left in the middle of a line
		fmt.Fprintln(out)
	}
	switch {
	case err == nil:
		fmt.Fprintf(stderr, "\nthe shell of %v has ended\n", i)
		return nil
	case errors.Is(err, errLeft):
		fmt.Fprintf(stderr, "left %v; the shell lives on: `ecolink instance terminal %s` comes back\n", i, i.Name)
		return nil
	case ctx.Err() != nil: // a signal
		return interrupted
	case errors.Is(err, errGaveUp):
		return fmt.Errorf("%w; the shell lives on: try `ecolink instance terminal %s` later", err, i.Name)
	}
	return err
}

// firstDial tries twice, as every call that may be repeated.
func firstDial(ctx context.Context, dial func(context.Context, int64) (agent.Terminal, error)) (agent.Terminal, error) {
	t, err := dial(ctx, -1)
	if err == nil || errors.As(refusedBySocket(err), new(*apiError)) || pause(ctx, retryPause) != nil {
		return t, err
	}
	return dial(ctx, -1)
}

// readKeys hands on what is typed, until the keys that leave come or there is no
// more keyboard.
func readKeys(ctx context.Context, in io.Reader, typed chan<- []byte, leave context.CancelCauseFunc) {
	var d detacher
	replayed := time.Now().Add(replayTime)
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		pressed := buf[:n]
		if time.Now().Before(replayed) {
			pressed = withoutAnswers(pressed)
		}
		keys, left := d.filter(pressed)
		if len(keys) > 0 {
			select {
			case typed <- keys:
			case <-ctx.Done():
				return
			}
		}
		if left || err != nil {
			leave(errLeft)
			return
		}
	}
}
