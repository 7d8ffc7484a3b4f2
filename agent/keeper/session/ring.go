package session

import (
	"errors"
	"io"
	"math"
	"sync"
	"time"
)

var (
	errFellBehind = errors.New("what the reader needs next has left the ring")
	errLeft       = errors.New("the reader has left")
)

// allowance is how long the writer of a ring waits for its readers, and how much
// it keeps behind them.
type allowance struct {
	// stall is how long a reader may take for one piece.
	stall time.Duration
	// shared is how long, in all until it has caught up, a reader may hold up
	// the writer while another reader has seen everything and waits for more.
	shared time.Duration
	// lost is how long the place of a reader that was cut off is kept.
	lost time.Duration
	// reserve is how much before a reader's place it may still ask for again:
	// what is on its way to it when it is cut off.
	reserve int64
	// screen is the most output that a viewer gets who has seen none yet.
	screen int64
}

// ring keeps the last bytes of an endless stream, whose bytes are numbered from
// 0 on.
//
// The writer waits for no reader until it would overwrite what one of them, or
// one that was just cut off, has not got yet; and then within the bounds of
// allowance. Without readers it never waits. The lock is held to copy one piece,
// at most. Safe for concurrent use by one writer and any number of readers.
type ring struct {
	allowance allowance

	mu     sync.Mutex
	news   sync.Cond // on mu: bytes were added, the ring was closed, a reader left or was nudged
	room   sync.Cond // on mu: a reader got further or left, the ring was closed
	kept   store
	end    int64 // how many bytes were ever written; kept are [oldest(), end)
	from   int64 // bytes before it are lost, although they would fit
	closed bool
	echo   []byte // the last piece that was added, if it is a small one

	readers map[*reader]struct{}
	lost    []lostPlace
	came    int  // readers so far
	waiting bool // the writer is
	hurried bool // it waits for nobody any more
	flood   bool // so much is written that readers had better take it in larger pieces
}

// lostPlace is where a reader was cut off, who may come back.
type lostPlace struct {
	from, next int64
	until      time.Time
}

func newRing(kept store, p allowance) *ring {
	r := &ring{kept: kept, allowance: p, readers: make(map[*reader]struct{})}
	r.allowance.reserve = min(p.reserve, int64(kept.size())/4)
	r.news.L, r.room.L = &r.mu, &r.mu
	return r
}

// oldest is the number of the first byte that is still kept. mu must be held.
func (r *ring) oldest() int64 { return max(r.from, r.end-int64(r.kept.size())) }

// write adds p, in pieces of which several fit into the ring beside the reserve.
func (r *ring) write(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		piece := p[:min(len(p), pieceBytes(r.kept.size()))]
		r.makeRoom(int64(len(piece)))
		if err := r.kept.write(r.end, piece); err != nil {
			r.useMemory()
			continue
		}
		r.end += int64(len(piece))
		if r.echo = r.echo[:0]; len(piece) <= echoBytes {
			r.echo = append(r.echo, piece...)
		}
		r.kept.mark(r.end)
		p = p[len(piece):]
		r.news.Broadcast()
	}
}

// pieceBytes is the most that is added at once to a ring of a size.
func pieceBytes(size int) int { return max(1, min(outputBytes, size/4)) }

// useMemory goes on without a disk that is full or broken, with what is left of
// the end of the stream. mu must be held.
func (r *ring) useMemory() {
	small := newMemoryStore(memoryBytes)
	from := max(r.oldest(), r.end-memoryBytes)
	tail := make([]byte, r.end-from)
	if r.kept.read(from, tail) == nil {
		_ = small.write(from, tail) // memory takes it
	} else {
		from = r.end
	}
	r.from = from
	r.kept.close()
	r.kept = small
	r.allowance.reserve = memoryBytes / 4
}

// makeRoom waits until n bytes more overwrite nothing that a reader may wait
// for. mu must be held.
func (r *ring) makeRoom(n int64) {
	before := time.Now()
	for !r.closed && !r.hurried {
		now := time.Now()
		if !r.held(r.end+n-int64(r.kept.size()), now, now.Sub(before)) {
			return
		}
		before = now
		r.waiting = true
		wake := time.AfterFunc(holdCheck, r.room.Broadcast)
		r.room.Wait()
		wake.Stop()
		r.waiting = false
	}
}

// held reports whether somebody may wait for bytes before limit, and gives up
// those whose time is over. passed is how long the writer has waited since it
// last asked. mu must be held.
func (r *ring) held(limit int64, now time.Time, passed time.Duration) bool {
	held, watched := false, false
	for d := range r.readers {
		watched = watched || d.next == r.end
	}
	for d := range r.readers {
		if d.gone || d.protects() >= limit {
			continue
		}
		if watched {
			d.held += passed
		}
		if now.Sub(d.progress) > r.allowance.stall || d.held > r.allowance.shared {
			d.gone = true
			r.news.Broadcast()
			continue
		}
		held = true
	}
	for n := 0; n < len(r.lost); {
		switch l := r.lost[n]; {
		case now.After(l.until):
			r.lost = append(r.lost[:n], r.lost[n+1:]...)
			continue
		case l.from < limit:
			held = true
		}
		n++
	}
	return held
}

