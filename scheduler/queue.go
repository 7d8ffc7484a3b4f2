package scheduler

import (
	"context"
	"fmt"
	"time"

	"ecolink/ledger/store"
	"ecolink/scheduler/placement"
)

// Times of preemption.
const (
	// DefaultPreemptAfter is how long an instance keeps its GPUs before they can be
	// taken from it; twice as long after each time that it has happened, up to keptMax
	// unless it is longer from the start. So nobody is thrown out over and over before
	// anything is done.
	DefaultPreemptAfter = 5 * time.Minute
	keptMax             = time.Hour
	// preemptGrace is how long a preempted container has between SIGTERM and SIGKILL.
	preemptGrace = 30 * time.Second
	// stuckTime is how long a container that is to stop may take before nobody counts
	// on its GPUs any more.
	stuckTime = 2 * time.Minute
)

// place gives free GPUs to those who wait, and takes some from instances of a lower
// class when that is the way to make room. It is called in every transaction that
// frees GPUs or changes the queue, and from time to time: waiting counts.
func (s *Scheduler) place(tx *store.Tx, now time.Time) error {
	live, err := everyLive(tx)
	if err != nil {
		return err
	}
	plan := placement.Place(s.question(live, now))
	byID := map[int64]Instance{}
	for _, i := range live {
		byID[int64(i.ID)] = i
	}
	for _, a := range plan.Assign {
		i := byID[a.ID]
		reason := "GPUs assigned"
		if i.State == Preempted {
			reason = "GPUs are free again"
		}
		i.GPUs = a.UUIDs
		if _, err := apply(tx, i, occurrence{event: Assigned, now: now, reason: reason}); err != nil {
			return err
		}
	}
	for _, p := range plan.Preempt {
		reason := fmt.Sprintf("its GPUs went to a request of class %s", byID[p.For].Priority())
		if _, err := apply(tx, byID[p.Run], occurrence{event: Preempt, now: now, reason: reason}); err != nil {
			return err
		}
	}
	return nil
}

// question puts what is known of the box as placement asks it.
func (s *Scheduler) question(live []Instance, now time.Time) (q placement.Question) {
	busy := map[string]bool{}
	known := map[string]bool{}
	for _, g := range s.gpus {
		known[g.UUID] = true
	}
	for _, i := range live {
		has := 0
		for _, u := range i.GPUs {
			busy[u] = true
			if known[u] {
				has++
			}
		}
		switch {
		case i.waits():
			q.Queue = append(q.Queue, placement.Request{
				ID: int64(i.ID), Type: i.GPUType, Count: i.GPUCount, Class: i.Priority().rank(), Account: int64(i.Account),
				Waited: max(0, now.Sub(i.since())), Needs: i.Paid - i.Ran,
			})
		case has > 0 && !(i.stopping() && now.Sub(i.since()) > stuckTime):
			r := s.run(i, now)
			r.Count = has
			q.Runs = append(q.Runs, r)
		}
	}
	for _, g := range s.gpus {
		if !busy[g.UUID] {
			q.Free = append(q.Free, g)
		}
	}
	return q
}

// waits tells whether the instance is in the queue.
func (i Instance) waits() bool {
	return i.State == Pending || i.State == Preempted && len(i.GPUs) == 0
}

// stopping tells whether its container is to stop and its GPUs are nobody's then.
func (i Instance) stopping() bool { return !i.billable() || i.State == Preempted }

// run is an instance that has GPUs, as placement sees it.
func (s *Scheduler) run(i Instance, now time.Time) placement.Run {
	r := placement.Run{
		ID: int64(i.ID), Type: i.GPUType, Class: i.Priority().rank(), Account: int64(i.Account),
		EndsIn: max(0, i.Paid-i.RanBy(now)), Leaving: i.stopping(),
	}
	began := i.bringingUpSince()
	if i.State == Running {
		began = i.RunningSince
		r.Spell = max(0, now.Sub(began))
		// It is over anyway before it could be stopped.
		r.Leaving = r.EndsIn <= preemptGrace
	}
	// One that never ran has nothing to lose yet.
	if i.State == Running || i.Preemptions > 0 || i.Ran > 0 {
		r.KeptFor = max(0, keptFor(s.preemptAfter, i.Preemptions)-now.Sub(began))
	}
	// When nobody has looked for long, EcoLink was away or the clock was set. What it
	// really does is found out first: it may have ended long ago.
	if i.State == Running && now.Sub(i.SeenRunning).Abs() > 2*s.pace.heartbeat {
		r.KeptFor = max(r.KeptFor, s.pace.heartbeat)
	}
	return r
}

