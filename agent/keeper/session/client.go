package session

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// client is one connection, as the host has it.
type client struct {
	host  *host
	conn  *net.UnixConn
	place *reader        // of a viewer
	work  sync.WaitGroup // its goroutines but the one that sends output

	// Guarded by host.mu.
	window  Window // that it shows the terminal in
	active  uint64 // when it last did something, by host.window.clock
	told    Window // the terminal's, as it knows it
	leaving bool   // it said so
	taken   uint32 // input frames, and how many of them it knows of
	known   uint32
	forward *forwarding // when it has asked for that
	between []byte      // frames of its own that are to go there
	over    bool        // it gets no more output

	paste paste // of the goroutine that takes its input
}

// serve is the client's life.
func (c *client) serve() {
	_ = c.conn.SetDeadline(time.Now().Add(handshakeTimeout))
	q, rest, err := readRequest(c.conn)
	if err != nil {
		refuse(c.conn, err)
		return
	}
	switch q.verb {
	case "ADOPT":
		err = c.host.takeOver(q.pid, q.window)
		if err == nil {
			_, _ = io.WriteString(c.conn, "OK adopted\n")
		}
	case "STATUS":
		var text []byte
		if text, err = json.Marshal(c.host.status()); err == nil {
			_, _ = fmt.Fprintf(c.conn, "OK %s\n", text)
		}
	default:
		select {
		case <-c.host.adopted:
			c.view(q, rest)
		case <-c.host.ended:
		default:
			err = errors.New(notBegun)
		}
	}
	if err != nil {
		refuse(c.conn, err)
	}
}

// view shows the terminal. Two goroutines work for it, this one for its output;
// whichever ends first ends the other.
func (c *client) view(q request, rest []byte) {
	h := c.host
	place, prologue, repaint := h.start(q.offset)
	h.mu.Lock()
	c.place = place
	h.lastUse = time.Now()
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		cutOff := !c.leaving
		h.mu.Unlock()
		place.leave(cutOff)
	}()
	answer := fmt.Appendf(nil, "OK %d %d\n", place.start, len(prologue))
	if err := h.pty.give(c.conn, append(answer, prologue...)); err != nil {
		return
	}
	h.mu.Lock()
	_ = c.conn.SetDeadline(h.endBy) // zero, none, while the terminal lives
	changed := h.join(c, q.window)
	h.mu.Unlock()
	if repaint && !changed {
		h.work.Go(h.wiggle)
	}
	c.work.Go(func() {
		c.takeInput(rest)
		place.stop() // ends sendOutput's wait for output
		if !c.hurryForward() {
			_ = c.conn.Close() // ends its write to a client that does not read
		}
	})
	gone, broken := c.sendOutput()
	c.endForward(broken)
	if gone {
		// Its good-bye may still be there to read.
		_ = c.conn.SetReadDeadline(time.Now().Add(leaveTimeout))
	} else {
		_ = c.conn.Close() // ends takeInput's read
	}
	c.work.Wait()
}

// start takes the place where a viewer begins.
func (h *host) start(asked int64) (place *reader, prologue []byte, repaint bool) {
	h.tracking.Lock()
	defer h.tracking.Unlock()
	h.ring.mu.Lock()
	defer h.ring.mu.Unlock()
	oldest := h.ring.oldest()
	if asked != FromScreen && (asked < 0 || asked >= oldest) {
		d := h.ring.reader(asked)
		d.resumed = asked >= 0
		return d, nil, false
	}
	c, history, repaint := h.tracker.start(oldest, h.allowance.screen)
	before := make([]byte, history)
	if history > 0 && h.ring.kept.read(h.tracker.full.at-history, before) != nil {
		before = nil
	}
	if cut := bytes.IndexByte(before, '\n'); cut >= 0 { // its first line is none
		before = before[cut+1:]
	}
	return h.ring.reader(c.at), c.modes.prologue(before), repaint
}

