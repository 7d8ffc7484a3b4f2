package socket

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ecolink/agent"
	"ecolink/agent/keeper/latency"
)

// outletBytes is the buffer in which the library collects a frame. What it sends
// beside output, such as pings, fits, and so comes to outlet as a whole.
const outletBytes = 4 << 10

// outlet is the connection as the library writes into it: until somebody else
// writes the output there.
type outlet struct {
	net.Conn
	raw syscall.RawConn // of a TCP connection; else nil

	mu    sync.Mutex
	other agent.Forwarder // who does
}

// Write sends whole frames.
func (o *outlet) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.other != nil {
		switch err := o.other.Between(p); {
		case err == nil:
			return len(p), nil
		case !errors.Is(err, net.ErrClosed):
			return 0, err // it would come amid a message of the other's
		}
	}
	return o.Conn.Write(p) // it is ours, or ours again: the other has let go of it
}

// Read is the connection's own. What comes is mostly a key: see latency.Read.
func (o *outlet) Read(p []byte) (n int, err error) {
	if o.raw == nil || len(p) == 0 {
		return o.Conn.Read(p)
	}
	waitErr := o.raw.Read(func(fd uintptr) bool {
		n, err = latency.Read(int(fd), p)
		return err != unix.EAGAIN
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// yield has f send what is written from now on.
func (o *outlet) yield(f agent.Forwarder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.other = f
}

// Close ends the connection for everybody who has it.
func (o *outlet) Close() error {
	o.mu.Lock()
	shared := o.other != nil
	o.mu.Unlock()
	if tcp := o.tcp(); shared && tcp != nil {
		_ = tcp.CloseWrite()
		_ = tcp.CloseRead()
	}
	return o.Conn.Close()
}

// tcp is nil when the bytes on the wire are not those that are written here.
func (o *outlet) tcp() *net.TCPConn {
	tcp, _ := o.Conn.(*net.TCPConn)
	return tcp
}

// hijack puts an outlet between the library and the connection that it takes.
type hijack struct {
	http.ResponseWriter
	outlet *outlet
}

// Hijack is what the library calls.
func (h *hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.outlet = &outlet{Conn: conn}
	if tcp := h.outlet.tcp(); tcp != nil {
		if h.outlet.raw, err = tcp.SyscallConn(); err != nil {
			return nil, nil, errors.Join(err, conn.Close())
		}
	}
	return h.outlet, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(h.outlet, outletBytes)), nil
}

// Unwrap lets http.ResponseController find what the server offers.
func (h *hijack) Unwrap() http.ResponseWriter { return h.ResponseWriter }
