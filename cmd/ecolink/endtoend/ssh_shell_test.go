package endtoend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// shell is an ssh with a terminal.
type shell struct {
	*sshDoor
	cmd    *exec.Cmd
	in     io.WriteCloser
	seen   *shown
	cancel context.CancelFunc
}

// shown collects what a shell shows.
type shown struct {
	mu   sync.Mutex
	text []byte
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *shown) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// shell opens a shell with a terminal, as who is at a keyboard.
func (d *sshDoor) shell(user string, args ...string) *shell {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &shell{sshDoor: d, cmd: d.command(ctx, "ssh", append([]string{"-tt", "-e", "none", d.at(user)}, args...)...), seen: &shown{}, cancel: cancel}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		d.t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = s.seen, s.seen
	if err := s.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		cancel()
		_ = s.cmd.Wait() // again, mostly
	})
	return s
}

func (s *shell) types(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shell) shows(text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sshTime/2)
	defer cancel()
	for !strings.Contains(s.seen.String(), text) {
		select {
		case <-ctx.Done():
			s.t.Fatalf("not in time: %q, but %q", text, s.seen)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ends waits for the client to end and gives its exit code.
func (s *shell) ends() int {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case <-done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(sshTime):
		s.t.Fatalf("ssh does not end: %q", s.seen)
		return 0
	}
}

func TestAnSSHShellIsATerminalThatSurvivesItsConnection(t *testing.T) {
	b := newSSHBox(t, 1)
	ana := b.person("ana")
	ana.enter("trainer")

	first := ana.shell("trainer")
	first.types("stty size; x=kept; echo tty=$(tty) $((6*7))\n")
	first.shows("tty=/dev/")
	first.shows("42")
	first.types("exit 5\n")
	if code := first.ends(); code != 5 {
		t.Errorf("exit code %d: %q", code, first.seen)
	}

	left := ana.shell("trainer", "echo pid $$; exec sleep 4321")
	left.shows("pid ")
	hostKey := ana.HostKey
	lost := ana.shell("trainer")
	lost.types("x=kept; echo begun $((1+1))\n")
	lost.shows("begun 2")
	b.kill()
	if code := lost.ends(); code != 255 {
		t.Errorf("exit code %d after the server was killed", code)
	}
	b.start()
	ana.find()
	if ana.HostKey != hostKey {
		t.Errorf("the host key was %s and is %s", hostKey, ana.HostKey)
	}
	if out := ana.must(nil, "ssh", ana.at("trainer"), "ps -o args | grep -c '[s]leep 4321'; true"); out != "0\n" {
		t.Errorf("a command of a connection that is gone still runs: %q", out)
	}
	next := ana.shell("trainer")
	next.shows("log in as trainer+ssh-1 to go on in it\r\n")
	next.types("echo other $x$((2+1))\n")
	next.shows("other 3")
	again := ana.shell("trainer+ssh-1")
	again.shows("begun 2") // the screen is painted again
	again.types("echo $x $((3+1))\n")
	again.shows("kept 4")

	// An orderly stop says so, and shells go on.
	b.stop()
	if code := again.ends(); code != 255 || !strings.Contains(again.seen.String(), "EcoLink is being restarted") {
		t.Errorf("exit code %d: %q", code, again.seen)
	}
	b.start()
	ana.find()
	again = ana.shell("trainer+ssh-1")
	again.types("echo $x $((4+1))\n")
	again.shows("kept 5")
	again.types("exit\n")
	if code := again.ends(); code != 0 {
		t.Errorf("exit code %d: %q", code, again.seen)
	}
	// Who closes the window of a shell at its prompt leaves nothing behind; a job goes on.
	busy := ana.shell("trainer")
	busy.types("sleep 1000 &\n")
	busy.types("echo job $((6+1))\n")
	busy.shows("job 7")
	idle := ana.shell("trainer")
	idle.types("echo idle $((5+1))\n")
	idle.shows("idle 6")
	for _, s := range []*shell{idle, busy} {
		s.types("PS1=at-rest'> '\n")
		s.shows("at-rest> ") // nothing more is on its way, which would make a reset of it
		s.cancel()           // with SIGKILL: the connection is closed in order all the same
		s.ends()
	}
	b.eventually("the shell at its prompt is gone and the two others are not", func() bool {
		r := ana.try(strings.NewReader("exit\n"), "ssh", "-tt", ana.at("trainer"))
		said := r.out + r.errs
		// The first has a job, the second was cut off by the stop.
		return strings.Contains(said, "trainer+ssh-1") && strings.Contains(said, "trainer+ssh-2") && !strings.Contains(said, "trainer+ssh-3")
	})
	// A program in a terminal of its own: its size, its keys and its end.
	top := ana.shell("trainer", "stty size; read line; echo got $line; exit 3")
	top.types("hello\n")
	top.shows("got hello")
	if code := top.ends(); code != 3 {
		t.Errorf("exit code %d: %q", code, top.seen)
	}
}

func TestSSHConnectionsEndWithTheRightToThem(t *testing.T) {
	b := newSSHBox(t, 2)
	ana := b.person("ana")
	raw, err := os.ReadFile(ana.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	var key struct {
		ID          int64
		Fingerprint string
	}
	if f := b.api(http.MethodPost, "/v1/users/me/ssh-keys", map[string]any{"public_key": string(raw), "name": "laptop"}, &key); f != nil {
		t.Fatalf("%+v", f)
	}
	i := b.await(b.launch("trainer").ID, "running")

	open := ana.shell("trainer")
	open.types("echo in $((1+1))\n")
	open.shows("in 2")
	if f := b.api(http.MethodDelete, fmt.Sprintf("/v1/users/me/ssh-keys/%d", key.ID), nil, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	began := time.Now()
	if code := open.ends(); code != 255 || !strings.Contains(open.seen.String(), "does not open instance 1 (trainer) any more") {
		t.Errorf("key removed: exit code %d: %q", code, open.seen)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the connection stayed for %s", took)
	}
	if r := ana.try(nil, "ssh", ana.at("trainer"), "true"); r.code != 255 || !strings.Contains(r.errs, "Permission denied") {
		t.Errorf("a removed key: %+v", r)
	}

	if f := b.api(http.MethodPost, "/v1/users/me/ssh-keys", map[string]any{"public_key": string(raw)}, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	second := b.launch("second")
	b.await(second.ID, "running")
	other := ana.shell("second")
	other.types("echo in $((1+1))\n")
	other.shows("in 2")
	if f := b.api(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", second.ID), nil, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	if code := other.ends(); code != 255 || !strings.Contains(other.seen.String(), "instance 2 (second) is terminat") {
		t.Errorf("terminated: exit code %d: %q", code, other.seen)
	}
	b.await(second.ID, "terminated")
	if r := ana.try(nil, "ssh", ana.at("second"), "true"); r.code != 255 || !strings.Contains(r.errs, "is terminated: user_request: launch another one") {
		t.Errorf("an instance that is over: %+v", r)
	}
	if r := ana.try(nil, "ssh", ana.at(fmt.Sprint(i.ID)), "echo still here"); r.out != "still here\n" {
		t.Errorf("the other instance: %+v", r)
	}
}
