package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// host is a running terminal host.
type host struct {
	config    Config
	allowance allowance
	announce  *os.File
	listener  *net.UnixListener
	ring      *ring
	work      sync.WaitGroup // the accept loop, every client and whoever else

	adoption chan adoption // from an ADOPT to Serve
	pty      *pty          // there is one when adopted is closed
	adopted  chan struct{}
	ended    chan struct{} // closed at the terminal's end

	mu      sync.Mutex
	clients map[*client]struct{}
	window  window
	endBy   time.Time // zero until the terminal has ended
	lastUse time.Time

	tracking sync.Mutex
	tracker  *tracker
}

// Serve hosts one terminal. From announce, the shell's standard output, it reads
// the number of the descriptor that the shell has its PTY's master under (see
// Shell), and waits for somebody who tells it the shell's process id, to take that
// descriptor over. From then on it reads and writes the PTY itself. It calls ready
// once when it can be told. It returns after the terminal's end, when the clients
// have got the rest or drainTimeout is over.
//
// When ctx is done it ends the terminal itself. It returns an error when it could
// not begin, and then too leaves an end mark with the reason, because a shim's
// "binary://" child can't tell anybody else.
//
// A caller that is a process of its own should ignore SIGHUP, SIGINT and
// SIGPIPE. What is in use stays below 80 KiB for each client, and about 72 KiB
// more for each whose connection it forwards (frames that wait, and its buffer), and
// about 200 KiB for all of them, however much is printed.
func Serve(ctx context.Context, config Config, announce *os.File, ready func() error) error {
	return serve(ctx, config, usualAllowance, announce, ready)
}

func serve(ctx context.Context, config Config, p allowance, announce *os.File, ready func() error) error {
	if err := config.check(); err != nil {
		return fmt.Errorf("terminal host: %w", err)
	}
	h := &host{
		config: config, allowance: p, announce: announce,
		adoption: make(chan adoption), adopted: make(chan struct{}), ended: make(chan struct{}),
		clients: make(map[*client]struct{}), tracker: newTracker(), lastUse: time.Now(),
	}
	err := h.open()
	if err == nil {
		h.work.Go(h.accept)
		err = ready()
	}
	if err == nil {
		err = h.adopt(ctx)
	}
	if err != nil {
		h.end(err.Error())
		return fmt.Errorf("terminal host: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		h.ring.hurry()
		h.pty.interrupt()
	})
	defer stop()
	h.work.Go(h.watchIdle)
	h.work.Go(h.pty.outlive)
	h.end(h.pump())
	return nil
}

// open takes the folder. What an earlier terminal has left in it is removed.
func (h *host) open() error {
	for _, name := range []string{endedName, socketName} {
		if err := removeIfThere(filepath.Join(h.config.Dir, name)); err != nil {
			return err
		}
	}
	var kept store
	kept, err := newFileStore(h.config.Dir, h.config.ScrollbackBytes)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		kept, err = newMemoryStore(min(memoryBytes, h.config.ScrollbackBytes)), nil
	}
	if err != nil {
		return err
	}
	h.ring = newRing(kept, h.allowance)
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

// pump moves the PTY's output into the ring until the shell has exited or nobody
// has the PTY open any more, and returns why if it was neither.
func (h *host) pump() (reason string) {
	buf := make([]byte, outputBytes)
	var pace pace
	for {
		n, err := h.pty.read(buf, pace.flood)
		if n > 0 {
			pause, changed := pace.after(n, time.Now())
			if changed {
				h.ring.flooded(pace.flood)
			}
			h.ring.write(buf[:n])
			if !pace.flood {
				runtime.Gosched() // an echo goes out first
			}
			h.follow(buf[:n])
			if pause > 0 {
				// Not time.Sleep, which knows no less than a millisecond here.
				_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(pause)}, nil)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.EIO): // nobody has the PTY open any more
			return ""
		case h.pty.exited.Load():
			h.drain(buf)
			return ""
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "the terminal's host was told to stop"
		default:
			return err.Error()
		}
	}
}

func (h *host) follow(output []byte) {
	h.tracking.Lock()
	defer h.tracking.Unlock()
	h.tracker.scan(output)
}

// drain takes what was printed before the shell exited: the kernel gives all of that
// before it says that there is nothing (n_tty_read). A job that prints on and on does
// not keep the terminal alive by it.
func (h *host) drain(buf []byte) {
	for left := lastBytes; left > 0; {
		n, err := h.pty.take(buf[:min(left, len(buf))])
		if n <= 0 || err != nil {
			return
		}
		h.ring.write(buf[:n])
		h.follow(buf[:n])
		left -= n
	}
}

// end is the terminal's end. The order matters: the mark is there before any
// client sees its connection close, so nobody takes the end for an accident.
func (h *host) end(reason string) {
	var total int64
	if h.ring != nil {
		total = h.ring.total()
	}
	_ = markEnded(h.config.Dir, total, reason) // without it, the missing socket says the same
	close(h.ended)
	if h.ring != nil {
		h.ring.close()
	}
	if h.listener != nil {
		_ = h.listener.Close()
		_ = removeIfThere(filepath.Join(h.config.Dir, socketName))
	}
	if h.pty != nil {
		h.pty.close()
	}
	h.mu.Lock()
	h.endBy = time.Now().Add(drainTimeout)
	for c := range h.clients {
		_ = c.conn.SetDeadline(h.endBy)
		if c.forward != nil {
			c.forward.room.setDeadline(h.endBy)
		}
	}
	h.mu.Unlock()
	h.work.Wait()
	if h.pty != nil {
		h.pty.forget()
	}
	if h.ring != nil {
		h.ring.kept.close()
	}
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
		c := &client{host: h, conn: conn}
		if err := h.admit(c); err != nil {
			refuse(conn, err)
			continue
		}
		h.work.Go(func() {
			defer h.dismiss(c)
			c.serve()
		})
	}
}

func (h *host) admit(c *client) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= maxClients {
		return fmt.Errorf("%d clients are attached already", maxClients)
	}
	h.clients[c] = struct{}{}
	return nil
}

func (h *host) dismiss(c *client) {
	_ = c.conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
	if c.place != nil { // who asks for the status is no user
		h.lastUse = time.Now()
	}
	h.fit()
}
