package ssh

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web/throttle"
)

// gate knows one key, which opens one instance.
type gate struct {
	mu     sync.Mutex
	key    string
	name   string
	closed error // why the instance can't be entered
	asked  []string
}

func (g *gate) KnowsSSHKey(fingerprint string) (bool, error) { return fingerprint == g.key, nil }

func (g *gate) EnterBySSH(name, fingerprint string) (scheduler.Entry, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, name)
	if name != g.name {
		return scheduler.Entry{}, &scheduler.Problem{Kind: scheduler.NotFound, Message: "there is no such instance: look again"}
	}
	return scheduler.Entry{Account: 1, Instance: 7, Name: name, Fingerprint: fingerprint}, g.closed
}

func (g *gate) MayStay(scheduler.Entry) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *gate) close(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = &scheduler.Problem{Kind: scheduler.Conflict, Message: why}
}

// inside is an instance in which every command says hello and waits for its input
// to end.
type inside struct{ Inside }

type process struct {
	agent.Process
	program agent.Program
	ended   chan struct{}
	once    sync.Once
}

func (inside) Start(_ context.Context, _ identity.AccountID, _ scheduler.InstanceID, p agent.Program) (agent.Process, error) {
	run := &process{program: p, ended: make(chan struct{})}
	go func() {
		fmt.Fprintf(p.Stdout, "hello %s\n", p.Line)
		_, _ = bufio.NewReader(p.Stdin).ReadString(0)
		_ = run.Close()
	}()
	return run, nil
}

func (p *process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
func (p *process) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

// world is a server on loopback and a person's key.
type world struct {
	t       *testing.T
	server  *Server
	gate    *gate
	address string
	key     ssh.Signer
	changed chan struct{}
}

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, inside{}, usualTimes())
}

func newWorldWith(t *testing.T, in Inside, limits times) *world {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	key, err := LoadHostKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, key: signer(t), changed: make(chan struct{}, 1)}
	w.gate = &gate{key: ssh.FingerprintSHA256(w.key.PublicKey()), name: "trainer"}
	w.server = &Server{
		store: st, gate: w.gate, inside: in, key: key, log: slog.New(slog.DiscardHandler), failed: throttle.New(maxFailures),
		changes:     func() (<-chan struct{}, func()) { return w.changed, func() {} },
		connections: map[*connection]struct{}{}, byAddress: map[string]int{}, beginning: map[string]int{}, sessions: sessions{watched: map[string]int{}},
		times: limits,
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// dial logs in; banner is what the server said.
func (w *world) dial(user string, keys ...ssh.Signer) (client *ssh.Client, banner string, err error) {
	client, err = ssh.Dial("tcp", w.address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(keys...)}, HostKeyCallback: ssh.FixedHostKey(w.server.key.signer.PublicKey()),
		BannerCallback: func(text string) error { banner += text; return nil }, Timeout: 10 * time.Second,
	})
	if err == nil {
		w.t.Cleanup(func() { client.Close() })
	}
	return client, banner, err
}

