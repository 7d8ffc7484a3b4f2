package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/keeper/latency"
)

// ErrForwarded is what Read returns, once, when all output from Offset on goes
// right into the socket that was given to Forward. Read then waits for the end.
var ErrForwarded = errors.New("the output goes on in the viewer's own socket")

// Messages on a side channel, which begin with their kind. A side channel does not
// wait for a program to take input, as the connection itself may.
const (
	sideCredit = 'c' // 64 bits: the output may go on up to this byte
	sideFrame  = 'f' // a whole frame of the client's own, to be sent between messages of output
	sideFree   = 'e' // from the host: it has let go of the socket, after a whole message
)

// maxSideFrame is the longest such frame, and maxAhead the most of them that wait
// for a socket that takes nothing.
const (
	maxSideFrame = 8 << 10
	maxAhead     = 64 << 10
)

// side is the client's end of a side channel.
type side struct {
	conn    *net.UnixConn
	closing sync.Once
	free    bool // the host has let go; once closing is done
}

// Forward has the host write the output into socket itself, as binary messages of
// RFC 6455 without a mask: that spares each echo the way through this process.
// Output comes from Read until that returns ErrForwarded; from then on nothing may
// be written into socket but through Between, and nothing comes into it until
// Credit is called. Whatever ends the connection to the host ends that of the
// socket with a whole message, or shuts it down. It may be called once, and before
// Read; socket stays the caller's.
func (c *Conn) Forward(socket *net.TCPConn) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("forward a terminal: %w", err)
	}
	defer unix.Close(pair[1])
	conn, err := unixConn(pair[0])
	if err != nil {
		return fmt.Errorf("forward a terminal: %w", err)
	}
	raw, err := socket.SyscallConn()
	if err == nil {
		controlErr := raw.Control(func(fd uintptr) {
			c.writing.Lock()
			defer c.writing.Unlock()
			_, _, err = c.conn.WriteMsgUnix([]byte{frameForward, 0, 0, 0}, unix.UnixRights(int(fd), pair[1]), nil)
		})
		err = errors.Join(err, controlErr)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("forward a terminal: %w", c.explain(err)), conn.Close())
	}
	c.side.Store(&side{conn: conn})
	return nil
}

// unixConn takes the descriptor over.
func unixConn(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "side channel")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// Credit lets the host send output up to the byte number to. A lower one than
// before takes back what is not used yet.
func (c *Conn) Credit(to int64) error {
	return c.beside(binary.BigEndian.AppendUint64([]byte{sideCredit}, uint64(to)))
}

// Between has the host send a whole frame to the viewer, in the order of the calls
// and between two messages of output. One that is still to be sent at the terminal's
// end may be lost. With an error that wraps net.ErrClosed the host has let go of the
// socket; with any other it may be amid a message.
func (c *Conn) Between(frame []byte) error {
	if len(frame) > maxSideFrame {
		return fmt.Errorf("a frame of %d bytes can't be sent between output, %d at most", len(frame), maxSideFrame)
	}
	err := c.beside(append([]byte{sideFrame}, frame...))
	if s := c.side.Load(); err != nil && s != nil {
		if !s.stop() {
			return fmt.Errorf("the host holds the viewer's socket: %v", err) // and does not wrap it
		}
		return net.ErrClosed
	}
	return err
}

func (c *Conn) beside(message []byte) error {
	s := c.side.Load()
	if s == nil {
		return net.ErrClosed
	}
	_, err := s.conn.Write(message)
	return err
}

// stop has the host let go of the viewer's socket, waits a moment for it to finish
// what it is sending, and reports whether it has.
func (s *side) stop() bool {
	s.closing.Do(func() {
		_ = s.conn.CloseWrite()
		_ = s.conn.SetReadDeadline(time.Now().Add(2 * leaveTimeout))
		// sideFree, or the end of a host that was killed, maybe amid a message. Before
		// either comes that the host has not read all that it was told.
		n, err := s.conn.Read(make([]byte, 1))
		if errors.Is(err, unix.ECONNRESET) {
			n, _ = s.conn.Read(make([]byte, 1))
		}
		s.free = n > 0
		_ = s.conn.Close()
	})
	return s.free
}

// forwarding is the host's end.
type forwarding struct {
	socket int   // of the goroutine that sends output, until letGo
	room   *gate // opens when the socket takes more
	side   *net.UnixConn
}

