package ssh

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web/throttle"
)

// shells is an instance with one shell at its prompt, beside the commands of inside.
type shells struct {
	inside
	mu       sync.Mutex
	name     string // of the shell, once it is there
	viewers  int
	ended    int // shells that were ended
	commands sync.WaitGroup
}

// screen is one viewer's of the shell: it shows a prompt and then nothing.
type screen struct {
	agent.Terminal
	shells *shells
	prompt io.Reader
	left   chan struct{}
	once   sync.Once
}

func (s *shells) Terminal(_ context.Context, _ identity.AccountID, _ scheduler.InstanceID, name string, _ int64, _, _ uint16) (agent.Terminal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.viewers++
	s.name = name
	return &screen{shells: s, prompt: strings.NewReader("# "), left: make(chan struct{})}, nil
}

func (s *shells) Sessions(context.Context, identity.AccountID, scheduler.InstanceID) ([]agent.TerminalSession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.name == "" {
		return nil, nil
	}
	return []agent.TerminalSession{{Name: s.name, Viewers: s.viewers, Resting: true}}, nil
}

func (s *shells) EndSession(context.Context, identity.AccountID, scheduler.InstanceID, string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	return true, nil
}

func (s *shells) Start(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, p agent.Program) (agent.Process, error) {
	started, err := s.inside.Start(ctx, a, id, p)
	if err == nil {
		s.commands.Add(1)
	}
	return &counted{Process: started, done: s.commands.Done}, err
}

// counted is a command that tells when it was cleared away.
type counted struct {
	agent.Process
	once sync.Once
	done func()
}

func (c *counted) Close() error {
	c.once.Do(c.done)
	return c.Process.Close()
}

func (t *screen) Start() int64                                 { return 0 }
func (t *screen) Prologue() []byte                             { return nil }
func (t *screen) Resize(context.Context, uint16, uint16) error { return nil }
func (t *screen) Windows() <-chan agent.TerminalWindow         { return nil }
func (t *screen) Write(p []byte) (int, error)                  { return len(p), nil }
func (t *screen) Close() error                                 { return t.Leave() }
func (t *screen) Read(p []byte) (int, error) {
	if n, err := t.prompt.Read(p); err == nil {
		return n, nil
	}
	<-t.left
	return 0, net.ErrClosed
}

func (t *screen) Leave() error {
	t.once.Do(func() {
		t.shells.mu.Lock()
		t.shells.viewers--
		t.shells.mu.Unlock()
		close(t.left)
	})
	return nil
}

func (s *shells) state() (viewers, ended int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewers, s.ended
}