func (w *world) enter() *ssh.Client {
	w.t.Helper()
	c, _, err := w.dial("trainer", w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func TestTheHostKeyIsMadeOnceForRootAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ssh")
	first, err := LoadHostKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadHostKey(dir)
	if err != nil || second.Fingerprint() != first.Fingerprint() || !strings.HasPrefix(first.Public(), "ssh-ed25519 ") {
		t.Errorf("%s and then %s, %v", first.Fingerprint(), second.Fingerprint(), err)
	}
	path := filepath.Join(dir, "host_ed25519")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadHostKey(dir); err == nil || !strings.Contains(err.Error(), "remove it to have another made") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestAStrangersKeyLearnsNothing(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"trainer", "other", "not a name"} {
		if _, banner, err := w.dial(name, signer(t)); err == nil || banner != "" {
			t.Errorf("%s: %q, %v", name, banner, err)
		}
	}
	if len(w.gate.asked) > 0 {
		t.Errorf("instances were looked for: %v", w.gate.asked)
	}
}

func TestAKeyThatDoesNotFitLeavesItsTurnToTheNext(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.dial("trainer", signer(t), signer(t), w.key); err != nil {
		t.Errorf("the third key: %v", err)
	}
	if _, banner, err := w.dial("other", w.key); err == nil || !strings.Contains(banner, "there is no such instance") {
		t.Errorf("another name: %q, %v", banner, err)
	}
	if _, banner, err := w.dial("Trainer", w.key); err == nil || !strings.Contains(banner, "lower-case") {
		t.Errorf("no name: %q, %v", banner, err)
	}
}

func TestManyFailuresFromOneAddressHaveToWait(t *testing.T) {
	w := newWorld(t)
	stranger := signer(t)
	for range maxFailures {
		if _, _, err := w.dial("trainer", stranger); err == nil {
			t.Fatal("let in")
		}
	}
	var line string
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(line, "too many log-ins failed from your address: try again in"); {
		if time.Now().After(deadline) { // the last failure counts when the server has seen it
			t.Fatalf("the greeting is %q", line)
		}
		conn, err := net.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		if line, err = bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

func TestWhoDoesNotLogInHoldsNobodyUp(t *testing.T) {
	w := newWorld(t)
	stranger := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for n := range maxLoggingIn + 1 {
		conn, err := stranger.Dial("tcp", w.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if refused := strings.Contains(line, "are logging in"); err != nil || refused != (n >= maxBeginning) {
			t.Fatalf("connection %d reads %q, %v", n, line, err)
		}
	}
	w.enter()
	if got := w.server.failed.Wait(time.Now(), throttle.Address("127.0.0.1")); got > 0 {
		t.Error("connections that tried no key count as failures")
	}
}

func TestACommandRunsAndEndsWithItsConnection(t *testing.T) {
	w := newWorld(t)
	s, err := w.enter().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("world"); err != nil || string(out) != "hello world\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestSessionsPastTheLimitAreRefused(t *testing.T) {
	w := newWorld(t)
	c := w.enter()
	for n := range maxChannels {
		if _, err := c.NewSession(); err != nil {
			t.Fatalf("session %d: %v", n, err)
		}
	}
	var refused *ssh.OpenChannelError
	if _, err := c.NewSession(); !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
		t.Errorf("one more: %v", err)
	}
	for _, kind := range []string{"x11", "auth-agent@openssh.com", "tun@openssh.com"} {
		if _, _, err := c.OpenChannel(kind, nil); !errors.As(err, &refused) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestWhoMayNotStayIsToldAndHungUpOn(t *testing.T) {
	w := newWorld(t)
	c := w.enter()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	s.Stderr = &errs
	if _, err := s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start("wait"); err != nil {
		t.Fatal(err)
	}
	w.gate.close("instance 7 is over: launch another one")
	w.changed <- struct{}{}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != failureCode || errs.String() != "EcoLink: instance 7 is over: launch another one\n" {
		t.Errorf("%v: %q", err, errs.String())
	}
	hungUp := make(chan error, 1)
	go func() { hungUp <- c.Wait() }()
	select {
	case <-hungUp:
	case <-time.After(10 * time.Second):
		t.Error("the connection stays")
	}
}

func TestAnInstanceThatDoesNotRunSaysSoInEveryWay(t *testing.T) {
	w := newWorld(t)
	w.gate.close("instance 7 is pulling: wait")
	c := w.enter()
	for _, start := range []func(*ssh.Session) error{
		func(s *ssh.Session) error { return s.Run("x") },
		func(s *ssh.Session) error {
			return errors.Join(s.RequestPty("xterm", 24, 80, nil), s.Shell(), s.Wait())
		},
	} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		s.Stderr = &errs
		if err := start(s); err == nil || !strings.Contains(errs.String(), "instance 7 is pulling") {
			t.Errorf("%v: %q", err, errs.String())
		}
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(pipe); err != nil || !strings.Contains(string(text), "instance 7 is pulling") {
		t.Errorf("sftp: %q, %v", text, err)
	}
	if _, err := c.Dial("tcp", "localhost:80"); err == nil || !strings.Contains(err.Error(), "instance 7 is pulling") {
		t.Errorf("a forwarded connection: %v", err)
	}
	if l, err := c.Listen("tcp", "localhost:80"); err == nil {
		l.Close()
		t.Error("a port is listened on")
	}
}

func named(names ...string) (all []agent.TerminalSession) {
	for _, name := range names {
		all = append(all, agent.TerminalSession{Name: name})
	}
	return all
}

func TestShellsHaveNamesOfTheirOwn(t *testing.T) {
	s := sessions{watched: map[string]int{}}
	first, lost, leave := s.reserve(7, named("main"))
	second, _, _ := s.reserve(7, named("main")) // the first has not begun yet
	other, _, _ := s.reserve(8, nil)
	if first != "ssh-1" || second != "ssh-2" || other != "ssh-1" || len(lost) > 0 {
		t.Errorf("%s, %s, %s, lost %v", first, second, other, lost)
	}
	leave()
	third, lost, _ := s.reserve(7, named("main", "ssh-1", "ssh-2"))
	if third != "ssh-3" || !slices.Equal(lost, []string{"ssh-1"}) {
		t.Errorf("%s, lost %v", third, lost)
	}
	join := s.join(7, "ssh-1")
	if _, lost, _ := s.reserve(7, named("ssh-1")); len(lost) > 0 {
		t.Errorf("one that is looked at is lost: %v", lost)
	}
	join()
}

func FuzzUserNamesAreReadOrRefused(f *testing.F) {
	for _, name := range []string{"trainer", "7", "root", "trainer+main", "+", "a+b+c", "a+", "../../x", "A", "\x00", strings.Repeat("a", 200)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		l, err := ParseLogin(name)
		if err != nil {
			return
		}
		whole := l.Instance
		if l.Session != "" {
			whole += "+" + l.Session
		}
		if whole != name || l.Instance == "" || strings.ContainsAny(whole, "/. \n\x00") {
			t.Errorf("%q is read as %+v", name, l)
		}
	})
}

// FuzzRequestsOfASession throws what a client may send at a session that has not
// begun.
func FuzzRequestsOfASession(f *testing.F) {
	f.Add(ssh.Marshal(struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}{"xterm", 80, 24, 0, 0, ""}))
	f.Add(ssh.Marshal(struct{ Name, Value string }{"LC_ALL", "C"}))
	f.Add([]byte{0, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		s := &session{windows: make(chan window, 1)}
		if s.setEnv(payload) && len(s.env) != 1 {
			t.Errorf("the environment is %q", s.env)
		}
		if s.setTerminal(payload) && (s.pty.cols < 1 || s.pty.cols > maxSide || s.pty.rows < 1 || s.pty.rows > maxSide || strings.ContainsAny(s.term, "=\x00")) {
			t.Errorf("the terminal is %q, %+v", s.term, s.pty)
		}
		s.resize(payload)
		s.signal(payload)
		s.exec(payload)
		s.subsystem(payload)
		_, _ = (&connection{admission: &admission{refusal: errRefused}}).forwardIn(payload)
	})
}
