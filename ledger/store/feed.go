package store

import (
	"slices"
	"sync"
)

// Change names a record that a commit wrote or deleted. It says that there is
// something to read again, not what.
type Change struct{ Bucket, Key string }

// feed tells watchers which records have changed. It never holds up the writer
// and never grows past one entry per changed record: a watcher that is slow
// finds several changes of one record folded into one.
type feed struct {
	mu       sync.Mutex
	watchers map[*Watch]struct{}
}

// Watch collects the changes of some buckets until they are taken.
type Watch struct {
	feed    *feed
	buckets []string
	ready   chan struct{}

	mu      sync.Mutex
	pending map[Change]struct{}
	order   []Change
}

// Watch begins to collect the changes that commits make to the named buckets.
// The caller must Close it.
func (s *Store) Watch(buckets ...string) *Watch {
	w := &Watch{feed: &s.feed, buckets: buckets, ready: make(chan struct{}, 1), pending: map[Change]struct{}{}}
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if s.feed.watchers == nil {
		s.feed.watchers = map[*Watch]struct{}{}
	}
	s.feed.watchers[w] = struct{}{}
	return w
}

// Ready receives a value when there is something to Take.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

// Take returns what has changed since the last Take, oldest first, each record once.
func (w *Watch) Take() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.order
	w.order = nil
	clear(w.pending)
	return out
}

// Close ends the watch.
func (w *Watch) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	delete(w.feed.watchers, w)
}

func (f *feed) publish(changes []Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		w.add(changes)
	}
}

func (w *Watch) add(changes []Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		if !slices.Contains(w.buckets, c.Bucket) {
			continue
		}
		if _, known := w.pending[c]; known {
			continue
		}
		w.pending[c] = struct{}{}
		w.order = append(w.order, c)
	}
	if len(w.order) > 0 {
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}
