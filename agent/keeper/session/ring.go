package session

import (
	"errors"
	"io"
	"sync"
)

var (
	errFellBehind = errors.New("what the reader needs next has left the ring")
	errLeft       = errors.New("the reader has left")
)

// ring keeps the last len(buf) bytes of an endless stream, whose bytes are
// numbered from 0 on.
//
// The writer never waits for a reader: the lock is held to copy one chunk, at
// most. Safe for concurrent use by one writer and any number of readers.
type ring struct {
	mu     sync.Mutex
	news   sync.Cond // on mu: bytes were added, the ring was closed, a reader left
	buf    []byte
	end    int64 // how many bytes were ever written; kept are [oldest(), end)
	closed bool
}

func newRing(size int) *ring {
	r := &ring{buf: make([]byte, size)}
	r.news.L = &r.mu
	return r
}

// oldest is the number of the first byte that is still kept. mu must be held.
func (r *ring) oldest() int64 { return max(0, r.end-int64(len(r.buf))) }

// write adds p, which may be longer than the ring.
func (r *ring) write(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if over := len(p) - len(r.buf); over > 0 {
		r.end += int64(over)
		p = p[over:]
	}
	at := int(r.end % int64(len(r.buf)))
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.end += int64(len(p))
	r.news.Broadcast()
}

// close marks the end of the stream; readers still get what is kept.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.news.Broadcast()
}

// total returns how many bytes were ever written.
func (r *ring) total() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

// reader is one client's place in the ring.
type reader struct {
	ring *ring
	next int64 // the byte that is read next
	left bool  // guarded by ring.mu
}

// reader starts at the asked byte as far as it is kept; see FromOldest and
// FromNow for negative numbers.
func (r *ring) reader(asked int64) *reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := min(max(asked, r.oldest()), r.end)
	if asked == FromNow {
		start = r.end
	}
	return &reader{ring: r, next: start}
}

// read waits for bytes and copies up to len(dst) of them. It returns io.EOF at
// the end of a closed ring, errFellBehind when the next byte is gone, and
// errLeft after leave. Only one goroutine may call it.
func (d *reader) read(dst []byte) (int, error) {
	r := d.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	for d.next == r.end && !r.closed && !d.left {
		r.news.Wait()
	}
	switch {
	case d.left:
		return 0, errLeft
	case d.next < r.oldest():
		return 0, errFellBehind
	case d.next == r.end:
		return 0, io.EOF
	}
	if kept := r.end - d.next; int64(len(dst)) > kept {
		dst = dst[:kept]
	}
	at := int(d.next % int64(len(r.buf)))
	n := copy(dst, r.buf[at:])
	n += copy(dst[n:], r.buf)
	d.next += int64(n)
	return n, nil
}

// leave ends the reader's current and later reads. Any goroutine may call it.
func (d *reader) leave() {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	d.left = true
	d.ring.news.Broadcast()
}
