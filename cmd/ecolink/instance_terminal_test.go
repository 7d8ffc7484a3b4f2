package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// seat is where a person sits: a terminal with `ecolink instance terminal` in it.
type seat struct {
	t      testing.TB
	tty    *os.File // the person's side
	ours   *os.File // the program's side, to look at its settings
	before *term.State
	cmd    *exec.Cmd
	stderr bytes.Buffer
	exited chan error

	mu   sync.Mutex
	seen []byte
}

func sit(t testing.TB, url, key, instance string, args ...string) *seat {
	t.Helper()
	s := &seat{t: t, exited: make(chan error, 1)}
	var err error
	s.tty, s.ours, err = pty.Open()
	must(t, err)
	must(t, pty.Setsize(s.tty, &pty.Winsize{Cols: 100, Rows: 30}))
	s.before, err = term.GetState(int(s.ours.Fd()))
	must(t, err)
	s.cmd = exec.Command("ecolink", append([]string{"instance", "terminal", instance}, args...)...)
	s.cmd.Env = append(os.Environ(), "ECOLINK_URL="+url, "ECOLINK_API_KEY="+key, raceOptions)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.ours, s.ours, &s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, s.cmd.Start())
	go func() { s.exited <- s.cmd.Wait() }()
	go s.look()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		s.tty.Close()
		s.ours.Close()
	})
	return s
}

func (s *seat) look() {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.tty.Read(buf)
		s.mu.Lock()
		s.seen = append(s.seen, buf[:n]...)
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *seat) screen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.seen)
}

func (s *seat) types(keys string) {
	s.t.Helper()
	_, err := s.tty.WriteString(keys)
	must(s.t, err)
}

func (s *seat) sees(text string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(s.screen(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%q is not on the screen; the last of it is %.2000q", text, s.screen()[max(0, len(s.screen())-2000):])
		}
	}
}

// leaves waits for the program's end and checks that the terminal is as it was.
func (s *seat) leaves(code int) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		s.t.Fatalf("the program does not end; screen %q", s.screen())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d, want %d; stderr %s", got, code, s.stderr.String())
	}
	after, err := term.GetState(int(s.ours.Fd()))
	must(s.t, err)
	if !reflect.DeepEqual(after, s.before) {
		s.t.Errorf("the terminal is not restored: %+v, was %+v", after, s.before)
	}
}

func TestTerminalIsAShellThatOutlivesIt(t *testing.T) {
	b := newBox(t)
	b.launch(t, "demo")
	s := sit(t, b.url, b.key, "demo")
	s.sees("# ")
	s.types("x=kept; stty size\r")
	s.sees("30 100\r\n")
	must(t, pty.Setsize(s.tty, &pty.Winsize{Cols: 111, Rows: 33}))
	must(t, s.cmd.Process.Signal(syscall.SIGWINCH))
	time.Sleep(200 * time.Millisecond) // a resize has no answer
	s.types("stty size\r")
	s.sees("33 111\r\n")
	s.types("trap 'echo caught' INT; echo rea''dy; read line\r")
	s.sees("ready\r\n")
	s.types("\x03") // the shell's, not ours
	s.sees("caught\r\n")
	s.types("\r")
	s.types("echo still $((40+2))\r")
	s.sees("still 42\r\n")
	s.types("\r~.")
	s.leaves(0)
	if !strings.Contains(s.stderr.String(), "left instance 1 (demo); the shell lives on: `ecolink instance terminal demo` comes back") {
		t.Errorf("stderr %q", s.stderr.String())
	}

	s = sit(t, b.url, b.key, "demo")
	s.sees("still 42\r\n") // what is kept is shown again
	s.types("echo $x $((1+1))\r")
	s.sees("kept 2\r\n")
	other := sit(t, b.url, b.key, "1", "--session", "other")
	other.types("echo [$x]\r")
	other.sees("[]\r\n")
	other.types("exit\r")
	other.leaves(0)
	s.types("exit\r")
	s.leaves(0)
	if s.stderr.String() != "\nthe shell of instance 1 (demo) has ended\n" {
		t.Errorf("stderr %q", s.stderr.String())
	}
}

func TestTerminalIsRestoredAfterSignals(t *testing.T) {
	b := newBox(t)
	b.launch(t, "demo")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := sit(t, b.url, b.key, "demo")
			s.sees("# ")
			eventually(t, func() bool {
				now, err := term.GetState(int(s.ours.Fd()))
				return err == nil && !reflect.DeepEqual(now, s.before)
			})
			must(t, s.cmd.Process.Signal(sig))
			s.leaves(130)
			if s.stderr.Len() > 0 {
				t.Errorf("stderr %q", s.stderr.String())
			}
		})
	}
}

// TestTerminalShowsEveryByteOnceAcrossCutConnections has the shell print a known
// stream, and cuts the connection while it does.
func TestTerminalShowsEveryByteOnceAcrossCutConnections(t *testing.T) {
	b := newBox(t)
	b.launch(t, "demo")
	line := newCable(t, b.url)
	s := sit(t, line.url, b.key, "demo")
	s.sees("# ")
	s.types("stty -opost -echo; PS1=; printf 'be''gin|'; for i in 1 2 3 4 5; do seq 1 20000; sleep 0.1; done; printf 'e''nd|'\r")
	for range 5 {
		s.sees("begin|")
		before := len(s.screen())
		eventually(t, func() bool { return len(s.screen()) > before+2000 || strings.Contains(s.screen(), "end|") })
		line.cut()
	}
	s.sees("end|")
	_, got, _ := strings.Cut(s.screen(), "begin|")
	got, _, _ = strings.Cut(got, "end|")
	var want strings.Builder
	for range 5 {
		for n := range 20000 {
			fmt.Fprintln(&want, n+1)
		}
	}
	if got != want.String() {
		t.Errorf("%d bytes came, want %d", len(got), want.Len())
	}
	if n := line.connections.Load(); n < 5 {
		t.Errorf("only %d connections: nothing was cut", n)
	}

	// With the network gone, the status shows, and ctrl-C leaves.
	line.unplug()
	time.Sleep(time.Second)
	s.types("\x03")
	s.leaves(0)
	if !strings.Contains(s.stderr.String(), "[ecolink: connection lost") || !strings.Contains(s.stderr.String(), "left instance 1") {
		t.Errorf("stderr %q", s.stderr.String())
	}
}

func TestTerminalThatCannotOpenLeavesTheScreenAlone(t *testing.T) {
	b := newBox(t)
	i := b.launch(t, "demo")
	must(t, b.client().do(t.Context(), "POST", i.path()+"/terminate", nil, nil))
	s := sit(t, b.url, b.key, "1")
	s.leaves(5)
	if !strings.Contains(s.stderr.String(), "a terminal opens while it is running") || s.screen() != "" {
		t.Errorf("stderr %q, screen %q", s.stderr.String(), s.screen())
	}
	s = sit(t, b.url, b.key, "nobody")
	s.leaves(4)
}
