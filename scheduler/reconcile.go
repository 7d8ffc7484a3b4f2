package scheduler

import (
	"context"
	"fmt"
	"time"

	"ecolink/agent"
	"ecolink/ledger/store"
)

// untilKicked is the wait of a step that nothing but a change can follow.
const untilKicked = time.Duration(-1)

// step does the one thing that the instance's state asks for. It returns how long
// to wait before looking again: zero is at once. Work on the machine runs under
// work, which ends when the state changes underneath; records are written
// under ctx.
func (s *Scheduler) step(ctx, work context.Context, i Instance) (time.Duration, error) {
	switch i.State {
	case Pending:
		return untilKicked, nil
	case Pulling, Starting:
		return 0, s.bringUp(ctx, work, i)
	case Running:
		return s.keepRunning(ctx, work, i)
	case Preempted:
		return s.park(ctx, work, i)
	case Terminating, Failed:
		if err := s.machine.Remove(work, i.Workload(), stopGrace); err != nil {
			return 0, fmt.Errorf("remove %s: %w", i.Workload(), err)
		}
		return 0, s.record(ctx, i, occurrence{event: Cleaned, reason: i.TerminationReason})
	default:
		return untilKicked, nil
	}
}

// bringUp takes an instance that has its GPUs a step towards running.
func (s *Scheduler) bringUp(ctx, work context.Context, i Instance) error {
	limit := i.bringingUpSince().Add(watchdogTime)
	work, cancel := context.WithDeadline(work, limit)
	defer cancel()
	var done occurrence
	var reason string
	var err error
	if i.State == Pulling {
		done, reason = occurrence{event: Pulled, reason: "image is here"}, ReasonImage
		err = s.machine.PullImage(work, s.imageOf(i), func(p agent.PullProgress) { s.setProgress(i.ID, p) })
		s.clearProgress(i.ID)
	} else {
		var seen agent.Observation
		reason = ReasonStart
		seen, err = s.machine.Run(work, s.workload(i))
		done = started(seen)
	}
	switch {
	case err == nil:
		return s.record(ctx, i, done)
	case ctx.Err() != nil:
		return ctx.Err()
	case !time.Now().Before(limit):
		return s.watchdog(ctx, i, err)
	case permanent(err):
		return s.record(ctx, i, occurrence{event: Fail, reason: reason, detail: err.Error()})
	case work.Err() != nil:
		return work.Err()
	default:
		s.noteProblem(ctx, i, err)
		return err
	}
}

func started(seen agent.Observation) occurrence {
	return occurrence{event: Started, at: seen.StartedAt, reason: "container runs", bootID: seen.BootID}
}

// watchdog decides about an instance that took too long, by what the machine
// really has.
func (s *Scheduler) watchdog(ctx context.Context, i Instance, cause error) error {
	seen, err := s.machine.Observe(ctx, i.Workload())
	if err != nil {
		return fmt.Errorf("watchdog: observe %s: %w", i.Workload(), err)
	}
	if seen.Presence == agent.Running {
		return s.record(ctx, i, started(seen))
	}
	return s.record(ctx, i, occurrence{event: Fail, reason: ReasonWatchdog,
		detail: fmt.Sprintf("not running within %s; last error: %v. What it did not run is refunded", watchdogTime, cause)})
}

// keepRunning compares a running instance with the machine and the clock.
func (s *Scheduler) keepRunning(ctx, work context.Context, i Instance) (time.Duration, error) {
	now, deadline := time.Now(), i.Deadline()
	seen, err := s.machine.Observe(work, i.Workload())
	if work.Err() != nil {
		return 0, work.Err()
	}
	// Nothing outlives a reboot. That is known also while containerd is not there
	// yet, and the time without power is not to be billed meanwhile.
	rebooted := err != nil && seen.BootID != "" && seen.BootID != i.BootID
	if rebooted || err == nil && seen.Presence != agent.Running {
		return 0, s.ended(ctx, i, seen)
	}
	if err == nil && !seen.StartedAt.IsZero() && seen.StartedAt.Sub(i.RunningSince).Abs() > clockStep {
		return 0, s.setClock(ctx, i, seen.StartedAt, now)
	}
	if !now.Before(deadline) {
		return 0, s.record(ctx, i, occurrence{event: Stop, reason: ReasonExpired})
	}
	if err != nil {
		return 0, fmt.Errorf("observe %s: %w", i.Workload(), err)
	}
	if err := s.noteEvents(ctx, i, seen); err != nil {
		return 0, err
	}
	if now.Sub(i.SeenRunning) >= s.pace.heartbeat {
		if err := s.noteSeen(ctx, i.ID, now); err != nil {
			return 0, err
		}
	}
	return min(deadline.Sub(now), s.pace.heartbeat), nil
}