// flooded says whether readers shall let larger pieces collect.
func (r *ring) flooded(is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flood = is
}

// hurry has the writer wait for nobody any more.
func (r *ring) hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hurried = true
	r.room.Broadcast()
}

// close marks the end of the stream; readers still get what is kept.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.news.Broadcast()
	r.room.Broadcast()
}

// total returns how many bytes were ever written.
func (r *ring) total() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

// reader is one client's place in the ring. All of it is guarded by ring.mu.
type reader struct {
	ring     *ring
	number   int  // in the order in which they came
	resumed  bool // it asked for the byte that it begins with
	start    int64
	next     int64     // the byte that is read next
	progress time.Time // when it last got some
	held     time.Duration
	left     bool // it wants no more
	gone     bool // the writer has given it up
	nudged   bool
	credit   int64 // it reads nothing from this byte on
}

// protects is the first byte that the reader may still need.
func (d *reader) protects() int64 { return max(d.start, d.next-d.ring.allowance.reserve) }

// reader starts at the asked byte as far as it is kept; see FromOldest and
// FromNow for negative numbers. leave must be called. mu must be held.
func (r *ring) reader(asked int64) *reader {
	start := min(max(asked, r.oldest()), r.end)
	if asked == FromNow {
		start = r.end
	}
	for n, l := range r.lost { // it is back
		if l.from <= start && start <= l.next {
			r.lost = append(r.lost[:n], r.lost[n+1:]...)
			r.room.Broadcast()
			break
		}
	}
	r.came++
	d := &reader{ring: r, number: r.came, start: start, next: start, progress: time.Now(), credit: math.MaxInt64}
	r.readers[d] = struct{}{}
	return d
}

// read waits for bytes and copies up to len(dst) of them; none when it was
// nudged. It returns io.EOF at the end of a closed ring, errFellBehind when the
// next byte is gone, and errLeft after leave. Only one goroutine may call it.
func (d *reader) read(dst []byte) (int, error) {
	r := d.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.next == r.end {
		d.held = 0
	}
	for !d.left && !d.nudged && !d.ready() {
		r.news.Wait()
	}
	if r.flood && r.end-d.next < gatherBytes && !r.closed && !d.left {
		r.mu.Unlock()
		time.Sleep(gatherTime)
		r.mu.Lock()
	}
	switch {
	case d.left:
		return 0, errLeft
	case d.nudged: // which is no progress: one without credit would else hold the writer for ever
		d.nudged = false
		return 0, nil
	case d.gone || d.next < r.oldest():
		return 0, errFellBehind
	case d.next == r.end:
		return 0, io.EOF
	}
	if kept := min(r.end, d.credit) - d.next; int64(len(dst)) > kept {
		dst = dst[:kept]
	}
	if at := d.next - (r.end - int64(len(r.echo))); at >= 0 { // no need to read it back
		copy(dst, r.echo[at:])
	} else if err := r.kept.read(d.next, dst); err != nil {
		return 0, errFellBehind
	}
	d.next += int64(len(dst))
	d.progress = time.Now()
	if r.waiting {
		r.room.Broadcast()
	}
	return len(dst), nil
}

// ready reports whether there is something to read, or to end for. mu must be held.
func (d *reader) ready() bool {
	switch {
	case d.gone || d.next < d.ring.oldest():
		return true
	case d.next == d.ring.end:
		return d.ring.closed
	}
	return d.next < d.credit
}

// pause has the reader read nothing until allow is called.
func (d *reader) pause() {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	d.credit = d.next
}

// allow has the reader read up to the byte number to. Any goroutine may call it.
func (d *reader) allow(to int64) {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	d.credit = max(to, d.next)
	d.ring.news.Broadcast()
}

// nudge has the reader's current or next read return. Any goroutine may call it.
func (d *reader) nudge() {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	d.nudged = true
	d.ring.news.Broadcast()
}

// stop has the reader's current and later reads end, before it leaves.
func (d *reader) stop() {
	d.ring.mu.Lock()
	defer d.ring.mu.Unlock()
	d.left = true
	d.ring.news.Broadcast()
}

// isBack reports whether somebody has already gone on where d was cut off. mu must
// be held.
func (r *ring) isBack(d *reader) bool {
	for other := range r.readers {
		if other.resumed && other.number > d.number && d.protects() <= other.start && other.start <= d.next {
			return true
		}
	}
	return false
}

// leave ends the reader's current and later reads. The place of one that was cut
// off is kept for a while. Any goroutine may call it.
func (d *reader) leave(cutOff bool) {
	r := d.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, here := r.readers[d]; here && cutOff && !d.gone && !r.closed && !r.isBack(d) {
		if len(r.lost) >= maxLost {
			r.lost = r.lost[1:]
		}
		r.lost = append(r.lost, lostPlace{from: d.protects(), next: d.next, until: time.Now().Add(r.allowance.lost)})
	}
	d.left = true
	delete(r.readers, d)
	r.news.Broadcast()
	r.room.Broadcast()
}
