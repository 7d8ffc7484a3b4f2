package session

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hinshun/vt10x"

	"ecolink/agent/keeper/keepertest"
)

// screenOf is a viewer with a terminal emulator of its own.
type screenOf struct {
	conn *Conn
	term vt10x.Terminal

	mu   sync.Mutex
	last time.Time // when output last came
	err  error
	done chan struct{}
}

var theWindow = Window{Cols: 90, Rows: 30}

// watch attaches a viewer; one that comes back brings its emulator along.
func watch(t *testing.T, dir string, from int64, term vt10x.Terminal) *screenOf {
	t.Helper()
	c, err := Dial(t.Context(), dir, from, theWindow)
	if err != nil {
		t.Fatal(err)
	}
	if term == nil {
		term = vt10x.New(vt10x.WithSize(int(theWindow.Cols), int(theWindow.Rows)), vt10x.WithWriter(io.Discard))
		_, _ = term.Write(c.Prologue())
	} else if c.Start() != from {
		t.Fatalf("it goes on at %d, not at %d", c.Start(), from)
	}
	s := &screenOf{conn: c, term: term, last: time.Now(), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 32<<10)
		for {
			n, err := c.Read(buf)
			_, _ = term.Write(buf[:n])
			s.mu.Lock()
			s.last, s.err = time.Now(), err
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { s.leave() })
	return s
}

func (s *screenOf) leave() {
	_ = s.conn.Close()
	<-s.done
}

func (s *screenOf) quiet(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.last) > d
}

// text is what the screen shows, its cursor and whether that is hidden.
func (s *screenOf) text() string {
	s.term.Lock()
	defer s.term.Unlock()
	var b, colours strings.Builder
	cols, rows := s.term.Size()
	for y := range rows {
		for x := range cols {
			g := s.term.Cell(x, y)
			if g.Char < ' ' {
				g.Char = ' '
			}
			b.WriteRune(g.Char)
			fmt.Fprintf(&colours, " %x,%x", g.FG, g.BG)
		}
		b.WriteByte('\n')
	}
	cursor := s.term.Cursor()
	fmt.Fprintf(&b, "cursor %d,%d %v, colours %x", cursor.X, cursor.Y, s.term.CursorVisible(), sha256.Sum256([]byte(colours.String())))
	return b.String()
}

// run hosts a program as it would run in a container, under a shell's name.
func run(t *testing.T, a allowance, argv ...string) (config Config) {
	t.Helper()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs %s", argv[0])
		}
		t.Skipf("needs %s", argv[0])
	}
	keeperBinary := keepertest.Binary(t)
	config = newConfig(t, 8<<20)
	announce, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- serve(t.Context(), config, a, announce, func() error { close(ready); return nil })
	}()
	<-ready
	shell := exec.Command(keeperBinary, append([]string{"shell", path}, argv[1:]...)...)
	shell.Stdout = say
	shell.Env = append(os.Environ(), "TERM=xterm-256color", "HOME="+t.TempDir(), "LANG=C.UTF-8", "TMUX_TMPDIR="+t.TempDir())
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
		<-done
		_, _ = announce.Close(), say.Close()
	})
	if err := Adopt(t.Context(), config.Dir, shell.Process.Pid, theWindow); err != nil {
		t.Fatal(err)
	}
	return config
}

func (s *screenOf) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := s.conn.Write([]byte(keys)); err != nil {
		t.Fatal(err)
	}
}

// TestEveryScreenShowsTheSame compares three viewers of real programs: one who was
// there all the time, one who was cut off in the middle and came back, and one who
// comes at the end and has seen nothing.
func TestEveryScreenShowsTheSame(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.go")
	var text strings.Builder
	for n := range 3000 {
		fmt.Fprintf(&text, "func f%d() string { return \"ünï %d\" } // a comment, about → %d\n", n, n, n*n)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := map[string]struct {
		argv  []string
		keys  []string
		shows string
	}{
		"vim":  {[]string{"vim", "-n", "-u", "NONE", "-c", "syntax on", "-c", "set nocompatible showcmd ruler hlsearch laststatus=2", file}, []string{"/comment\r", "\x06", "\x06\x06", "\x02jjjj", ":500\r", "ihello \x1b"}, "hello func f499"},
		"htop": {[]string{"htop", "-d", "100"}, []string{"\x1b[B\x1b[B", "\x1b[B", "\x1b[A"}, "F1Help"},
		"tmux": {[]string{"tmux", "-f", "/dev/null", "new-session", "env PS1='$ ' /bin/sh"}, []string{"echo one\r", "\x02%", "echo two\r", "\x02\"", "seq 1 30\r"}, "30"},
		"sh":   {[]string{"env", "PS1=$ ", "/bin/sh"}, []string{"echo one\r", "printf '\\033[1;31mred'\r", "seq 1 100\r"}, "100"},
	}
	for name, row := range rows {
		for _, much := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/drawn from the start=%v", name, !much), func(t *testing.T) {
				a := usualAllowance
				if much { // what was drawn so far is more than a new viewer gets
					a.screen = 1 << 10
				}
				config := run(t, a, row.argv...)
				always := watch(t, config.Dir, FromScreen, nil)
				eventually(t, "it draws", func() bool { return always.conn.Offset() > 0 && always.quiet(300*time.Millisecond) })
				cut := watch(t, config.Dir, FromScreen, nil)
				for n, keys := range row.keys {
					always.press(t, keys)
					time.Sleep(60 * time.Millisecond)
					if n == len(row.keys)/2 {
						cut.leave()
					}
				}
				eventually(t, "it is quiet", func() bool { return always.quiet(400 * time.Millisecond) })
				back := watch(t, config.Dir, cut.conn.Offset(), cut.term)
				fresh := watch(t, config.Dir, FromScreen, nil)
				same := func() bool {
					shown := always.text()
					return shown == back.text() && shown == fresh.text() && strings.Contains(shown, row.shows)
				}
				for deadline := time.Now().Add(patience / 2); !same(); time.Sleep(50 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("always there:\n%s\ncame back:\n%s\nnew:\n%s", always.text(), back.text(), fresh.text())
					}
				}
			})
		}
	}
}
