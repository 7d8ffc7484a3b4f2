package agent

import (
	"context"
	"io"
	"time"

	"ecolink/agent/keeper/session"
	"ecolink/agent/terminal"
)

// Terminal is an attachment to a shell session that lives on without it. Read
// gives the session's output from Start on; Write types into it. It is read by
// one goroutine and written by one other; Close may come from anywhere.
type Terminal interface {
	io.ReadWriteCloser
	// Start is the absolute offset of the first byte that Read gives.
	Start() int64
	// Resize sets the window of the session, for everybody attached to it.
	Resize(ctx context.Context, cols, rows uint16) error
}

// LogLine is a line of a container's output.
type LogLine struct {
	Time    time.Time
	Stream  string // stdout or stderr
	Text    string // bytes as the container wrote them, without the newline
	Partial bool   // the line goes on in the next one
}

// Stdio is what a command reads and writes. Stdin may be nil: it then reads
// nothing. Each writer is used by one goroutine.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// ErrTerminalEnded is what a Terminal's Read gives, after the last byte, when the
// session has ended with its shell. io.EOF, in contrast, means that this reader
// was too slow and may attach again where it was.
var ErrTerminalEnded = session.ErrEnded

// ErrTooManyTerminals is returned when a workload has the most terminal sessions
// that it may have.
var ErrTooManyTerminals = terminal.ErrTooMany
