package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"ecolink/agent/keeper/session"
)

// Limits of a session.
const (
	// scrollbackBytes is what a session keeps in memory for who comes back.
	scrollbackBytes = 256 << 10
	// maxSessions bounds the terminals of one container; each costs about a
	// megabyte.
	maxSessions = 32
	defaultCols = 80
	defaultRows = 24
	maxSide     = 2000 // columns or rows of a window
)

// Launch is what a shell needs to be started.
type Launch struct {
	Stdin      string            // FIFO that its input is read from
	Host       map[string]string // arguments of the keeper that takes its output
	Cols, Rows uint16
}

// Shells starts shells inside containers.
type Shells interface {
	StartShell(ctx context.Context, container, name string, l Launch) error
	Resize(ctx context.Context, container, name string, cols, rows uint16) error
	// EndProcess ends and forgets a shell; one that is not there is fine.
	EndProcess(ctx context.Context, container, name string) error
}

// ErrTooMany is returned when a container has all the sessions that it may have.
var ErrTooMany = fmt.Errorf("%d terminal sessions are open, the most there can be: close one by leaving its shell with exit", maxSessions)

// Sessions are the terminals of this machine, in one folder.
type Sessions struct {
	dir    string
	shells Shells

	mu    sync.Mutex
	turns map[string]*turn // by folder of the session that is being started
}

// turn is held while a session is looked for and started, so that two viewers
// who come at once get one shell.
type turn struct {
	sync.Mutex
	waiting int
}

// New keeps sessions below dir, which a reboot may clear: no session outlives one.
func New(dir string, shells Shells) *Sessions {
	return &Sessions{dir: dir, shells: shells, turns: map[string]*turn{}}
}

// Terminal is an attachment to a session; see agent.Terminal.
type Terminal struct {
	*session.Conn
	resize func(ctx context.Context, cols, rows uint16) error
}

// Resize sets the window of the session.
func (t *Terminal) Resize(ctx context.Context, cols, rows uint16) error {
	return t.resize(ctx, cols, rows)
}

// Attach attaches to the named session of a container, from the byte number
// `from` on (below zero: all that is kept), and starts it when it is not there
// or has ended. A window of zero size is 80 by 24 for a new session and leaves
// an old one as it is.
//
// A session that has ended since byte `from` of it was seen is ErrEnded and not a
// new shell: who comes back must learn of the end first, and asks again with from
// below zero.
func (s *Sessions) Attach(ctx context.Context, container, name string, from int64, cols, rows uint16) (*Terminal, error) {
	cols, rows = min(cols, maxSide), min(rows, maxSide)
	dir := filepath.Join(s.dir, container, name)
	defer s.take(dir)()
	conn, err := session.Dial(ctx, dir, from)
	switch {
	case errors.Is(err, session.ErrEnded) && from >= 0:
		return nil, err
	case errors.Is(err, session.ErrEnded):
		if err := s.start(ctx, container, name, dir, cols, rows); err != nil {
			return nil, err
		}
		conn, err = session.Dial(ctx, dir, from)
	}
	if err != nil {
		return nil, fmt.Errorf("terminal %s of %s: %w", name, container, err)
	}
	t := &Terminal{Conn: conn, resize: func(ctx context.Context, cols, rows uint16) error {
		return s.shells.Resize(ctx, container, process(name), min(cols, maxSide), min(rows, maxSide))
	}}
	if cols > 0 && rows > 0 {
		if err := t.Resize(ctx, cols, rows); err != nil && ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), conn.Close())
		}
		// A shell that has just ended can't be resized; reading tells.
	}
	return t, nil
}

// start makes a new shell in place of what an earlier one left.
func (s *Sessions) start(ctx context.Context, container, name, dir string, cols, rows uint16) error {
	if err := s.shells.EndProcess(ctx, container, process(name)); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if others, err := os.ReadDir(filepath.Dir(dir)); err == nil && len(others) >= maxSessions {
		if err := s.sweep(filepath.Dir(dir)); err != nil {
			return err
		}
		if others, err = os.ReadDir(filepath.Dir(dir)); err == nil && len(others) >= maxSessions {
			return ErrTooMany
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	stdin := filepath.Join(dir, "stdin")
	if err := unix.Mkfifo(stdin, 0o600); err != nil {
		return errors.Join(fmt.Errorf("make %s: %w", stdin, err), os.RemoveAll(dir))
	}
	if cols == 0 || rows == 0 {
		cols, rows = defaultCols, defaultRows
	}
	host := session.Config{Dir: dir, Stdin: stdin, ScrollbackBytes: scrollbackBytes}
	err := s.shells.StartShell(ctx, container, process(name), Launch{Stdin: stdin, Host: host.Args(), Cols: cols, Rows: rows})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

// sweep forgets the sessions of a container that have ended.
func (s *Sessions) sweep(dir string) error {
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		path := filepath.Join(dir, e.Name())
		if _, _, ended := session.Ended(path); ended {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// Containers names every container that has a folder.
func (s *Sessions) Containers() (names []string, err error) {
	all, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names, nil
}

// Forget removes the folders of a container that is gone.
func (s *Sessions) Forget(container string) error {
	return os.RemoveAll(filepath.Join(s.dir, container))
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
