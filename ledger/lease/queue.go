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
	since    []batchTime // when they came, oldest first
	unlogged int         // that only memory has
	err      error       // of the last attempt to fold
	progress chan struct{}

	pressed atomic.Bool  // too much is in it
	oldest  atomic.Int64 // since when its first record waits

	wake chan struct{} // has a value when there is something to fold
}

// batchTime is when the records up to a number came.
type batchTime struct {
	last int64
	at   time.Time
}

func newQueue() *queue {
	q := &queue{progress: make(chan struct{}), wake: make(chan struct{}, 1)}
	q.note()
	return q
}

// add appends what has been written.
func (q *queue) add(records []record) {
	now := time.Now()
	q.mu.Lock()
	q.records = append(q.records, records...)
	q.since = append(q.since, batchTime{records[len(records)-1].number, now})
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
	last := q.records[n-1].number
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
	gone := 0
	for gone < len(q.since) && q.since[gone].last <= last {
		gone++
	}
	q.since = q.since[gone:]
	q.err = nil
	q.moved()
}

// failed tells those who wait for a record of the first n that it is in memory only.
func (q *queue) failed(n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.records[:n] {
		if r := &q.records[i]; r.wait != nil {
			tell(r.wait, &UnsureError{Request: r.entry.RequestID, Cause: err})
		}
	}
	q.err = err
	q.moved()
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
	q.pressed.Store(len(q.records) >= MaxBacklog || q.err != nil && q.unlogged > 0)
	if len(q.since) == 0 {
		q.oldest.Store(math.MaxInt64)
	} else {
		q.oldest.Store(q.since[0].at.UnixNano())
	}
}

// admit waits while too much is in the queue.
func (q *queue) admit(ctx context.Context, now time.Time) error {
	if !q.pressed.Load() && now.UnixNano()-q.oldest.Load() <= int64(MaxLag) {
		return nil
	}
	for {
		q.mu.Lock()
		if len(q.records) == 0 {
			q.mu.Unlock()
			return nil
		}
		age := time.Since(q.since[0].at)
		full := len(q.records) >= MaxBacklog || age > MaxLag
		if !full && (q.unlogged == 0 || q.err == nil) {
			q.mu.Unlock()
			return nil
		}
		late := q.late()
		progress := q.progress
		q.mu.Unlock()
		if late.Cause != nil {
			return late
		}
		select {
		case <-progress:
		case <-ctx.Done():
			late.Cause = ctx.Err()
			return late
		}
	}
}

// step is closed with the next attempt to fold.
func (q *queue) step() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.progress
}

// await waits for a step; if it failed, it says why.
func (q *queue) await(ctx context.Context, step <-chan struct{}) error {
	select {
	case <-step:
	case <-ctx.Done():
		return ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		return nil
	}
	return q.late()
}

// late says that records wait. The queue is locked.
func (q *queue) late() *BacklogError {
	e := &BacklogError{Records: len(q.records), Cause: q.err}
	if len(q.since) > 0 {
		e.Oldest = time.Since(q.since[0].at)
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
		progress := q.progress
		q.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
