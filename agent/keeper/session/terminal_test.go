package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// terminal is a host with the test as its shim and its shell: it prints into the
// program's side of a PTY and reads the keyboard from there.
type terminal struct {
	t       *testing.T
	config  Config
	screen  *os.File // the program's side of the PTY
	printed int64
	stop    context.CancelFunc
	done    chan error // Serve's return
}

func newConfig(t *testing.T, scrollbackBytes int) Config {
	t.Helper()
	c := Config{Dir: filepath.Join(t.TempDir(), "t"), ScrollbackBytes: scrollbackBytes}
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
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
	return startPatient(t, config, usualAllowance)
}

func startPatient(t *testing.T, config Config, a allowance) *terminal {
	t.Helper()
	announce, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	term := &terminal{t: t, config: config, stop: stop, done: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		defer close(term.done)
		term.done <- serve(ctx, config, a, announce, func() error { close(ready); return nil })
	}()
	t.Cleanup(func() {
		stop()
		_ = say.Close()
		if term.screen != nil {
			_ = term.screen.Close()
		}
		for range term.done {
		}
		_ = announce.Close()
	})
	select {
	case <-ready:
	case err := <-term.done:
		t.Fatalf("Serve: %v", err)
	}
	term.screen = beShell(t, config.Dir, say)
	return term
}

// beShell does what Shell does, in this process, and returns the program's side.
func beShell(t *testing.T, dir string, say *os.File) *os.File {
	t.Helper()
	master, slave, err := newPTY()
	if err != nil {
		t.Fatal(err)
	}
	termios, err := unix.IoctlGetTermios(slave, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	termios.Iflag, termios.Oflag, termios.Lflag = 0, 0, 0
	if err := errors.Join(unix.IoctlSetTermios(slave, unix.TCSETS, termios), unix.SetNonblock(slave, true)); err != nil {
		t.Fatal(err)
	}
	screen := os.NewFile(uintptr(slave), "screen")
	adopted := make(chan error, 1)
	go func() { adopted <- Adopt(t.Context(), dir, os.Getpid(), Window{80, 24}) }()
	if _, err := fmt.Fprintf(say, "PTY %d\n", master); err != nil {
		t.Fatal(err)
	}
	_ = screen.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(screen, make([]byte, 1)); err != nil {
		t.Fatalf("the host does not come: %v", err)
	}
	if _, err := io.WriteString(say, "GO\n"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-adopted, unix.Close(master), say.Close()); err != nil {
		t.Fatal(err)
	}
	return screen
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
		_ = c.Leave()
		return c.Start() == term.printed
	})
}

func (term *terminal) attach(from int64) *Conn {
	term.t.Helper()
	return attach(term.t, term.config.Dir, from)
}

func attach(t *testing.T, dir string, from int64) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), dir, from, Window{})
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
	_ = term.screen.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadFull(term.screen, p); err != nil {
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

// Whoever starts a shell may be killed before it has handed it over.
func TestShellThatNobodyHandsOverIsAnEndedTerminalAtOnceAndItsHostGoesWithIt(t *testing.T) {
	announce, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer announce.Close()
	defer say.Close()
	config, ready, done := newConfig(t, 1<<20), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Serve(t.Context(), config, announce, func() error { close(ready); return nil })
	}()
	<-ready
	fmt.Fprintln(say, "PTY 7")
	began := time.Now()
	for _, from := range []int64{FromScreen, 1000} {
		if c, err := Dial(t.Context(), config.Dir, from, Window{}); !errors.Is(err, ErrEnded) {
			t.Fatalf("from %d: %v, %v", from, c, err)
		}
	}
	say.Close() // the container is gone, and its shim
	select {
	case err := <-done:
		if err == nil {
			t.Error("the host says nothing of it")
		}
	case <-time.After(patience):
		t.Fatal("the host waits on")
	}
	if took := time.Since(began); took > handshakeTimeout {
		t.Errorf("it took %s", took)
	}
}
