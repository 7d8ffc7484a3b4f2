package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrEnded says that the terminal has ended: its program has exited, or its
// host is gone, and with it the scrollback.
var ErrEnded = errors.New("the terminal has ended")

// Conn is one connection to a terminal. One goroutine may read while another
// writes; Close may be called from anywhere.
type Conn struct {
	dir    string
	conn   *net.UnixConn
	start  int64
	offset atomic.Int64
	first  []byte // output that came with the host's answer
}

// Dial attaches to the terminal in dir at the byte number from, or FromOldest,
// or FromNow. It returns an error that wraps ErrEnded when dir/ended exists or
// nobody listens on dir/sock. ctx bounds the dialling only; without a deadline
// the host has 5 seconds to answer.
func Dial(ctx context.Context, dir string, from int64) (*Conn, error) {
	c, err := dial(ctx, dir, from)
	if err != nil {
		if _, _, ended := Ended(dir); ended {
			err = endedError(dir) // it ended while we were dialling
		}
		return nil, fmt.Errorf("attach to terminal: %w", err)
	}
	return c, nil
}

func dial(ctx context.Context, dir string, from int64) (*Conn, error) {
	if _, _, ended := Ended(dir); ended {
		return nil, endedError(dir)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	address, release, err := socketAddress(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrEnded
	}
	if err != nil {
		return nil, err
	}
	defer release()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", address)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrEnded
	}
	if err != nil {
		return nil, err
	}
	c := &Conn{dir: dir, conn: conn.(*net.UnixConn)}
	if err := c.attach(ctx, from); err != nil {
		_ = conn.Close()
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	return c, nil
}

func (c *Conn) attach(ctx context.Context, from int64) error {
	interrupt := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer interrupt()
	_, writeErr := fmt.Fprintf(c.conn, "ATTACH %d\n", from)
	start, first, err := readAnswer(c.conn)
	if err != nil {
		// A host that refuses hangs up without waiting for our line. Then the
		// write fails, and its answer says why.
		if writeErr != nil && !errors.Is(err, errRefused) {
			return writeErr
		}
		return err
	}
	if !interrupt() {
		return ctx.Err() // the deadline is set or about to be
	}
	c.start, c.first = start, first
	c.offset.Store(start)
	return nil
}

// endedError is ErrEnded with what dir/ended says.
func endedError(dir string) error {
	if _, reason, _ := Ended(dir); reason != "" {
		return fmt.Errorf("%w: %s", ErrEnded, reason)
	}
	return ErrEnded
}

// Start returns the number of the first byte that Read gives. When it is
// greater than the byte that was asked for, those in between are lost.
func (c *Conn) Start() int64 { return c.start }

// Offset returns the number of the byte that Read gives next: where to attach
// again. Safe for concurrent use.
func (c *Conn) Offset() int64 { return c.offset.Load() }

// Read reads output. At the terminal's end, after the last byte, it returns an
// error that wraps ErrEnded. It returns io.EOF when the host hung up because
// this side reads too slowly, or because it was killed: attach again at Offset,
// and Dial tells the two apart.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		c.offset.Add(int64(n))
		return n, nil
	}
	n, err := c.conn.Read(p)
	c.offset.Add(int64(n))
	return n, c.explain(err)
}

// Write types p into the terminal. It waits while the program does not read its
// input; a deadline or Close ends that. p arrives in order, and a piece of up to
// 4 KiB is not mixed with what others type as long as no more than 16 KiB of
// this connection's wait for the program.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.conn.Write(p)
	return n, c.explain(err)
}

// explain turns the ways in which a hung-up connection shows into ErrEnded or
// io.EOF. ECONNRESET is one of them: Linux gives it when the host hangs up while
// input is still on its way (net/unix/af_unix.c, unix_release_sock).
func (c *Conn) explain(err error) error {
	hungUp := err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !hungUp {
		return err
	}
	if _, _, ended := Ended(c.dir); ended {
		return endedError(c.dir)
	}
	return io.EOF
}

// SetWriteDeadline bounds Write, as net.Conn's does.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// Close leaves the terminal, which goes on. Calls of Read and Write return an
// error that wraps net.ErrClosed.
func (c *Conn) Close() error { return c.conn.Close() }
