package lease

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// queue has the records that are not in the journal yet, in their numbers' order.
type queue struct {
	mu       sync.Mutex
	records  []record
	unlogged int   // that only memory has
	err      error // of the last attempt to fold
	progress chan struct{}
	closing  bool // nothing more is admitted
	ended    bool // nothing more is folded

	begun   time.Time    // what oldest counts from: the box's clock may be set
	pressed atomic.Bool  // too much is in it, or it closes
	oldest  atomic.Int64 // since when its first record waits, in nanoseconds from begun

	wake chan struct{} // has a value when there is something to fold
}

func newQueue() *queue {
	q := &queue{progress: make(chan struct{}), wake: make(chan struct{}, 1), begun: time.Now()}
	q.note()
	return q
}

// add appends what has been written.
func (q *queue) add(records []record) {
	now := time.Now()
	for n := range records {
		records[n].queued = now
	}
	q.mu.Lock()
	q.records = append(q.records, records...)
	if records[0].wait != nil {
		q.unlogged += len(records)
	}
	q.note()
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next gives the records to fold next, and whether they are to be folded at once:
// there are enough, or somebody waits for them. They stay in the queue.
func (q *queue) next() (records []record, now bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.records), maxGroup)
	return q.records[:n:n], n == maxGroup || q.unlogged > 0
}

// folded takes the first n records out.
func (q *queue) folded(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.records[:n] {
		if wait := q.records[i].wait; wait != nil {
			q.unlogged--
			tell(wait, nil)
		}
	}
	clear(q.records[:n]) // their texts may go
	if q.records = q.records[n:]; len(q.records) == 0 {
		q.records = nil
	}
	q.err = nil
	q.moved()
}

// failed tells those who wait for a record of the first n that it is in memory
// only, and gives what others are to hear.
func (q *queue) failed(n int, err error) *BacklogError {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.records[:n] {
		if r := &q.records[i]; r.wait != nil {
			tell(r.wait, &UnsureError{Request: r.entry.RequestID, Cause: err})
		}
	}
	q.err = err
	q.moved()
	return q.late()
}

// tell answers a caller, unless it was told before.
func tell(wait chan error, err error) {
	select {
	case wait <- err:
	default:
	}
}

// moved lets those who wait for progress look again.
func (q *queue) moved() {
	close(q.progress)
	q.progress = make(chan struct{})
	q.note()
}

// note keeps what admit looks at first.
func (q *queue) note() {
	q.pressed.Store(q.closing || len(q.records) >= MaxBacklog || q.err != nil && q.unlogged > 0)
	if len(q.records) == 0 {
		q.oldest.Store(math.MaxInt64)
	} else {
		q.oldest.Store(int64(q.records[0].queued.Sub(q.begun)))
	}
}

// behind tells whether nothing is admitted now.
func (q *queue) behind() bool {
	return q.pressed.Load() || int64(time.Since(q.begun))-q.oldest.Load() > int64(MaxLag)
}

// admit waits while too much is in the queue.
func (q *queue) admit(ctx context.Context) error {
	for q.behind() {
		q.mu.Lock()
		late, progress, closing, behind := q.late(), q.progress, q.closing, q.behind()
		q.mu.Unlock()
		switch {
		case closing:
			return ErrClosed
		case !behind:
			return nil
		case late.Cause != nil:
			return late
		}
		select {
		case <-progress:
		case <-ctx.Done():
			late.Cause = ctx.Err()
			return late
		}
	}
	return nil
}

// shut admits nothing more.
func (q *queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing = true
	q.moved()
}

// end says that nothing more is folded.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.moved()
}

// late says that records wait. The queue is locked.
func (q *queue) late() *BacklogError {
	e := &BacklogError{Records: len(q.records), Cause: q.err}
	if len(q.records) > 0 {
		e.Oldest = time.Since(q.records[0].queued)
	}
	return e
}

// drained waits until all that is in the queue now is in the journal.
func (q *queue) drained(ctx context.Context) error {
	var last int64
	for {
		q.mu.Lock()
		if len(q.records) == 0 || last > 0 && q.records[0].number > last {
			q.mu.Unlock()
			return nil
		}
		if last == 0 {
			last = q.records[len(q.records)-1].number
		}
		if q.ended {
			defer q.mu.Unlock()
			return q.late()
		}
		progress := q.progress
		q.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