// newForwarding takes the two descriptors over that came with a frameForward.
func newForwarding(fds []int) (*forwarding, error) {
	if len(fds) != 2 {
		return nil, fmt.Errorf("%d descriptors came with a socket, not 2", len(fds))
	}
	f := &forwarding{socket: fds[0]}
	protocol, err := unix.GetsockoptInt(f.socket, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err == nil && protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		err = errors.New("the viewer's socket is not TCP")
	}
	if err == nil {
		f.room, err = newGate(f.socket, unix.EPOLLOUT)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	if f.side, err = unixConn(fds[1]); err != nil {
		f.room.close()
		return nil, errors.Join(err, unix.Close(f.socket))
	}
	return f, nil
}

// send waits until the socket has taken all of p.
func (f *forwarding) send(p []byte) (err error) {
	waitErr := f.room.pass(func() bool {
		for len(p) > 0 {
			var n int
			n, err = latency.Send(f.socket, p)
			p = p[n:]
			switch {
			case err == unix.EAGAIN:
				err = nil
				return false
			case err != nil:
				return true
			}
		}
		return true
	})
	return errors.Join(err, waitErr)
}

// letGo ends the host's hold on the socket. After a broken message nobody may go
// on in it.
func (f *forwarding) letGo(broken bool) {
	if broken {
		_ = unix.Shutdown(f.socket, unix.SHUT_RDWR)
	} else {
		_, _ = f.side.Write([]byte{sideFree})
	}
	f.room.close()
	_ = unix.Close(f.socket)
	_ = f.side.Close()
}

// beginForward has the client's output go into the socket that came with these
// descriptors.
func (c *client) beginForward(fds []int) error {
	f, err := newForwarding(fds)
	if err != nil {
		return err
	}
	c.host.mu.Lock()
	refused := c.over || c.forward != nil
	if !refused {
		c.forward = f
		f.room.setDeadline(c.host.endBy) // zero, none, while the terminal lives
	}
	c.host.mu.Unlock()
	if refused {
		f.letGo(false)
		return errors.New("there is no output to forward")
	}
	c.work.Go(func() {
		f.listen(c)
		c.place.stop()
		c.hurryForward()
	})
	c.place.nudge()
	return nil
}

// hurryForward leaves what is being sent to a socket a moment, and reports whether
// there is one.
func (c *client) hurryForward() bool {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if c.forward == nil {
		return false
	}
	c.forward.room.setDeadline(time.Now().Add(leaveTimeout))
	return true
}

// endForward lets go of the socket.
func (c *client) endForward(broken bool) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	c.over = true
	if c.forward != nil {
		c.forward.letGo(broken)
	}
}

// listen takes what comes on the side channel until its end, or that of the host.
func (f *forwarding) listen(c *client) {
	buf := make([]byte, 1+maxSideFrame)
	for {
		n, err := f.side.Read(buf)
		if err != nil || n == 0 {
			return
		}
		switch p := buf[1:n]; {
		case buf[0] == sideCredit && len(p) == 8:
			c.place.allow(int64(binary.BigEndian.Uint64(p)))
		case buf[0] == sideFrame:
			c.host.mu.Lock()
			full := len(c.between)+len(p) > maxAhead
			if !full {
				c.between = append(c.between, p...)
			}
			c.host.mu.Unlock()
			if full {
				return
			}
			c.place.nudge()
		default:
			return
		}
	}
}

// fdReader reads from conn and collects the descriptors that come along.
type fdReader struct {
	conn *net.UnixConn
	fds  []int
}

// maxDescriptors is more than belongs together, in one piece that is read.
const maxDescriptors = 4

func (r *fdReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	if n <= 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		return max(n, 0), err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // something else came along
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		r.fds = append(r.fds, fds...)
	}
	return n, nil
}

// take gives what has come.
func (r *fdReader) take() []int {
	fds := r.fds
	r.fds = nil
	return fds
}

// close closes what nobody has taken.
func (r *fdReader) close() {
	for _, fd := range r.take() {
		_ = unix.Close(fd)
	}
}

// headRoom is the longest head of a message, and of a frame.
const headRoom = 10

// messageHead puts the head of a binary message of length bytes (RFC 6455 section
// 5.2, not masked) right before buf[headRoom:], and gives where it begins.
func messageHead(buf []byte, length int) (at int) {
	const finBinary = 0x82
	switch {
	case length < 126:
		at = headRoom - 2
		buf[at+1] = byte(length)
	case length < 1<<16:
		at = headRoom - 4
		buf[at+1] = 126
		binary.BigEndian.PutUint16(buf[at+2:], uint16(length))
	default:
		at = headRoom - 10
		buf[at+1] = 127
		binary.BigEndian.PutUint64(buf[at+2:], uint64(length))
	}
	buf[at] = finBinary
	return at
}
