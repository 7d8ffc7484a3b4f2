package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ecolink/agent/keeper/session"
)

// Limits of a session.
const (
	// scrollbackBytes is what a session keeps on the disk for who comes back; a
	// terminal that prints little takes little of it. Half a minute of a flood of
	// some hundred KB/s fits, so that a viewer who was cut off loses none of it and
	// holds nothing up.
	scrollbackBytes = 8 << 20
	// maxSessions bounds the terminals of one container; each costs about a
	// megabyte.
	maxSessions = 32
	// maxPresses bounds the keys of all terminals that are typed at the same moment
	// without their hosts.
	maxPresses = 64
	// idleTime is how long a shell sits at its prompt, with nobody there and
	// nothing that it has started, until it counts as forgotten. A job is never
	// ended.
	idleTime = 7 * 24 * time.Hour
	// endedTime is how long what a session printed is kept after its end.
	endedTime   = 24 * time.Hour
	defaultCols = 80
	defaultRows = 24
	maxSide     = 2000 // columns or rows of a window
)

// Shells starts shells inside containers.
type Shells interface {
	// StartShell starts a shell that waits for its host, which is started with
	// these arguments, and gives its process id.
	StartShell(ctx context.Context, container, name string, host map[string]string) (pid int, err error)
	// EndProcess ends and forgets a shell; one that is not there is fine.
	EndProcess(ctx context.Context, container, name string) error
	// ExitCode is how a shell has ended, unless it is not known any more.
	ExitCode(ctx context.Context, container, name string) (code int, known bool)
}

// ErrTooMany is returned when a container has all the sessions that it may have.
var ErrTooMany = fmt.Errorf("%d terminal sessions are open, the most there can be: close one by leaving its shell with exit", maxSessions)

// Sessions are the terminals of this machine, in one folder.
type Sessions struct {
	dir     string
	shells  Shells
	presses chan struct{} // see session.Conn.BoundPresses

	mu    sync.Mutex
	turns map[string]*turn // by folder of the session that is being started
}

// turn is held while a session is looked for and started, so that two viewers
// who come at once get one shell.
type turn struct {
	sync.Mutex
	waiting int
}

// New keeps sessions below dir, on a disk: what they print is in it.
func New(dir string, shells Shells) *Sessions {
	return &Sessions{dir: dir, shells: shells, presses: make(chan struct{}, maxPresses), turns: map[string]*turn{}}
}

// Terminal is an attachment to a session; see agent.Terminal.
type Terminal struct{ *session.Conn }

// Resize tells the window of this viewer.
func (t *Terminal) Resize(_ context.Context, cols, rows uint16) error {
	return t.Conn.Resize(window(cols, rows))
}

// Leave is Close by a viewer who does not come back at once.
func (t *Terminal) Leave() error {
	_ = t.Conn.Leave() // it is closed all the same
	return t.Close()
}

// Ended is the rest of a session that has ended while its viewer was away.
type Ended struct {
	start int64
	rest  []byte
	why   error
}

// Start, Prologue and the others are agent.Terminal's.
func (e *Ended) Start() int64                                 { return e.start }
func (e *Ended) Prologue() []byte                             { return nil }
func (e *Ended) Write([]byte) (int, error)                    { return 0, e.why }
func (e *Ended) Resize(context.Context, uint16, uint16) error { return nil }
func (e *Ended) Windows() <-chan session.Window               { return nil }
func (e *Ended) Leave() error                                 { return nil }
func (e *Ended) Close() error                                 { return nil }

// Read gives what the viewer has missed, and then the end.
func (e *Ended) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		return 0, e.why
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func window(cols, rows uint16) session.Window {
	return session.Window{Cols: min(cols, maxSide), Rows: min(rows, maxSide)}
}

// Attach attaches to the named session of a container, from the byte number
// `from` on (below zero: what an empty screen needs), and starts it when it is not
// there or has ended. A window of zero size is 80 by 24 for a new session and
// leaves an old one as it is.
//
// A session that has ended since byte `from` of it was seen gives the rest and the
// end, as far as its disk has it, and no new shell: who comes back must learn of
// the end first, and asks again with from below zero.
func (s *Sessions) Attach(ctx context.Context, container, name string, from int64, cols, rows uint16) (*Terminal, error) {
	dir := filepath.Join(s.dir, container, name)
	defer s.take(dir)()
	asked := from
	if from < 0 {
		asked = session.FromScreen
	}
	w := window(cols, rows)
	conn, err := session.Dial(ctx, dir, asked, w)
	switch {
	case errors.Is(err, session.ErrEnded) && from >= 0:
		return nil, err
	case errors.Is(err, session.ErrEnded):
		if err := s.start(ctx, container, name, dir, w); err != nil {
			return nil, err
		}
		conn, err = session.Dial(ctx, dir, asked, w)
	}
	if err != nil {
		return nil, fmt.Errorf("terminal %s of %s: %w", name, container, err)
	}
	conn.BoundPresses(s.presses)
	return &Terminal{conn}, nil
}

// Rest is what a session that has ended printed from a byte on. It is never nil.
func (s *Sessions) Rest(container, name string, from int64) *Ended {
	e := &Ended{start: from, why: session.ErrEnded}
	all, first, err := session.Scrollback(filepath.Join(s.dir, container, name), scrollbackBytes)
	if err != nil {
		return e // there is nothing to show, and the end is news enough
	}
	if from < first || from > first+int64(len(all)) {
		e.start = first
	}
	e.rest = all[e.start-first:]
	return e
}

// start makes a new shell in place of what an earlier one left.
func (s *Sessions) start(ctx context.Context, container, name, dir string, w session.Window) error {
	if err := s.shells.EndProcess(ctx, container, process(name)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := s.sweep(ctx, container); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if w.Cols == 0 || w.Rows == 0 {
		w = session.Window{Cols: defaultCols, Rows: defaultRows}
	}
	host := session.Config{Dir: dir, ScrollbackBytes: scrollbackBytes, IdleSeconds: int(idleTime.Seconds())}
	pid, err := s.shells.StartShell(ctx, container, process(name), host.Args())
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	// It has begun, and does not stop halfway; see StartShell.
	if err := session.Adopt(context.WithoutCancel(ctx), dir, pid, w); err != nil {
		ended := s.shells.EndProcess(context.WithoutCancel(ctx), container, process(name))
		return errors.Join(fmt.Errorf("terminal %s of %s: %w", name, container, err), ended, os.RemoveAll(dir))
	}
	return nil
}

// process is the name of a session's shell among the container's processes.
func process(name string) string { return "terminal-" + name }

// take waits for the session's turn and gives the function that ends it.
func (s *Sessions) take(dir string) (leave func()) {
	s.mu.Lock()
	t := s.turns[dir]
	if t == nil {
		t = &turn{}
		s.turns[dir] = t
	}
	t.waiting++
	s.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(s.turns, dir)
		}
	}
}
