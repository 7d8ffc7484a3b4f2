package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
)

// pieceOf is a piece of input that can be told from any other.
func pieceOf(client, number byte, n int) []byte {
	p := bytes.Repeat([]byte{'a' + client}, n)
	p[0], p[n-1] = '<', '>'
	p[1] = '0' + number
	return p
}

func TestInputIsNotDivided(t *testing.T) {
	const clients, pieces, size = 5, 8, 3000 // more than a PTY holds
	term := newTerminal(t, minScrollbackBytes)
	var typing sync.WaitGroup
	for i := range clients {
		c := term.attach(FromNow)
		typing.Go(func() {
			for n := range pieces {
				if _, err := c.Write(pieceOf(byte(i), byte(n), size)); err != nil {
					t.Errorf("type: %v", err)
				}
			}
		})
	}
	typing.Wait() // all of it is in the PTY or in sockets now
	var next [clients]byte
	for range clients * pieces {
		p := term.typed(size)
		i := p[2] - 'a'
		if i >= clients || !bytes.Equal(p, pieceOf(i, next[i], size)) {
			t.Fatalf("a piece is divided or out of order: %.20q…%q", p, p[size-20:])
		}
		next[i]++
	}
}

func TestALongPasteArrivesWhole(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	c := term.attach(FromNow)
	paste := pattern(0, 1<<20)
	go func() { _, _ = c.Write(paste) }()
	if got := term.typed(len(paste)); !bytes.Equal(got, paste) {
		t.Fatal("the paste did not arrive as it was")
	}
}

func TestInputMayComeWithTheFirstLine(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	term.raw("ATTACH -2 0 0\ni\x00\x00\x03ls\n")
	if got := term.typed(3); string(got) != "ls\n" {
		t.Fatalf("typed %q", got)
	}
}

func TestTypingWaitsForTheProgramButNotForEver(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	c := term.attach(FromNow)
	_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := c.Write(make([]byte, 4<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("typed %d bytes: %v", n, err)
	}
	term.printAll(100) // output goes on meanwhile
	mustRead(t, c, 100)
	if got := term.typed(n); len(got) != n {
		t.Fatalf("%d bytes arrived", len(got))
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	rows := map[string]string{
		"GET / HTTP/1.1\r\n":                       "ERR the first line must be ATTACH <offset> <cols> <rows>, ADOPT <pid> <cols> <rows> or STATUS\n",
		"ATTACH -4 80 24\n":                        "ERR the offset must be a byte number, -1, -2 or -3\n",
		"ADOPT 1 80 24\n":                          "ERR it has its shell already\n",
		"ATTACH " + strings.Repeat("1", lineBytes): "ERR the first line is too long\n",
	}
	for sent, want := range rows {
		answer, err := io.ReadAll(term.raw(sent))
		if string(answer) != want || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%.20q: got %q, %v", sent, answer, err)
		}
	}
	if _, err := Dial(t.Context(), term.config.Dir, -4, Window{}); err == nil || !strings.Contains(err.Error(), "the terminal's host refuses: the offset") {
		t.Errorf("got %v", err)
	}
}

func TestOnlySoManyClientsAreTaken(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	var clients []*Conn
	for range maxClients {
		clients = append(clients, term.attach(FromNow))
	}
	for range 50 { // the host may hang up before, while or after we send our line
		_, err := Dial(t.Context(), term.config.Dir, FromNow, Window{})
		if err == nil || errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "64 clients are attached already") {
			t.Fatalf("one more client: %v", err)
		}
	}
	_ = clients[7].Close()
	term.mustTakeOneMore()
	term.print(10)
	for i, c := range clients {
		if i != 7 {
			mustRead(t, c, 10)
		}
	}
}

func (term *terminal) mustTakeOneMore() {
	term.t.Helper()
	eventually(term.t, "one more client is taken", func() bool {
		c, err := Dial(term.t.Context(), term.config.Dir, FromNow, Window{})
		if err == nil {
			_, _ = c.Leave(), c.Close()
		}
		return err == nil
	})
}

