package nvml

import (
	"log/slog"
	"sync"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// EventKind says what happened to a GPU.
type EventKind string

// The kinds. A model has some of them. Changes of the performance state are left
// out: a GPU in use makes them all the time.
const (
	EventXID            EventKind = "xid"
	EventCorrectedECC   EventKind = "corrected_ecc"
	EventUncorrectedECC EventKind = "uncorrected_ecc"
	EventClock          EventKind = "clock"
	EventPowerSource    EventKind = "power_source"
	EventMIGChange      EventKind = "mig_change"
)

// eventKinds are the kinds by NVML's bit.
func eventKinds() map[uint64]EventKind {
	return map[uint64]EventKind{
		gonvml.EventTypeXidCriticalError:  EventXID,
		gonvml.EventTypeSingleBitEccError: EventCorrectedECC,
		gonvml.EventTypeDoubleBitEccError: EventUncorrectedECC,
		gonvml.EventTypeClock:             EventClock,
		gonvml.EventTypePowerSourceChange: EventPowerSource,
		gonvml.EventMigConfigChange:       EventMIGChange,
	}
}

// Event is something that happened to a GPU.
type Event struct {
	UUID string    `json:"uuid"` // of the GPU, for a MIG device's event too
	Kind EventKind `json:"kind"`
	// XID is the code of an EventXID; health.UnknownXID when the driver can't tell.
	XID  uint64    `json:"xid,omitempty"`
	Time time.Time `json:"time"` // UTC, when the driver handed it over
	// GPUInstance and ComputeInstance are NVIDIA's ids of the MIG device whose program
	// caused an EventXID. Nil: the whole GPU, or unknown.
	GPUInstance     *uint32 `json:"gpu_instance,omitempty"`
	ComputeInstance *uint32 `json:"compute_instance,omitempty"`
}

// Watcher hands on what the driver reports of its GPUs, by Library.Watch.
type Watcher struct {
	library *Library
	log     *slog.Logger
	events  chan Event
	closing chan struct{} // closed by Close
	once    sync.Once
	done    chan struct{} // closed when the watcher's goroutine has ended

	set   *eventSet                // nil: none could be made
	names map[gonvml.Device]string // the UUIDs of all GPUs that were ever registered
	said  map[string]string        // the trouble that was logged last, by step; empty: it is well

	mu    sync.Mutex // guards taken, which a wait that hung may still add to
	taken []rawEvent // what waits brought and is not handed on yet
}

// Watch begins to watch the events of all GPUs: those that are there and, within
// 10 seconds, those that come, come back or take another's place. What went on
// before is not reported, and after trouble with the driver an event may come
// twice. A driver or GPU without events is logged once and tried again. The caller
// must Close the watcher; closing the Library does so as well.
func (l *Library) Watch(log *slog.Logger) *Watcher {
	w := &Watcher{
		library: l, log: log, names: map[gonvml.Device]string{}, said: map[string]string{},
		events:  make(chan Event, maxEvents),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	if !l.watching.add(w) {
		w.once.Do(func() { close(w.closing) })
	}
	go w.run()
	return w
}

// Events is where the events come, in the order in which the driver gave them. It
// is closed after Close. While nobody reads and the channel is full (256), further
// events wait in the driver, which drops them when its own queue is full.
func (w *Watcher) Events() <-chan Event { return w.events }

// Close ends the watching and waits for it: half a second, or some seconds while
// the driver hangs. Events that nobody has read yet can still be read. Closing again
// does nothing. It is safe for concurrent use.
func (w *Watcher) Close() {
	w.once.Do(func() { close(w.closing) })
	<-w.done
	w.library.watching.remove(w)
}

// watching are the watchers of a Library.
type watching struct {
	waiting waiting

	mu       sync.Mutex
	closed   bool
	watchers map[*Watcher]bool
}

// add reports false after close.
func (s *watching) add(w *Watcher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.watchers == nil {
		s.watchers = map[*Watcher]bool{}
	}
	s.watchers[w] = true
	return true
}

func (s *watching) remove(w *Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
}

// close closes all watchers. It names a subject that still owes an answer.
func (s *watching) close() (subject string, ok bool) {
	s.mu.Lock()
	s.closed = true
	var all []*Watcher
	for w := range s.watchers {
		all = append(all, w)
	}
	s.mu.Unlock()
	for _, w := range all {
		w.Close()
	}
	return s.waiting.any()
}
