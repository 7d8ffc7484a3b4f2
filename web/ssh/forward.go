package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"ecolink/ledger/identity"
	"ecolink/scheduler"
)

// Networks connects to what instances reach, and listens in them; the scheduler does.
type Networks interface {
	Connect(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, host string, port uint16) (net.Conn, error)
	Listen(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, address string) (net.Listener, error)
}

// Inside is all that happens in an instance.
type Inside interface {
	Programs
	Terminals
	Networks
}

// tcpip is what forwarding requests carry (RFC 4254, section 7).
type tcpip struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// address is a host and port of a request; ok is false for what can't be one.
func address(host string, port uint32) (string, bool) {
	if len(host) > 255 || port > 65535 {
		return "", false
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), true
}

// forwardOut serves `ssh -L` and -D: a connection from the client into the
// instance's network.
func (c *connection) forwardOut(channel ssh.NewChannel) {
	var to tcpip
	if err := ssh.Unmarshal(channel.ExtraData(), &to); err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, "the request can't be read")
		return
	}
	if _, ok := address(to.Host, to.Port); !ok || to.Port == 0 {
		_ = channel.Reject(ssh.ConnectionFailed, "this is no host and port")
		return
	}
	if c.refusal != nil {
		_ = channel.Reject(ssh.Prohibited, c.explain(c.refusal))
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, connectTime)
	conn, err := c.server.inside.Connect(ctx, c.entry.Account, c.entry.Instance, to.Host, uint16(to.Port))
	cancel()
	if err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, whyNot(err))
		return
	}
	ch, requests, err := channel.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	join(c.ctx, ch, requests, conn)
}

// whyNot is why a connection failed, without what only the operator understands.
func whyNot(err error) string {
	var problem *scheduler.Problem
	var code syscall.Errno
	var name *net.DNSError
	switch {
	case errors.As(err, &problem):
		return problem.Message
	case errors.As(err, &name):
		return fmt.Sprintf("the instance finds no address for %q", name.Name)
	case errors.As(err, &code):
		return "from the instance: " + code.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "from the instance: no answer"
	}
	return "from the instance: it can't be reached"
}

// join copies between the two until both directions have ended, or ctx has.
func join(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request, conn net.Conn) {
	hangUp := func() {
		_ = conn.Close()
		_ = ch.Close()
	}
	stop := context.AfterFunc(ctx, hangUp)
	defer stop()
	var discarding, both sync.WaitGroup
	discarding.Go(func() { ssh.DiscardRequests(requests) })
	both.Go(func() {
		_, err := io.Copy(conn, ch)
		half, ok := conn.(interface{ CloseWrite() error })
		if err != nil || !ok || half.CloseWrite() != nil {
			hangUp() // nobody reads any more, and whoever writes must learn of it
		}
	})
	both.Go(func() {
		_, err := io.Copy(ch, conn)
		if err != nil || ch.CloseWrite() != nil {
			hangUp()
		}
	})
	both.Wait()
	hangUp()
	discarding.Wait()
}

// forwards are the ports that a connection listens on.
type forwards struct {
	mu        sync.Mutex
	closed    bool
	listeners map[string]net.Listener // by address as the client named it, port 0 resolved
}

func (f *forwards) add(at string, l net.Listener) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return net.ErrClosed
	case len(f.listeners) >= maxListeners:
		return errors.New("too many forwarded ports")
	case f.listeners[at] != nil:
		return syscall.EADDRINUSE
	}
	f.listeners[at] = l
	return nil
}

func (f *forwards) remove(at string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[at]
	if l == nil {
		return false
	}
	delete(f.listeners, at)
	_ = l.Close()
	return true
}

func (f *forwards) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for at, l := range f.listeners {
		_ = l.Close()
		delete(f.listeners, at)
	}
}

// forwardIn serves `ssh -R`: it listens inside the instance's network. The answer
// names the port if the client left it to us.
func (c *connection) forwardIn(payload []byte) (ok bool, answer []byte) {
	var want struct {
		Host string
		Port uint32
	}
	if c.refusal != nil || ssh.Unmarshal(payload, &want) != nil {
		return false, nil
	}
	at, ok := address(want.Host, want.Port)
	if !ok {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, connectTime)
	defer cancel()
	l, err := c.server.inside.Listen(ctx, c.entry.Account, c.entry.Instance, at)
	if err != nil {
		c.server.log.Debug("SSH: a port could not be forwarded", "instance", c.entry.Instance, "address", at, "err", err)
		return false, nil
	}
	port := want.Port
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && port == 0 {
		port = uint32(tcp.Port)
		answer = ssh.Marshal(struct{ Port uint32 }{port})
	}
	at, _ = address(want.Host, port)
	if err := c.forwards.add(at, l); err != nil {
		_ = l.Close()
		return false, nil
	}
	c.others.Go(func() { c.accept(l, want.Host, port) })
	return true, answer
}

func (c *connection) stopForward(payload []byte) bool {
	var what struct {
		Host string
		Port uint32
	}
	if ssh.Unmarshal(payload, &what) != nil {
		return false
	}
	at, ok := address(what.Host, what.Port)
	return ok && c.forwards.remove(at)
}

// accept passes connections on to the client until the listener is closed.
func (c *connection) accept(l net.Listener, host string, port uint32) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case c.slots <- struct{}{}:
		default: // the client has all that it may have
			_ = conn.Close()
			continue
		}
		c.others.Go(func() {
			defer func() { <-c.slots }()
			c.passOn(conn, host, port)
		})
	}
}

func (c *connection) passOn(conn net.Conn, host string, port uint32) {
	from := tcpip{Host: host, Port: port}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		from.OriginHost, from.OriginPort = tcp.IP.String(), uint32(tcp.Port)
	}
	ch, requests, err := c.conn.OpenChannel("forwarded-tcpip", ssh.Marshal(from))
	if err != nil {
		_ = conn.Close()
		return
	}
	join(c.ctx, ch, requests, conn)
}