// TestClientsThatLeaveFreeTheirPlaces fills all places with clients of one kind
// that then leave.
func TestClientsThatLeaveFreeTheirPlaces(t *testing.T) {
	kinds := map[string]struct {
		before, leave func(*terminal, *net.UnixConn)
	}{
		"half-closed": {
			leave: func(_ *terminal, c *net.UnixConn) { _ = c.CloseWrite() },
		},
		"half-closed without reading": {
			before: func(term *terminal, _ *net.UnixConn) { term.print(16 << 10) },
			leave:  func(_ *terminal, c *net.UnixConn) { _ = c.CloseWrite() },
		},
		"closed behind a program that does not read": {
			before: func(_ *terminal, c *net.UnixConn) {
				p := make([]byte, frameHead+5<<10)
				putHead(p, frameInput, 5<<10)
				_, _ = c.Write(p)
			},
			leave: func(_ *terminal, c *net.UnixConn) { _ = c.Close() },
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			term := newTerminal(t, 1<<20)
			var clients []*net.UnixConn
			for range maxClients {
				c := term.raw("ATTACH 0 0 0\n")
				if _, _, err := readAnswer(c); err != nil {
					t.Fatal(err)
				}
				clients = append(clients, c)
			}
			for _, c := range clients {
				if kind.before != nil {
					kind.before(term, c)
				}
			}
			if kind.before != nil {
				time.Sleep(100 * time.Millisecond) // let the host come to stand
			}
			for _, c := range clients {
				kind.leave(term, c)
			}
			term.mustTakeOneMore()
		})
	}
}

func TestAHostThatWasKilledIsToldFromASlowClient(t *testing.T) {
	config := newConfig(t, minScrollbackBytes)
	host := keepertest.Start(t, config.Args())
	screen := beShell(t, config.Dir, host.Stdout)
	defer screen.Close()
	c := attach(t, config.Dir, FromOldest)
	if _, err := screen.Write(pattern(0, 100)); err != nil {
		t.Fatal(err)
	}
	mustRead(t, c, 100)
	host.Kill()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("got %d, %v, want io.EOF", n, err)
	}
	if _, err := c.Write([]byte("x")); err != io.EOF {
		t.Fatalf("typing: %v, want io.EOF", err)
	}
	if _, err := Dial(t.Context(), config.Dir, c.Offset(), Window{}); !errors.Is(err, ErrEnded) {
		t.Fatalf("attach again: %v, want ErrEnded", err)
	}
	if last, from, err := Scrollback(config.Dir, 1<<20); err != nil || from != 0 || !bytes.Equal(last, pattern(0, 100)) {
		t.Fatalf("what it printed last: %d bytes from %d, %v", len(last), from, err)
	}
	// Another terminal in the same folder begins afresh.
	term := startTerminal(t, config)
	term.print(3)
	mustRead(t, term.attach(0), 3)
}

func TestATerminalThatCannotBeginLeavesTheReason(t *testing.T) {
	broken := map[string]struct {
		config func(*Config)
		ready  error
		said   string // by the shell
		reason string
	}{
		"no folder":         {func(c *Config) { c.Dir += "x" }, nil, "", "no such file"},
		"a shim that died":  {func(*Config) {}, errors.New("tell the shim:\nbroken pipe"), "", "tell the shim: broken pipe"},
		"a shell that died": {func(*Config) {}, nil, "", "the shell did not begin: unexpected EOF"},
		"no PTY":            {func(*Config) {}, nil, "make a PTY: no such device\n", "the shell did not begin: make a PTY: no such device"},
	}
	for name, row := range broken {
		t.Run(name, func(t *testing.T) {
			config := newConfig(t, minScrollbackBytes)
			row.config(&config)
			announce, say, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(say, row.said)
			_ = say.Close()
			t.Cleanup(func() { _ = announce.Close() })
			if err := Serve(t.Context(), config, announce, func() error { return row.ready }); err == nil {
				t.Fatal("no error")
			}
			if name == "no folder" {
				return // nor a mark
			}
			total, reason, ended := Ended(config.Dir)
			if !ended || total != 0 || !strings.Contains(reason, row.reason) {
				t.Fatalf("the mark says %d, %q, %v", total, reason, ended)
			}
			if _, err := Dial(t.Context(), config.Dir, 0, Window{}); !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), row.reason) {
				t.Fatalf("attach: %v", err)
			}
		})
	}
}

func TestDialHonoursItsContext(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, socketName)) // never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, dir, 0, Window{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestAConnOutlivesTheContextOfItsDial(t *testing.T) {
	term := newTerminal(t, minScrollbackBytes)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(ctx, term.config.Dir, 0, Window{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cancel()
	time.Sleep(20 * time.Millisecond)
	term.print(10)
	mustRead(t, c, 10)
}

func TestAnUnreadableEndMarkIsAnEnd(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{"": "the end mark is unreadable", "x\n": "the end mark is unreadable", "7\n": "", "7": "", "7\nwhy\n": "why"} {
		if err := os.WriteFile(filepath.Join(dir, endedName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, reason, ended := Ended(dir); !ended || reason != want {
			t.Errorf("%q: %q, %v", text, reason, ended)
		}
	}
}