// wire carries TCP to a server until it is cut: then it carries nothing any more,
// and neither side hears of that.
type wire struct {
	address string
	cut     atomic.Bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String()}
	var ends sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	carry := func(to, from net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if w.cut.Load() {
				continue // swallowed; and an end is not told
			}
			if err != nil {
				_ = to.Close()
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	ends.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp4", to)
			if err != nil {
				_ = client.Close()
				return
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			ends.Go(func() { carry(server, client) })
			ends.Go(func() { carry(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut.Store(false)
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		ends.Wait()
	})
	return w
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (w *world) connected() int { return len(w.server.all()) }

// openShell has a shell with a terminal at its prompt.
func openShell(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	beginShell(t, s)
	return s
}

// beginShell has the session's shell come to its prompt.
func beginShell(t *testing.T, s *ssh.Session) {
	t.Helper()
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.RequestPty("xterm", 24, 80, nil), s.Shell()); err != nil {
		t.Fatal(err)
	}
	if text, err := bufio.NewReader(out).ReadString(' '); err != nil || text != "# " {
		t.Fatalf("%q, %v", text, err)
	}
}

// A laptop that was closed says nothing. Its shell stays for it to come back to; a
// command without a terminal ends with its connection.
func TestClientThatAnswersNoMoreIsHungUpOnAndItsShellGoesOn(t *testing.T) {
	in := &shells{}
	w := newWorldWith(t, in, times{login: 10 * time.Second, keepAlive: 20 * time.Millisecond, silence: 300 * time.Millisecond})
	wire := newWire(t, w.address)
	direct := w.address
	w.address = wire.address
	c := w.enter()
	openShell(t, c)
	command, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := command.Start("wait"); err != nil {
		t.Fatal(err)
	}
	w.address = direct
	neighbour := w.enter() // who does answer
	await(t, "both are in", func() bool { viewers, _ := in.state(); return viewers == 1 && w.connected() == 2 })
	time.Sleep(500 * time.Millisecond) // many keepalives
	if viewers, _ := in.state(); viewers != 1 || w.connected() != 2 {
		t.Fatalf("who answers is hung up on: %d viewers, %d connections", viewers, w.connected())
	}
	wire.cut.Store(true)
	cut := time.Now()
	await(t, "the silent client is gone", func() bool { return w.connected() == 1 })
	if took := time.Since(cut); took < 200*time.Millisecond {
		t.Errorf("it had only %s to answer", took)
	}
	in.commands.Wait()
	viewers, ended := in.state()
	if viewers != 0 || ended != 0 {
		t.Errorf("%d viewers are left; %d shells were ended", viewers, ended)
	}
	if _, _, err := neighbour.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	await(t, "its place is free", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return w.server.byAddress[throttle.Address("127.0.0.1")] == 1
	})
}

// The other end of the same design: who closes a window at its prompt leaves none.
func TestShellOfAClientThatLeavesInOrderEnds(t *testing.T) {
	in := &shells{}
	w := newWorldWith(t, in, usualTimes())
	c := w.enter()
	openShell(t, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the shell is ended", func() bool { _, ended := in.state(); return ended == 1 })
}

func TestWhoDoesNotFinishLoggingInIsHungUpOn(t *testing.T) {
	w := newWorldWith(t, inside{}, times{login: 400 * time.Millisecond, keepAlive: time.Minute, silence: time.Minute})
	in := w.enter()
	began := time.Now()
	silent, err := net.Dial("tcp4", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	slow, err := net.Dial("tcp4", w.address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	go func() { // each byte is a sign of life, and that is not enough
		for {
			if _, err := slow.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	for name, conn := range map[string]net.Conn{"silent": silent, "slow": slow} {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := io.Copy(io.Discard, conn)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Errorf("%s: it is not hung up on", name)
		}
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("they had only %s", took)
	}
	await(t, "nobody is logging in", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return w.server.loggingIn == 0 && len(w.server.beginning) == 0
	})
	time.Sleep(time.Until(began.Add(600 * time.Millisecond)))
	s, err := in.NewSession() // who is in has no such limit
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("world"); err != nil || string(out) != "hello world\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTheUsualLimitsAreThoseThatAreWritten(t *testing.T) {
	if got := New(Deps{Scheduler: &scheduler.Scheduler{}}).times; got != (times{login: time.Minute, keepAlive: 30 * time.Second, silence: 3 * time.Minute}) {
		t.Errorf("%+v", got)
	}
}

func TestWhoComesBackToAShellThatIsGoneIsToldThatItIsANewOne(t *testing.T) {
	in := &shells{}
	w := newWorldWith(t, in, usualTimes())
	for _, visit := range []struct {
		user string
		told bool
	}{
		{"trainer+main", false},  // the browser's, which may begin here as well
		{"trainer+ssh-4", true},  // it is not there
		{"trainer+ssh-4", false}, // and now it is
	} {
		c, _, err := w.dial(visit.user, w.key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		errs, err := s.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		beginShell(t, s) // what is told comes before its prompt
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(errs) // until the connection's end
		if want := "EcoLink: no shell ssh-4 runs in trainer any more: this is a new one\r\n"; visit.told && string(said) != want || !visit.told && len(said) > 0 {
			t.Errorf("%s: told %q", visit.user, said)
		}
	}
}
