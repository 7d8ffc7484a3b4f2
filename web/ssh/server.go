package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web/throttle"
)

// Deps is what the server is built from. Every field must be set.
type Deps struct {
	Store     *store.Store
	Scheduler *scheduler.Scheduler
	Key       HostKey
	Log       *slog.Logger
}

// Server lets people in. Make one with New and call Serve once.
type Server struct {
	store    *store.Store
	gate     Gate
	inside   Inside
	changes  func() (changed <-chan struct{}, stop func())
	key      HostKey
	log      *slog.Logger
	failed   *throttle.Throttle
	sessions sessions
	times    times

	ctx     context.Context // of Serve
	running sync.WaitGroup  // connections

	mu          sync.Mutex
	connections map[*connection]struct{} // of people who are in
	loggingIn   int
	beginning   map[string]int // those of loggingIn, by address
	byAddress   map[string]int
}

// New makes a server.
func New(d Deps) *Server {
	return &Server{
		store: d.Store, gate: d.Scheduler, inside: d.Scheduler, changes: d.Scheduler.Subscribe, key: d.Key, log: d.Log,
		failed: throttle.New(maxFailures), connections: map[*connection]struct{}{}, byAddress: map[string]int{}, beginning: map[string]int{},
		sessions: sessions{watched: map[string]int{}}, times: usualTimes(),
	}
}

// errStopping is what people read when EcoLink stops.
var errStopping = errors.New("EcoLink is being restarted: shells in a terminal go on, log in again in a moment")

// Serve accepts connections until ctx ends, closes the listener and all of them,
// and returns when that is done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// Log-ins that have begun are recorded although ctx has ended.
	s.ctx = context.WithoutCancel(ctx)
	defer s.running.Wait()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	others.Go(func() { s.watch(watching) })
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			s.closeAll(errStopping)
			return nil
		case err != nil:
			// Out of descriptors, most likely: that passes.
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				s.log.Error("SSH: accept", "err", err)
				time.Sleep(recheckPause)
				continue
			}
			s.closeAll(errStopping)
			return fmt.Errorf("accept SSH connections: %w", err)
		}
		if err := s.admit(conn); err != nil {
			// Before the protocol's own greeting a server may say what it likes
			// (RFC 4253, section 4.2); ssh -v shows it.
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, _ = fmt.Fprintf(conn, "EcoLink: %v\r\n", err)
			_ = conn.Close()
			continue
		}
		s.running.Go(func() {
			defer s.dismiss(conn)
			s.handle(ctx, conn)
		})
	}
}

// admit counts a connection that begins, or says why it must not.
func (s *Server) admit(conn net.Conn) error {
	from := throttle.Address(hostOf(conn.RemoteAddr()))
	if wait := s.failed.Wait(time.Now(), from); wait > 0 {
		return fmt.Errorf("too many log-ins failed from your address: try again in %s", wait.Round(time.Second))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.byAddress[from] >= maxPerAddress:
		return fmt.Errorf("there are %d connections from your address, the most there can be: close some", maxPerAddress)
	case s.beginning[from] >= maxBeginning:
		return fmt.Errorf("%d connections from your address are logging in, the most there can be: try again in a moment", maxBeginning)
	case s.loggingIn >= maxLoggingIn || len(s.connections) >= maxConnections:
		return errors.New("the box has as many connections as it can: try again in a moment")
	}
	s.byAddress[from]++
	s.beginning[from]++
	s.loggingIn++
	return nil
}

// dismiss forgets a connection and closes it.
func (s *Server) dismiss(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	less(s.byAddress, throttle.Address(hostOf(conn.RemoteAddr())))
}

// less counts one down, and forgets what is none.
func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// handle serves one connection from its first byte to its last.
func (s *Server) handle(ctx context.Context, raw net.Conn) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: s.times.keepAlive, Interval: s.times.keepAlive, Count: 4})
	}
	c, err := s.logIn(ctx, raw)
	if err != nil {
		s.log.Debug("SSH: no log-in", "from", hostOf(raw.RemoteAddr()), "err", err)
		return
	}
	defer s.remove(c)
	if c.refusal == nil {
		s.record(c.entry, raw.RemoteAddr())
		s.log.Info("SSH log-in", "instance", c.entry.Instance, "user", c.entry.User, "key", c.entry.Fingerprint, "from", hostOf(raw.RemoteAddr()))
	}
	c.run()
}

func (s *Server) logIn(ctx context.Context, raw net.Conn) (*connection, error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.loggingIn--
		less(s.beginning, throttle.Address(hostOf(raw.RemoteAddr())))
	}()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // nobody waits for who is not in
	defer stop()
	if err := raw.SetDeadline(time.Now().Add(s.times.login)); err != nil {
		return nil, err
	}
	a := &admission{server: s}
	conn, channels, requests, err := ssh.NewServerConn(raw, a.config())
	if err != nil {
		if a.tried {
			s.failed.Begin(time.Now(), throttle.Address(hostOf(raw.RemoteAddr())))
		}
		return nil, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c := newConnection(s, conn, a, channels, requests)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections[c] = struct{}{}
	if ctx.Err() != nil { // and closeAll has been
		c.end(errStopping)
	}
	return c, nil
}

func (s *Server) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
}

func (s *Server) all() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*connection, 0, len(s.connections))
	for c := range s.connections {
		out = append(out, c)
	}
	return out
}

func (s *Server) closeAll(cause error) {
	for _, c := range s.all() {
		c.end(cause)
	}
}

// watch closes the connections of who may not stay, soon after that changes.
func (s *Server) watch(ctx context.Context) {
	people := s.store.Watch(identity.SSHKeysBucket, identity.MembershipsBucket)
	defer people.Close()
	instances, stop := s.changes()
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-people.Ready():
			people.Take()
		case <-instances:
		}
		for _, c := range s.all() {
			c.recheck()
		}
		select { // many changes at once are looked at together
		case <-ctx.Done():
			return
		case <-time.After(recheckPause):
		}
	}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
