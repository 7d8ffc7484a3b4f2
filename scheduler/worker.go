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
	kicked chan struct{} // buffered: something may have happened

	mu        sync.Mutex
	told      State              // the newest that changed was told, "" before
	state     State              // that the present step began with
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
		w = &worker{id: id, kicked: make(chan struct{}, 1)}
		s.workers[id] = w
		s.running.Go(func() { s.work(ctx, w) })
	}
	w.changed(i.State)
}

// kick has the worker of a workload look again; "" means every worker.
func (s *Scheduler) kick(workload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.workers {
		if workload == "" || workload == (Instance{ID: id}).Workload() {
			w.kick()
		}
	}
}

func (w *worker) kick() {
	select {
	case w.kicked <- struct{}{}:
	default:
	}
}

// changed tells the worker the state in the record. A step that works on another
// state is cut short: a pull is given up when its instance is terminated.
func (w *worker) changed(st State) {
	w.mu.Lock()
	w.told = st
	if w.interrupt != nil && w.state != st {
		w.interrupt()
	}
	w.mu.Unlock()
	w.kick()
}

// begin notes what the step works on. The record may have changed since it was
// read: then the step is cut short before it begins.
func (w *worker) begin(st State, interrupt context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.interrupt = st, interrupt
	if w.told != "" && w.told != st {
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
	failures := 0
	for ctx.Err() == nil {
		var i Instance
		err := s.store.View(func(tx *store.Tx) (err error) { i, err = get(tx, w.id); return err })
		if err == nil && !i.live() {
			return
		}
		wait := time.Duration(0)
		if err == nil {
			step, cancel := context.WithCancel(ctx)
			w.begin(i.State, cancel)
			wait, err = s.step(ctx, step, i)
			w.end()
			interrupted := step.Err() != nil
			cancel()
			if interrupted {
				continue
			}
		}
		var stale errStale
		switch {
		case err == nil:
			failures = 0
		case errors.As(err, &stale):
			continue // somebody else was quicker: look again
		default:
			wait = min(retryMin<<min(failures, 10), retryMax)
			failures++
			s.log.Warn("will try again", "instance", w.id, "state", i.State, "in", wait, "err", err)
		}
		if wait == 0 {
			continue
		}
		s.sleep(ctx, w, wait)
	}
}

// sleep waits until there may be something to do: wait is over (below zero: never)
// or the worker is kicked.
func (s *Scheduler) sleep(ctx context.Context, w *worker, wait time.Duration) {
	var timer <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-w.kicked:
	case <-timer:
	}
}
