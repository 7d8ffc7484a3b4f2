package store

import (
	"context"
	"sync"
	"sync/atomic"
)

// update is one caller's wish, waiting for the writer.
type update struct {
	fn     func(*Tx) error
	result chan outcome // buffered: the writer never waits for a caller
	state  atomic.Int32 // waiting, taken or gone
}

// States of an update in the queue. It leaves the first once: the writer takes it,
// or its caller goes.
const (
	waiting int32 = iota
	taken         // its fn may run at any moment, and its caller stays for the result
	gone          // its fn is never run
)

// newUpdate takes one that was used before, if there is one. They are kept for each
// store: under a test's clock a channel belongs to that test.
func (s *Store) newUpdate(fn func(*Tx) error) *update {
	u, _ := s.used.Get().(*update)
	if u == nil {
		u = &update{result: make(chan outcome, 1)}
	}
	u.fn = fn
	u.state.Store(waiting)
	return u
}

// finish gives the update's outcome to its caller. The update is not used again
// by either; one whose caller went is still in the queue, and left to the collector.
func (s *Store) finish(u *update, out outcome) error {
	u.fn = nil
	s.used.Put(u)
	if out.panicked != nil {
		panic(out.panicked)
	}
	return out.err
}

// outcome is what the writer tells a caller: an error, or a panic to go on with
// in the caller's own goroutine.
type outcome struct {
	done     bool // it has a result before the commit: it failed
	unwound  bool // it did not return: what it has done to Locals may be half of it
	err      error
	panicked *Panic
}

// queue has the updates that wait for the writer, in the order in which they came.
type queue struct {
	slots chan struct{} // one taken by each that waits: past queueLength, callers block
	wake  chan struct{} // buffered: there is something to do

	mu      sync.Mutex
	waiting []*update
	closed  bool
}

func newQueue() queue {
	return queue{slots: make(chan struct{}, queueLength), wake: make(chan struct{}, 1)}
}

// add puts an update at the end. Once it has, the update gets a result, unless its
// caller goes first.
func (q *queue) add(ctx context.Context, u *update) error {
	select {
	case q.slots <- struct{}{}:
	default:
		select {
		case q.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		<-q.slots
		return ErrClosed
	}
	if q.waiting = append(q.waiting, u); len(q.waiting) == 1 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// take moves updates from the front of the queue to the end of the group, until
// that has the given number. Those whose callers have gone are dropped.
func (q *queue) take(group []*update, most int) []*update {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for ; n < len(q.waiting) && len(group) < most; n++ {
		if u := q.waiting[n]; u.state.CompareAndSwap(waiting, taken) {
			group = append(group, u)
		}
	}
	left := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[left:])
	q.waiting = q.waiting[:left]
	for range n {
		<-q.slots
	}
	return group
}

// idle tells whether nobody waits and updates are accepted.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && !q.closed
}

// length is how many wait.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// close lets no more updates in.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	close(q.wake)
}
