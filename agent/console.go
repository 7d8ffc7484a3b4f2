package agent

import (
	"context"
	"io"
	"net"
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
	// Prologue is what an empty screen is sent before the output, to be in the state
	// in which that goes on; it counts as no output, and there may be none.
	Prologue() []byte
	// Resize tells the window of this viewer. The session has that of whoever came,
	// typed or resized last.
	Resize(ctx context.Context, cols, rows uint16) error
	// Windows gives the session's window whenever it becomes another than this
	// viewer's. It may be nil.
	Windows() <-chan TerminalWindow
	// Leave is Close by a viewer who does not mean to come back at once: output
	// that it has not seen holds nobody up then.
	Leave() error
}

// Forwarder is a Terminal whose host can write the output into the viewer's own
// socket; see session.Conn for what its methods ask of the caller. Each echo is then
// spared the way through this process.
type Forwarder interface {
	Terminal
	// Forward asks for that. When Read returns ErrTerminalForwarded it is so.
	Forward(socket *net.TCPConn) error
	// Credit lets the host send output up to a byte number. None comes before.
	Credit(to int64) error
	// Between has the host send a frame between two messages of output. With
	// net.ErrClosed the host has let go of the socket, with another error it may not.
	Between(frame []byte) error
	// Press is Write as far as that need not wait.
	Press(p []byte) (n int)
}

// TerminalWindow is the size of a terminal session.
type TerminalWindow = session.Window

// TerminalSession is a shell session of a workload.
type TerminalSession = terminal.Session

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

// ErrTerminalForwarded is what a Forwarder's Read gives, once, when the output goes
// on in the viewer's socket.
var ErrTerminalForwarded = session.ErrForwarded

// ErrTooManyTerminals is returned when a workload has the most terminal sessions
// that it may have.
var ErrTooManyTerminals = terminal.ErrTooMany
