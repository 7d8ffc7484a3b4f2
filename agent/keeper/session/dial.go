package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/keeper/latency"
)

// ErrEnded says that the terminal has ended: its program has exited, or its
// host is gone. What it printed last may be in its Scrollback.
var ErrEnded = errors.New("the terminal has ended")

// Conn is one connection to a terminal. One goroutine may read while others
// write; Close may be called from anywhere.
type Conn struct {
	dir      string
	conn     *net.UnixConn
	side     atomic.Pointer[side] // of a Conn that is forwarded
	start    int64
	prologue []byte
	offset   atomic.Int64
	windows  chan Window

	output *bufio.Reader // of Read alone
	rest   int           // of the output frame that is being read

	taken   atomic.Uint32 // input frames that the host has typed
	fits    atomic.Bool   // the terminal's window is this one's, or this has none
	writing sync.Mutex    // one frame at a time, and what follows
	sent    uint32        // input frames
	master  int           // the PTY, for keys; -1: there is none
	touched time.Time     // when the host was last told of them
	presses chan struct{} // has room while more keys may be typed at once; nil: no bound
	// mayPaste: what the host was sent last may end in the middle of a paste's mark.
	mayPaste bool
	window   Window
}

// Dial attaches to the terminal in dir at the byte number from, or at one of the
// offsets with a meaning of their own, and shows it in a window; a zero one is of
// no concern to the terminal. It returns an error that wraps ErrEnded when
// dir/ended exists or nobody listens on dir/sock. ctx bounds the dialling only;
// without a deadline the host has 5 seconds to answer.
func Dial(ctx context.Context, dir string, from int64, w Window) (*Conn, error) {
	c, err := dial(ctx, dir, from, w)
	if err != nil {
		if _, _, ended := Ended(dir); ended {
			err = endedError(dir) // it ended while we were dialling
		}
		return nil, fmt.Errorf("attach to terminal: %w", err)
	}
	return c, nil
}

func dial(ctx context.Context, dir string, from int64, w Window) (*Conn, error) {
	conn, err := connect(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := &Conn{dir: dir, conn: conn, windows: make(chan Window, 1), master: -1, window: w}
	c.fits.Store(true)
	if err := c.attach(ctx, from, w); err != nil {
		_ = c.Close()
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	return c, nil
}

// connect reaches the host of dir.
func connect(ctx context.Context, dir string) (*net.UnixConn, error) {
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
	return conn.(*net.UnixConn), nil
}

// bound has conn's reads and writes fail when ctx ends or the handshake takes too
// long, until the function that it returns is called.
func bound(ctx context.Context, conn *net.UnixConn) (release func() bool) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

func (c *Conn) attach(ctx context.Context, from int64, w Window) error {
	release := bound(ctx, c.conn)
	defer release()
	_, writeErr := fmt.Fprintf(c.conn, "ATTACH %d %d %d\n", from, w.Cols, w.Rows)
	host := &fdReader{conn: c.conn}
	start, length, rest, err := readStart(host)
	if fds := host.take(); len(fds) > 0 {
		c.master = fds[0]
	}
	if err != nil {
		// A host that refuses hangs up without waiting for our line. Then the
		// write fails, and its answer says why.
		if writeErr != nil && !errors.Is(err, errRefused) {
			return writeErr
		}
		return err
	}
	c.output = bufio.NewReader(io.MultiReader(&prefix{rest}, c.conn))
	if length > 0 {
		c.prologue = make([]byte, length)
		if _, err := io.ReadFull(c.output, c.prologue); err != nil {
			return err
		}
	}
	if !release() {
		return ctx.Err() // the deadline is set or about to be
	}
	c.start = start
	c.offset.Store(start)
	return c.conn.SetDeadline(time.Time{})
}

// prefix is bytes that were read already.
type prefix struct{ p []byte }

func (r *prefix) Read(p []byte) (int, error) {
	if len(r.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.p)
	r.p = r.p[n:]
	return n, nil
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

// Prologue returns what an empty screen must be sent before the output, to be in
// the state in which the output goes on; it counts as no output. There is one only
// if FromScreen was asked for, or a byte that is no longer kept.
func (c *Conn) Prologue() []byte { return c.prologue }

// Offset returns the number of the byte that Read gives next: where to attach
// again. Safe for concurrent use.
func (c *Conn) Offset() int64 { return c.offset.Load() }

// Windows gives the terminal's window whenever it becomes another than the one
// that this side has asked for last; only the latest waits there. It is never
// closed, and news come only while somebody reads.
func (c *Conn) Windows() <-chan Window { return c.windows }

// Read reads output. At the terminal's end, after the last byte, it returns an
// error that wraps ErrEnded. It returns io.EOF when the host hung up because
// this side reads too slowly, or because it was killed: attach again at Offset,
// and Dial tells the two apart.
func (c *Conn) Read(p []byte) (int, error) {
	for c.rest == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, c.explain(err)
		}
	}
	n, err := c.output.Read(p[:min(len(p), c.rest)])
	c.rest -= n
	c.offset.Add(int64(n))
	return n, c.explain(err)
}

func (c *Conn) nextFrame() error {
	kind, length, err := readHead(c.output)
	if err != nil {
		return err
	}
	switch {
	case kind == frameOutput:
		c.rest = length
	case kind == frameForward && length == 0:
		return ErrForwarded
	case (kind == frameWindow || kind == frameTaken) && length == 4:
		var p [4]byte
		if _, err := io.ReadFull(c.output, p[:]); err != nil {
			return err
		}
		if kind == frameTaken {
			c.taken.Store(binary.BigEndian.Uint32(p[:]))
			return nil
		}
		c.learn(parseWindow(p[:]))
	default:
		return fmt.Errorf("the terminal's host sends a frame of kind %q", kind)
	}
	return nil
}

// learn takes the news of the terminal's window.
func (c *Conn) learn(w Window) {
	c.writing.Lock()
	c.fits.Store(c.window == w || c.window == (Window{}))
	c.writing.Unlock()
	select { // the latest counts
	case <-c.windows:
	default:
	}
	c.windows <- w
}

// Write types p into the terminal. It waits while the program does not read its
// input; a deadline or Close ends that. p arrives in order, and up to 16 KiB are
// not mixed with what others type.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	n = c.press(p)
	c.writing.Unlock()
	if n == len(p) {
		return n, nil
	}
	buf := make([]byte, frameHead, frameHead+min(len(p), inputBytes))
	for n < len(p) {
		piece := p[n:min(len(p), n+inputBytes)]
		putHead(buf, frameInput, len(piece))
		sent, err := c.send(append(buf[:frameHead], piece...))
		n += max(0, sent-frameHead)
		if err != nil {
			return n, c.explain(err)
		}
	}
	return n, nil
}