func keptFor(first time.Duration, preemptions int) time.Duration {
	return max(first, min(first<<min(preemptions, 10), keptMax))
}

// WithPreemptAfter sets another time than DefaultPreemptAfter; 0 is at once.
func WithPreemptAfter(d time.Duration) Option { return func(s *Scheduler) { s.preemptAfter = d } }

// park stops a preempted instance's container, and has its GPUs free then.
func (s *Scheduler) park(ctx, work context.Context, i Instance) (time.Duration, error) {
	if i.Ran >= i.Paid { // its hold was shortened meanwhile
		return 0, s.record(ctx, i, occurrence{event: Stop, reason: ReasonExpired})
	}
	if len(i.GPUs) == 0 {
		return untilKicked, nil
	}
	if err := s.machine.Stop(work, i.Workload(), preemptGrace); err != nil {
		err = fmt.Errorf("stop %s: %w", i.Workload(), err)
		if work.Err() == nil {
			s.noteProblem(ctx, i, err)
		}
		return 0, err
	}
	return 0, s.record(ctx, i, occurrence{event: Parked})
}

// keepPlacing looks from time to time whether those who wait can have GPUs: waiting
// counts, and who was safe from being preempted may not be any more.
func (s *Scheduler) keepPlacing(ctx context.Context) {
	tick := time.NewTicker(s.pace.placing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.placeAgain(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("who waits for GPUs could not be looked at; will be tried again", "err", err)
			}
		}
	}
}

// placeAgain writes only if there is something to do.
func (s *Scheduler) placeAgain(ctx context.Context) error {
	idle := true
	err := s.store.View(func(tx *store.Tx) error {
		live, err := everyLive(tx)
		if err != nil {
			return err
		}
		plan := placement.Place(s.question(live, time.Now()))
		idle = len(plan.Assign) == 0 && len(plan.Preempt) == 0
		return nil
	})
	if err != nil || idle {
		return err
	}
	return s.store.Update(ctx, func(tx *store.Tx) error { return s.place(tx, time.Now()) })
}

// Waiting says why an instance waits for GPUs, in a sentence; "" for others.
func (s *Scheduler) Waiting(i Instance) (sentence string, err error) {
	if !i.waits() {
		return "", nil
	}
	err = s.store.View(func(tx *store.Tx) error {
		live, err := everyLive(tx)
		if err != nil {
			return err
		}
		sentence = s.why(i, live, time.Now())
		return nil
	})
	return sentence, err
}

// why explains a wait by the plan that is followed.
func (s *Scheduler) why(i Instance, live []Instance, now time.Time) string {
	q := s.question(live, now)
	free := 0
	for _, g := range q.Free {
		if g.Type == i.GPUType {
			free++
		}
	}
	types := map[int64]string{}
	for _, r := range q.Queue {
		types[r.ID] = r.Type
	}
	sentence := fmt.Sprintf("waits for %d × %s, of which %d free now", i.GPUCount, i.GPUType, free)
	ahead := 0
	for _, w := range placement.Place(q).Waits {
		if w.ID != int64(i.ID) {
			if types[w.ID] == i.GPUType {
				ahead++
			}
			continue
		}
		switch {
		case w.Never:
			sentence += "; more than this box can give now, also when others end"
		case w.StartsIn == 0:
			sentence += "; the next are about to be free"
		case ahead > 0:
			sentence += fmt.Sprintf("; %d ahead in the queue", ahead)
		default:
			sentence += "; first in the queue"
		}
		if w.StartsIn > 0 && w.StartsIn != placement.Unknown {
			sentence += fmt.Sprintf(", in about %s if nobody extends or goes first", spell(max(w.StartsIn.Round(time.Minute), time.Minute)))
		}
		return sentence
	}
	return sentence // it is given GPUs at this moment
}
