package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"ecolink/ledger/store"
)

// worker brings one live instance from where it is to where it should be. There
// is at most one for an instance, so that the machine is never told two things
// about it at once.
type worker struct {
	id     InstanceID
	kicked chan struct{} // buffered: something may have happened to its workload
	retry  chan struct{} // buffered: the machine is back, and what failed may work now

	// States are told apart by how many changes the record has had: so it is
	// known which of two is the newer.
	mu        sync.Mutex
	told      int                // the changes that the news knows of
	stepping  int                // those that the present step knows of
	interrupt context.CancelFunc // ends the present step's work on the machine
}

// wake sees to it that an instance whose record has changed is looked at.
func (s *Scheduler) wake(ctx context.Context, id InstanceID) {
	var i Instance
	err := s.store.View(func(tx *store.Tx) (err error) { i, err = get(tx, id); return err })
	if err != nil {
		s.log.Error("an instance can't be read", "instance", id, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.workers[id]
	if w == nil {
		if !i.live() {
			return
		}
		w = &worker{id: id, kicked: make(chan struct{}, 1), retry: make(chan struct{}, 1)}
		s.workers[id] = w
		s.running.Go(func() { s.work(ctx, w) })
	}
	w.changed(len(i.History))
}

// kick has the worker of a workload look again; "" means every worker.
func (s *Scheduler) kick(workload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.workers {
		if workload == "" || workload == (Instance{ID: id}).Workload() {
			signal(w.kicked)
		}
		if workload == "" {
			signal(w.retry)
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// changed tells the worker how often the record's state has changed. A step that
// works on an older state is cut short: a pull is given up when its instance is
// terminated.
func (w *worker) changed(changes int) {
	w.mu.Lock()
	w.told = changes
	if w.interrupt != nil && w.stepping < changes {
		w.interrupt()
	}
	w.mu.Unlock()
	signal(w.kicked)
}

// begin notes what the step works on. The record may have changed since it was
// read: then the step is cut short before it begins. News that is older than the
// record cuts nothing short: it is of what the worker itself has just done.
func (w *worker) begin(changes int, interrupt context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stepping, w.interrupt = changes, interrupt
	if changes < w.told {
		interrupt()
	}
}

func (w *worker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupt = nil
}

// work looks at the instance and acts, until it is over or ctx ends.
func (s *Scheduler) work(ctx context.Context, w *worker) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.workers, w.id)
		delete(s.progress, w.id)
	}()
	for failures := 0; ctx.Err() == nil; {
		var i Instance
		err := s.store.View(func(tx *store.Tx) (err error) { i, err = get(tx, w.id); return err })
		if err == nil && !i.live() {
			return
		}
		wait := time.Duration(0)
		step, cancel := context.WithCancel(ctx)
		if err == nil {
			w.begin(len(i.History), cancel)
			wait, err = s.step(ctx, step, i)
		}
		var stale errStale
		switch {
		case step.Err() != nil || errors.As(err, &stale):
			// The record has changed meanwhile: look again.
		case err == nil:
			failures = 0
			sleep(step, w.kicked, wait)
		default:
			wait = min(retryMin<<min(failures, 10), retryMax)
			failures++
			s.log.Warn("will try again", "instance", w.id, "state", i.State, "in", wait, "err", err)
			// Not until kicked: a failed attempt makes events of its own, and
			// noting the problem changes the record.
			sleep(step, w.retry, wait)
		}
		w.end()
		cancel()
	}
}

// sleep waits until there may be something to do: wait is over (below zero:
// never), somebody calls, or the state has changed, which ends step.
func sleep(step context.Context, called <-chan struct{}, wait time.Duration) {
	if wait == 0 {
		return
	}
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-step.Done():
	case <-called:
	case <-timer:
	}
}