// ended records that a container is not running any more: by itself, or because
// the box was restarted under it.
func (s *Scheduler) ended(ctx context.Context, i Instance, seen agent.Observation) error {
	end := occurrence{event: Exited, at: seen.ExitedAt, reason: ReasonExited, seen: &seen}
	if seen.Presence != agent.Exited && seen.BootID != i.BootID {
		end = occurrence{event: Rebooted, reason: "the box was restarted"}
	}
	if end.at.IsZero() { // nobody saw its end: bill what was seen, in the account's favour
		end.at = i.SeenRunning
	}
	s.log.Info("container ended", "instance", i.ID, "presence", seen.Presence, "code", seen.ExitCode, "event", end.event)
	return s.record(ctx, i, end)
}

// record applies an event to the instance as it is in the database now, if it is
// still in the state that the event is about.
func (s *Scheduler) record(ctx context.Context, i Instance, o occurrence) error {
	o.now = time.Now()
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		fresh, err := get(tx, i.ID)
		if err != nil {
			return err
		}
		paidMore := o.reason == ReasonExpired && o.now.Before(fresh.Deadline())
		if fresh.State != i.State || paidMore {
			return errStale{i.ID, fresh.State, o.event}
		}
		_, err = s.occur(tx, fresh, o)
		return err
	})
	if err != nil {
		return err
	}
	st, _ := next(i.State, o.event)
	s.log.Info("instance", "instance", i.ID, "state", st.to, "event", o.event, "reason", o.reason, "detail", o.detail)
	return nil
}

func (s *Scheduler) noteSeen(ctx context.Context, id InstanceID, now time.Time) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		i, err := get(tx, id)
		if err != nil || i.State != Running {
			return err
		}
		i.SeenRunning = now.UTC()
		return put(tx, i)
	})
}

// setClock moves the beginning of a spell with the box's clock, which somebody has
// put right: the machine knows how long the container has run without it, and
// neither the bill nor the deadline may take the difference for running time.
func (s *Scheduler) setClock(ctx context.Context, i Instance, started, now time.Time) error {
	s.log.Warn("the box's clock was set; a running instance's time is kept", "instance", i.ID, "by", started.Sub(i.RunningSince).Round(time.Second))
	return s.store.Update(ctx, func(tx *store.Tx) error {
		fresh, err := get(tx, i.ID)
		if err != nil || fresh.State != Running || !fresh.RunningSince.Equal(i.RunningSince) {
			return err
		}
		fresh.RunningSince, fresh.SeenRunning = started.UTC(), now.UTC()
		return put(tx, fresh)
	})
}

// noteProblem tells the user why it takes so long. It is tried again whatever
// becomes of the note.
func (s *Scheduler) noteProblem(ctx context.Context, i Instance, cause error) {
	if i.Problem == cause.Error() {
		return
	}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		fresh, err := get(tx, i.ID)
		if err != nil || fresh.State != i.State {
			return err
		}
		fresh.Problem = cause.Error()
		return put(tx, fresh)
	})
	if err != nil {
		s.log.Warn("a problem could not be noted", "instance", i.ID, "err", err)
	}
}

// bringingUpSince is when the instance last began to be brought up.
func (i Instance) bringingUpSince() time.Time {
	at := i.since()
	for n := len(i.History) - 1; n >= 0; n-- {
		if st := i.History[n].State; st != Pulling && st != Starting {
			break
		}
		at = i.History[n].At
	}
	return at
}

func (s *Scheduler) workload(i Instance) agent.Workload {
	return withJupyter(agent.Workload{
		ID: i.Workload(), Image: i.Image, ImageDigest: i.ImageDigest, ImageLogin: s.imageOf(i).Login, Hostname: i.Name, Command: i.Command, Env: i.Env, GPUs: i.GPUs,
		Resources: i.Resources, Mounts: i.mounts(),
		Labels: map[string]string{
			"ecolink.instance": fmt.Sprint(i.ID),
			"ecolink.account":  fmt.Sprint(i.Account),
			"ecolink.name":     i.Name,
		},
	}, i)
}
