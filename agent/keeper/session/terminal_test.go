package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/keeper/keepertest"
)

func TestMain(m *testing.M) { os.Exit(keepertest.Main(m)) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// terminal is a host with the test as its shim: it prints through a pipe and
// reads the keyboard from the FIFO.
type terminal struct {
	t        *testing.T
	config   Config
	screen   *os.File // what is written here, the terminal prints
	keyboard *os.File // what clients type comes from here
	printed  int64
	stop     context.CancelFunc
	done     chan error // Serve's return
}

// newConfig makes a folder and a FIFO.
func newConfig(t *testing.T, scrollbackBytes int) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{Dir: filepath.Join(dir, "t"), Stdin: filepath.Join(dir, "stdin"), ScrollbackBytes: scrollbackBytes}
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(c.Stdin, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func newTerminal(t *testing.T, scrollbackBytes int) *terminal {
	t.Helper()
	return startTerminal(t, newConfig(t, scrollbackBytes))
}

func startTerminal(t *testing.T, config Config) *terminal {
	t.Helper()
	output, screen, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	keyboard, err := os.OpenFile(config.Stdin, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	term := &terminal{t: t, config: config, screen: screen, keyboard: keyboard, stop: stop, done: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		defer close(term.done)
		term.done <- Serve(ctx, config, output, func() error { close(ready); return nil })
	}()
	t.Cleanup(func() {
		_ = screen.Close()
		for range term.done {
		}
		_, _ = output.Close(), keyboard.Close()
		stop()
	})
	select {
	case <-ready:
	case err := <-term.done:
		t.Fatalf("Serve: %v", err)
	}
	return term
}

// print prints the next n bytes of the pattern.
func (term *terminal) print(n int) {
	term.t.Helper()
	if _, err := term.screen.Write(pattern(term.printed, n)); err != nil {
		term.t.Fatal(err)
	}
	term.printed += int64(n)
}

// printAll is print that returns when the host has taken everything: an attach
// at FromNow then begins behind it.
func (term *terminal) printAll(n int) {
	term.t.Helper()
	term.print(n)
	eventually(term.t, "the host has taken all", func() bool {
		c := term.attach(FromNow)
		defer c.Close()
		return c.Start() == term.printed
	})
}

func (term *terminal) attach(from int64) *Conn {
	term.t.Helper()
	return attach(term.t, term.config.Dir, from)
}

func attach(t *testing.T, dir string, from int64) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), dir, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	return c
}

// exit is the end of the terminal's program; it waits for the host.
func (term *terminal) exit() {
	term.t.Helper()
	_ = term.screen.Close()
	select {
	case err := <-term.done:
		if err != nil {
			term.t.Fatalf("Serve: %v", err)
		}
	case <-time.After(patience):
		term.t.Fatal("the host does not end")
	}
}

// typed reads n bytes from the keyboard.
func (term *terminal) typed(n int) []byte {
	term.t.Helper()
	p := make([]byte, n)
	_ = term.keyboard.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadFull(term.keyboard, p); err != nil {
		term.t.Fatalf("typed %d of %d bytes: %v", got, n, err)
	}
	return p
}

// raw is a client that speaks the protocol by hand.
func (term *terminal) raw(firstLine string) *net.UnixConn {
	term.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(term.config.Dir, socketName))
	if err != nil {
		term.t.Fatal(err)
	}
	term.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, firstLine); err != nil {
		term.t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

// mustRead reads the pattern's bytes [c.Offset(), to).
func mustRead(t *testing.T, c *Conn, to int64) {
	t.Helper()
	from := c.Offset()
	p := make([]byte, to-from)
	if n, err := io.ReadFull(c, p); err != nil {
		t.Fatalf("read %d of %d bytes from %d: %v", n, len(p), from, err)
	}
	if !bytes.Equal(p, pattern(from, len(p))) {
		t.Fatalf("bytes %d to %d are not what was printed", from, to)
	}
	if c.Offset() != to {
		t.Fatalf("offset %d after reading to %d", c.Offset(), to)
	}
}

func mustEnd(t *testing.T, c *Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, ErrEnded) {
		t.Fatalf("at the end: %d bytes, %v; want ErrEnded", n, err)
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}
