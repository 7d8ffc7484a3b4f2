package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// host is a running terminal host.
type host struct {
	config   Config
	ring     *ring
	input    *input
	listener *net.UnixListener

	work sync.WaitGroup // the accept loop and every client

	mu      sync.Mutex
	clients map[*net.UnixConn]struct{}
	endBy   time.Time // zero until the terminal has ended
}

// Serve hosts one terminal: output is the PTY's output, whose end is the
// terminal's end. It calls ready once when clients can attach and input can be
// typed. It returns after the end, when the clients have got the rest or
// drainTimeout is over.
//
// When ctx is done it ends the terminal itself. It returns an error when it
// could not begin, and then too leaves an end mark with the reason, because a
// shim's "binary://" child can't tell anybody else.
//
// A caller that is a process of its own should ignore SIGHUP, SIGINT and
// SIGPIPE. What is in use stays below the scrollback and 80 KiB for each
// client and about 100 KiB more, however much is printed; of clients who have left, Go
// collects the buffers at some MiB (measured: 5 MiB resident after 3000 of them).
func Serve(ctx context.Context, config Config, output *os.File, ready func() error) error {
	if err := config.check(); err != nil {
		return fmt.Errorf("terminal host: %w", err)
	}
	h := &host{
		config:  config,
		ring:    newRing(config.ScrollbackBytes),
		clients: make(map[*net.UnixConn]struct{}),
	}
	err := h.open()
	if err == nil {
		h.work.Go(h.accept)
		err = ready()
	}
	if err != nil {
		h.end(err.Error())
		return fmt.Errorf("terminal host: %w", err)
	}

	stop := context.AfterFunc(ctx, func() { _ = output.SetReadDeadline(time.Now()) })
	defer stop()
	h.end(h.pump(output))
	return nil
}

// open takes the FIFO and the socket. Marks of an earlier terminal in the same
// folder are removed.
func (h *host) open() error {
	if err := removeIfThere(filepath.Join(h.config.Dir, endedName)); err != nil {
		return err
	}
	if err := removeIfThere(filepath.Join(h.config.Dir, socketName)); err != nil {
		return err
	}
	var err error
	if h.input, err = openInput(h.config.Stdin); err != nil {
		return err
	}
	address, release, err := socketAddress(h.config.Dir)
	if err != nil {
		return err
	}
	defer release()
	h.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return err
	}
	// We remove it ourselves: the address may go through a descriptor that is
	// closed by then.
	h.listener.SetUnlinkOnClose(false)
	return os.Chmod(filepath.Join(h.config.Dir, socketName), 0o600)
}

// pump moves the PTY's output into the ring until it ends, and returns why if
// that was not the program's doing.
func (h *host) pump(output *os.File) (reason string) {
	buf := make([]byte, outputBytes)
	for {
		n, err := output.Read(buf)
		h.ring.write(buf[:n])
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return ""
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "the terminal's host was told to stop"
		default:
			return err.Error()
		}
	}
}

// end is the terminal's end. The order matters: the mark is there before any
// client sees its connection close, so nobody takes the end for an accident.
func (h *host) end(reason string) {
	_ = markEnded(h.config.Dir, h.ring.total(), reason) // without it, the missing socket says the same
	h.ring.close()
	if h.listener != nil {
		_ = h.listener.Close()
		_ = removeIfThere(filepath.Join(h.config.Dir, socketName))
	}
	if h.input != nil {
		h.input.close()
	}
	h.mu.Lock()
	h.endBy = time.Now().Add(drainTimeout)
	for conn := range h.clients {
		_ = conn.SetDeadline(h.endBy)
	}
	h.mu.Unlock()
	h.work.Wait()
}

func (h *host) accept() {
	for {
		conn, err := h.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors or memory: it passes
			continue
		}
		if err := h.admit(conn); err != nil {
			refuse(conn, err)
			continue
		}
		h.work.Go(func() {
			defer h.dismiss(conn)
			h.serve(conn)
		})
	}
}

func (h *host) admit(conn *net.UnixConn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= maxClients {
		return fmt.Errorf("%d clients are attached already", maxClients)
	}
	h.clients[conn] = struct{}{}
	return nil
}

func (h *host) dismiss(conn *net.UnixConn) {
	_ = conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, conn)
}

// serve is one client's life. Two goroutines work for it, this one for its
// output; whichever ends first ends the other.
func (h *host) serve(conn *net.UnixConn) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	asked, typed, err := readAttach(conn)
	if err != nil {
		refuse(conn, err)
		return
	}
	place := h.ring.reader(asked)
	if _, err := fmt.Fprintf(conn, "OK %d\n", place.next); err != nil {
		return
	}
	h.mu.Lock()
	_ = conn.SetDeadline(h.endBy) // zero, none, while the terminal lives
	h.mu.Unlock()

	var typing sync.WaitGroup
	typing.Go(func() {
		h.takeInput(conn, typed)
		place.leave()    // ends sendOutput's wait for output
		_ = conn.Close() // ends its write to a client that does not read
	})
	sendOutput(conn, place)
	_ = conn.Close() // ends takeInput's read
	typing.Wait()
}

// sendOutput returns at the terminal's end, when the client is gone, and when
// it fell off the ring.
func sendOutput(conn *net.UnixConn, place *reader) {
	buf := make([]byte, outputBytes)
	for {
		n, err := place.read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// takeInput returns when the client is gone. After the terminal's end input
// goes nowhere, but is still read, so that the client can go on reading.
func (h *host) takeInput(conn *net.UnixConn, typed []byte) {
	gone := func() bool { return hungUp(conn) }
	buf := make([]byte, inputBytes)
	n := copy(buf, typed) // lineBytes at most
	for {
		if n > 0 {
			err := h.input.write(buf[:n], gone)
			if err != nil && !errors.Is(err, os.ErrClosed) {
				return
			}
		}
		var err error
		if n, err = conn.Read(buf); err != nil {
			return
		}
	}
}

// hungUp reports whether the other side has closed conn, without reading what
// it sent before.
func hungUp(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}
