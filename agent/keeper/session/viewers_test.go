package session

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// size is the PTY's window, as its program sees it.
func (term *terminal) size() (w Window) {
	raw, err := term.screen.SyscallConn()
	if err != nil {
		term.t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if s, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil {
			w = Window{s.Col, s.Row}
		}
	})
	return w
}

func (term *terminal) mustHave(w Window) {
	term.t.Helper()
	eventually(term.t, fmt.Sprintf("the window is %v", w), func() bool { return term.size() == w })
}

func (term *terminal) attachIn(w Window) *Conn {
	term.t.Helper()
	c, err := Dial(term.t.Context(), term.config.Dir, FromNow, w)
	if err != nil {
		term.t.Fatal(err)
	}
	term.t.Cleanup(func() { _ = c.Close() })
	go func() { // news come only while somebody reads
		for p := make([]byte, 1024); ; {
			if _, err := c.Read(p); err != nil {
				return
			}
		}
	}()
	return c
}

func TestTheWindowIsTheNewestViewers(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	term.mustHave(Window{80, 24})
	small, large := Window{60, 20}, Window{200, 50}
	a := term.attachIn(small)
	term.mustHave(small)
	b := term.attachIn(large)
	term.mustHave(large)
	if got := <-a.Windows(); got != large {
		t.Fatalf("the other is told %v", got)
	}
	if _, err := a.Write([]byte("x")); err != nil { // who types has it
		t.Fatal(err)
	}
	term.mustHave(small)
	if got := <-b.Windows(); got != small {
		t.Fatalf("the other is told %v", got)
	}
	if err := b.Resize(Window{100, 40}); err != nil {
		t.Fatal(err)
	}
	term.mustHave(Window{100, 40})
	term.attachIn(Window{}) // of no concern
	_ = b.Close()
	term.mustHave(small)
	_ = a.Close()
	time.Sleep(50 * time.Millisecond)
	term.mustHave(small) // nobody is there, and it stays
}

func TestAPasteThatIsCutOffIsEnded(t *testing.T) {
	for name, row := range map[string]struct {
		asked string
		paste string
		want  string
	}{
		"in the middle":             {"\x1b[?2004h", pasteBegin + "rm -rf", pasteBegin + "rm -rf" + pasteEnd + "."},
		"whole":                     {"\x1b[?2004h", pasteBegin + "ls" + pasteEnd, pasteBegin + "ls" + pasteEnd + "."},
		"of a program that has not": {"\x1b[?2004h\x1b[?2004l", pasteBegin + "ls", pasteBegin + "ls."},
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t, minScrollbackBytes)
			if _, err := term.screen.WriteString(row.asked); err != nil {
				t.Fatal(err)
			}
			c := term.attach(0)
			if _, err := c.Read(make([]byte, len(row.asked))); err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{row.paste[:3], row.paste[3:]} {
				if _, err := c.Write([]byte(part)); err != nil {
					t.Fatal(err)
				}
			}
			got := term.typed(len(row.paste))
			_ = c.Close()
			term.mustTakeOneMore()
			time.Sleep(100 * time.Millisecond)
			other := term.attach(FromNow)
			if _, err := other.Write([]byte(".")); err != nil {
				t.Fatal(err)
			}
			got = append(got, term.typed(len(row.want)-len(row.paste))...)
			if string(got) != row.want {
				t.Fatalf("typed %q, want %q", got, row.want)
			}
		})
	}
}

// TestTheTrackerDoesNotMindHowOutputIsCut holds that places and modes do not depend
// on the pieces in which output comes.
func TestTheTrackerDoesNotMindHowOutputIsCut(t *testing.T) {
	words := []string{"text", "\n", "\r\n", "ünï→", "\x1b[1;31m", "\x1b[0m", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[38;5;208;48;2;1;2;3m",
		"\x1b]0;title\x07", "\x1b]8;;x\x1b\\", "\x1b(0", "\x1b(B", "\x0e", "\x0f", "\x1b[2;5r", "\x1b=", "\x1bc", "\x1b[!p", "\x1bP$q\x1b\\", "\x1b", "\x1b[", "\x18", strings.Repeat("long ", 4000)}
	rapid.Check(t, func(t *rapid.T) {
		all := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 60).Draw(t, "words"), ""))
		whole, cut := newTracker(), newTracker()
		whole.scan(all)
		for p := all; len(p) > 0; {
			n := rapid.IntRange(1, len(p)).Draw(t, "piece")
			cut.scan(p[:n])
			p = p[n:]
		}
		if whole.modes != cut.modes || whole.state != cut.state || whole.whole() != cut.whole() || whole.full != cut.full || whole.at != int64(len(all)) {
			t.Fatalf("at once %+v, in pieces %+v", whole, cut)
		}
		// A place is after a line's end or the beginning, and its prologue brings an
		// empty terminal's modes to what they are there.
		for _, c := range append(whole.checks, check{at: whole.at, modes: whole.modes}) {
			if c.at > 0 && c.at < whole.at && all[c.at-1] != '\n' {
				t.Fatalf("a place at %d, after %q", c.at, all[c.at-1])
			}
			again := newTracker()
			again.scan(c.modes.prologue(nil))
			if again.modes != c.modes || again.state != ground {
				t.Fatalf("the prologue %q makes %+v of %+v", c.modes.prologue(nil), again.modes, c.modes)
			}
		}
	})
}

// FuzzTracker holds that no output makes it fail or leave its bounds.
func FuzzTracker(f *testing.F) {
	f.Add([]byte("\x1b[?1049h\x1b[1;1H\x1b[38;5;1mx\x1b(0\x1b]0;t\x07"))
	f.Fuzz(func(t *testing.T, p []byte) {
		tr := newTracker()
		tr.scan(p)
		c, history, _ := tr.start(0, 1<<20)
		if c.at < 0 || c.at > int64(len(p)) || history < 0 || len(c.modes.prologue(nil)) > 4<<10 || tr.at != int64(len(p)) {
			t.Fatalf("begins at %d of %d, history %d", c.at, len(p), history)
		}
		if bytes.Count(p, []byte("\n")) == 0 && len(tr.checks) != 1 {
			t.Fatalf("%d places without a line", len(tr.checks))
		}
	})
}