// sendOutput returns at the terminal's end, when the client fell off the ring, and
// when it is gone. broken: a message may have broken off.
func (c *client) sendOutput() (gone, broken bool) {
	few := make([]byte, headRoom+fewBytes)
	var to *forwarding // nil: the client
	for buf := few; ; {
		n, err := c.place.read(buf[headRoom:])
		switch {
		case err != nil:
			return errors.Is(err, errLeft), false
		case n == 0:
			to, err = c.tell(to)
		case to == nil:
			putHead(buf[headRoom-frameHead:], frameOutput, n)
			_, err = c.conn.Write(buf[headRoom-frameHead : headRoom+n])
		default:
			err = to.send(buf[messageHead(buf, n) : headRoom+n])
		}
		if err != nil {
			return true, true
		}
		// Most viewers look at a prompt: a large buffer is for who needs it.
		switch {
		case n == fewBytes && len(buf) == len(few):
			buf = make([]byte, headRoom+outputBytes)
		case n < fewBytes:
			buf = few
		}
	}
}

// tell sends what is no output, and gives where output goes from now on.
func (c *client) tell(to *forwarding) (*forwarding, error) {
	news := c.news()
	c.host.mu.Lock()
	begins := to == nil && c.forward != nil
	between := c.between
	c.between = nil
	if begins {
		to = c.forward
	}
	c.host.mu.Unlock()
	if begins {
		c.place.pause() // until the client has passed on all that it got
		news = append(news, frameForward, 0, 0, 0)
	}
	if len(news) > 0 {
		if _, err := c.conn.Write(news); err != nil {
			return to, err
		}
	}
	if len(between) > 0 {
		if err := to.send(between); err != nil {
			return to, err
		}
	}
	return to, nil
}

// news are the frames that tell the client what it does not know yet.
func (c *client) news() (frames []byte) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	if w := c.host.window.is; w != c.told {
		c.told = w
		frames = append(frames, windowFrame(w)...)
	}
	if c.taken != c.known {
		c.known = c.taken
		frames = append(frames, takenFrame(c.known)...)
	}
	return frames
}

// takeInput returns when the client is gone. After the terminal's end input
// goes nowhere, but is still read, so that the client can go on reading.
func (c *client) takeInput(rest []byte) {
	defer c.endPaste()
	gone := func() bool { return hungUp(c.conn) }
	from := &fdReader{conn: c.conn}
	defer from.close()
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(rest), from))
	few := make([]byte, keyBytes)
	for {
		kind, length, err := readHead(r)
		if err != nil || length > inputBytes {
			return
		}
		p := few[:min(length, len(few))]
		if length > len(few) {
			p = make([]byte, length)
		}
		if _, err := io.ReadFull(r, p); err != nil {
			return
		}
		switch {
		case kind == frameInput:
			c.host.touch(c)
			c.paste.follow(p)
			if err := c.host.pty.write(p, gone); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, unix.EIO) {
				return
			}
			c.host.mu.Lock()
			c.taken++
			c.host.mu.Unlock()
			c.place.nudge()
		case kind == frameTouch && length == 0:
			c.host.touch(c)
		case kind == frameWindow && length == 4:
			c.host.mu.Lock()
			c.host.join(c, parseWindow(p))
			c.host.mu.Unlock()
		case kind == frameForward && length == 0:
			if c.beginForward(from.take()) != nil {
				return
			}
		case kind == frameLeave:
			c.host.mu.Lock()
			c.leaving = true
			c.host.mu.Unlock()
			return
		default:
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

// Bracketed paste: what the terminal of a viewer puts around a paste, if the
// program has asked for it (xterm's mode 2004).
const (
	pasteBegin = "\x1b[200~"
	pasteEnd   = "\x1b[201~"
	pasteMark  = "\x1b[20" // how both begin
)

// paste follows a client's input to know whether it is within a paste. One that
// is cut off has no end, and the program would take all that anybody types for
// more of it.
type paste struct {
	open bool
	tail []byte // the end of what came last, shorter than a mark
}

func (p *paste) follow(input []byte) {
	seen := append(p.tail, input...)
	begin, end := bytes.LastIndex(seen, []byte(pasteBegin)), bytes.LastIndex(seen, []byte(pasteEnd))
	if begin >= 0 || end >= 0 {
		p.open = begin > end
	}
	p.tail = append([]byte(nil), seen[max(0, len(seen)-len(pasteBegin)+1):]...)
}

// endPaste ends a paste in the place of a client that can't any more.
func (c *client) endPaste() {
	h := c.host
	h.tracking.Lock()
	wanted := h.tracker.modes.isSet(2004)
	h.tracking.Unlock()
	if !c.paste.open || !wanted {
		return
	}
	by := time.Now().Add(handshakeTimeout)
	_ = h.pty.write([]byte(pasteEnd), func() bool { return time.Now().After(by) }) // a program that reads nothing needs no end
}