// Press is Write as far as it need not wait; it gives how much is typed.
func (c *Conn) Press(p []byte) int {
	if !c.writing.TryLock() {
		return 0
	}
	defer c.writing.Unlock()
	return c.press(p)
}

// press types keys right into the PTY, which spares them a process on their way.
// What is longer, what must come after input that the host still has, what brings
// its window along and what belongs to a paste goes through the host. It returns
// how much is typed. writing must be held.
func (c *Conn) press(p []byte) int {
	pastes := c.mayPaste || endsInMark(p) || bytes.Contains(p, []byte(pasteMark))
	if c.master < 0 || len(p) > keyBytes || pastes || !c.fits.Load() || c.sent != c.taken.Load() {
		return 0
	}
	n := c.typeNow(p)
	if n == 0 { // most likely it is full, and else the host says what it is
		return 0
	}
	if now := time.Now(); now.Sub(c.touched) > touchTime {
		c.touched = now
		_, _ = c.conn.Write([]byte{frameTouch, 0, 0, 0}) // if it fails, so does Read
	}
	return n
}

// typeNow types what the PTY takes at once. Who got hold of its master in the container
// can make it block, even in the midst of this, and whoever types then waits as long as
// they like. So there is a bound to how many do.
func (c *Conn) typeNow(p []byte) int {
	if !latency.KeepNonblocking(c.master) {
		return 0
	}
	select {
	case c.presses <- struct{}{}:
		defer func() { <-c.presses }()
	default:
		if c.presses != nil {
			return 0
		}
	}
	n, _ := unix.Write(c.master, p) // not a brief call, since it may wait
	return max(n, 0)
}

// BoundPresses has no more keys at once typed right into PTYs than slots has room for,
// by all that share it. It must be called before there are any.
func (c *Conn) BoundPresses(slots chan struct{}) { c.presses = slots }

// endsInMark reports whether p may end in the middle of a paste's mark.
func endsInMark(p []byte) bool {
	at := bytes.LastIndexByte(p, pasteMark[0])
	return at >= 0 && len(p)-at < len(pasteBegin) && (bytes.HasPrefix([]byte(pasteMark), p[at:]) || bytes.HasPrefix(p[at:], []byte(pasteMark)))
}

func (c *Conn) send(frame []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if frame[0] == frameInput {
		c.sent++
		c.mayPaste = endsInMark(frame[frameHead:])
	}
	return c.conn.Write(frame)
}

// Resize tells the size of the window that this side shows the terminal in. The
// terminal takes the size of whoever came, typed or resized last.
func (c *Conn) Resize(w Window) error {
	c.writing.Lock()
	c.window = w
	c.fits.Store(true)
	c.writing.Unlock()
	_, err := c.send(windowFrame(w))
	return c.explain(err)
}

// Leave says that this viewer does not come back soon: output need not wait for
// it. Close must follow.
func (c *Conn) Leave() error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(leaveTimeout))
	_, err := c.send([]byte{frameLeave, 0, 0, 0})
	return err
}

// explain turns the ways in which a hung-up connection shows into ErrEnded or
// io.EOF. ECONNRESET is one of them: Linux gives it when the host hangs up while
// input is still on its way (net/unix/af_unix.c, unix_release_sock).
func (c *Conn) explain(err error) error {
	hungUp := err == io.EOF || err == io.ErrUnexpectedEOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	if !hungUp {
		return err
	}
	c.fits.Store(false) // no more keys past the host
	if _, _, ended := Ended(c.dir); ended {
		return endedError(c.dir)
	}
	return io.EOF
}

// SetWriteDeadline bounds Write, as net.Conn's does.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// Close leaves the terminal, which goes on, and for a while keeps what this
// viewer may come back for. Calls of Read and Write return an error that wraps
// net.ErrClosed.
func (c *Conn) Close() error {
	if s := c.side.Load(); s != nil {
		s.stop()
	}
	err := c.conn.Close() // ends a Write that waits, and with it its turn
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.master >= 0 {
		_ = unix.Close(c.master)
		c.master = -1
	}
	return err
}
