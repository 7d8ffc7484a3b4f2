package agent

import (
	"context"
	"io"
	"net"
	"syscall"

	"ecolink/agent/runtime"
)

// SFTPServer is the program that serves the files of a workload over its standard
// input and output; see cmd/ecolink-sftp.
const SFTPServer = runtime.SFTPPath

// Program is a process to run inside a workload beside its first: as root, with
// the workload's environment.
type Program struct {
	Argv []string // the program and its arguments; empty: Line is run by the image's shell
	Line string   // empty: the shell reads commands from its input
	Env  []string // NAME=value, added to the workload's
	// Cols and Rows are the window of the PTY that it has; 0 for none. With one, all
	// that it writes comes out of Stdout.
	Cols, Rows     uint16
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Process is a program that runs. Its methods may be called from any goroutine;
// none may be called after Close.
type Process interface {
	// Wait waits for the program's end, and until all that it wrote has been passed
	// on. It gives the exit code, as a shell does: 128 and more for a signal. It is
	// called once.
	Wait(ctx context.Context) (code int, err error)
	Signal(ctx context.Context, s syscall.Signal) error
	// Resize sets the window of its PTY.
	Resize(ctx context.Context, cols, rows uint16) error
	// Close hangs up: a program that still runs gets SIGHUP, and SIGKILL soon after.
	// The program's own children live as long as they like.
	Close() error
}

// Start starts a program in a running workload. The caller closes the process.
func (b *Box) Start(ctx context.Context, id string, p Program) (Process, error) {
	run, err := b.runtime.StartProgram(ctx, id, runtime.Program(p))
	if err != nil {
		return nil, err
	}
	return run, nil
}

// Listen listens on an address inside the workload's network: on its loopback when
// the address names localhost, on all of its addresses when it names no host.
func (b *Box) Listen(ctx context.Context, id, address string) (net.Listener, error) {
	return b.network.Listen(ctx, id, address)
}

// Sessions tells of the terminal sessions of a workload that have not ended, by name.
func (b *Box) Sessions(ctx context.Context, id string) ([]TerminalSession, error) {
	return b.terminals.List(ctx, id)
}

// EndSession ends a terminal session and what its shell has started on it; found is
// false when there is none.
func (b *Box) EndSession(ctx context.Context, id, session string) (found bool, err error) {
	return b.terminals.End(ctx, id, session)
}

// SessionExit is how the shell of a session that has ended did so: its exit code,
// unless that is not known any more.
func (b *Box) SessionExit(ctx context.Context, id, session string) (code int, known bool) {
	return b.terminals.ExitCode(ctx, id, session)
}
