package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// text collects what a program writes while it is read.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

func (x *text) shows(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(x.String(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %q, but %q", want, x)
		}
	}
}

func TestProgramsRunBesideAWorkload(t *testing.T) {
	m := newMachine(t)
	const id = "instance-1"
	m.run(Workload{ID: id, Image: m.push("demo/box:1"), Hostname: "box"})
	start := func(t *testing.T, p Program) Process {
		t.Helper()
		run, err := m.Start(background, id, p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := run.Close(); err != nil {
				t.Error(err)
			}
		})
		return run
	}
	t.Run("a signal reaches it", func(t *testing.T) {
		var out text
		run := start(t, Program{Line: `trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.1; done`, Stdout: &out, Stderr: io.Discard})
		out.shows(t, "ready")
		if err := run.Signal(background, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if code, err := run.Wait(background); err != nil || code != 9 || !strings.Contains(out.String(), "caught") {
			t.Errorf("%d, %v: %q", code, err, &out)
		}
	})
	t.Run("a PTY has the size that it is given", func(t *testing.T) {
		var out text
		in, keys := io.Pipe()
		defer keys.Close()
		run := start(t, Program{Line: "stty size; read x; stty size", Cols: 100, Rows: 30, Stdin: in, Stdout: &out})
		out.shows(t, "30 100")
		if err := run.Resize(background, 120, 40); err != nil {
			t.Fatal(err)
		}
		io.WriteString(keys, "\n")
		if code, err := run.Wait(background); err != nil || code != 0 || !strings.Contains(out.String(), "40 120") {
			t.Errorf("%d, %v: %q", code, err, &out)
		}
	})
	t.Run("closing ends one that does not want to", func(t *testing.T) {
		var out text
		run := start(t, Program{Line: `trap '' HUP TERM; echo $$; while :; do sleep 0.1; done`, Stdout: &out, Stderr: io.Discard})
		out.shows(t, "\n")
		ctx, cancel := context.WithCancel(background)
		cancel()
		if _, err := run.Wait(ctx); err == nil {
			t.Error("it ended by itself")
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
		if code, _ := m.Exec(background, id, []string{"kill", "-0", strings.TrimSpace(out.String())}, Stdio{Stdout: io.Discard, Stderr: io.Discard}); code == 0 {
			t.Error("it still runs")
		}
	})
	t.Run("one that is not there", func(t *testing.T) {
		_, err := m.Start(background, id, Program{Argv: []string{"/no/such"}, Stdout: io.Discard, Stderr: io.Discard})
		var p interface{ Permanent() bool }
		if !errors.As(err, &p) || !p.Permanent() {
			t.Errorf("got %v", err)
		}
	})
	t.Run("what listens inside is reached from inside", func(t *testing.T) {
		l, err := m.Listen(background, id, "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		port := l.Addr().(*net.TCPAddr).Port
		if c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second); err == nil {
			c.Close()
			t.Error("the host listens too")
		}
		var out text
		run := start(t, Program{Argv: []string{"nc", "127.0.0.1", strconv.Itoa(port)}, Stdout: &out, Stderr: io.Discard})
		if code, err := run.Wait(background); err != nil || code != 0 || out.String() != "hello" {
			t.Errorf("%d, %v: %q", code, err, &out)
		}
		if _, err := m.Listen(background, id, "no-such-host:0"); err == nil {
			t.Error("a name was listened on")
		}
		if _, err := m.Connect(background, "instance-none", "localhost", 1); err == nil {
			t.Error("a workload that is not there was reached")
		}
	})
}
