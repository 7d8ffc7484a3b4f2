package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

// volumeWorker makes what the machine has of one drive be what its record says.
// There is one while there is something to do, so that the machine is never told
// two things about a volume at once.
type volumeWorker struct {
	kicked chan struct{} // buffered: the record has changed

	// tried is for how long the present work has been tried in vain by this process,
	// as far as the record does not know it. Only its own goroutine uses it.
	tried time.Duration
}

// wakeVolume sees to it that a drive whose record has changed is looked at.
func (s *Scheduler) wakeVolume(ctx context.Context, id DriveID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.volumes[id]
	if w == nil {
		w = &volumeWorker{kicked: make(chan struct{}, 1)}
		s.volumes[id] = w
		s.running.Go(func() { s.workOnVolume(ctx, id, w) })
	}
	signal(w.kicked)
}

// wakeVolumes takes up what an earlier process left to be done.
func (s *Scheduler) wakeVolumes(ctx context.Context) error {
	var working []DriveID
	err := s.store.View(func(tx *store.Tx) (err error) { working, err = drives.Working(tx); return err })
	if err != nil {
		return fmt.Errorf("take up drives: %w", err)
	}
	for _, id := range working {
		s.wakeVolume(ctx, id)
	}
	return nil
}

// retire ends a worker that has nothing to do, unless it has been called meanwhile.
func (s *Scheduler) retire(id DriveID, w *volumeWorker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(w.kicked) > 0 {
		return false
	}
	delete(s.volumes, id)
	return true
}

// workOnVolume does one piece of work after the other, until there is none or ctx
// ends.
func (s *Scheduler) workOnVolume(ctx context.Context, id DriveID, me *volumeWorker) {
	for failures := 0; ctx.Err() == nil; {
		select {
		case <-me.kicked:
		default:
		}
		var d drives.Drive
		var known bool
		err := s.store.View(func(tx *store.Tx) (err error) { d, known, err = drives.Read(tx, id); return err })
		if err == nil {
			w, busy := d.Work()
			if !known || !busy { // it was deleted long ago, or has all that is wanted
				if s.retire(id, me) {
					return
				}
				continue
			}
			err = s.volumeStep(ctx, me, d, w)
		}
		if err == nil {
			failures, me.tried = 0, 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		wait := min(retryMin<<min(failures, 10), retryMax)
		failures++
		s.log.Warn("will try again", "drive", id, "state", d.State, "in", wait, "err", err)
		sleep(ctx, nil, wait) // not until kicked: noting the problem changes the record
		me.tried += wait
	}
}

// volumeStep does a piece of work and records what came of it. After an error it is
// to be tried again. What counts for the watchdog is the time in which it is tried:
// neither that in which it waits for its turn, nor that in which the box is down.
func (s *Scheduler) volumeStep(ctx context.Context, me *volumeWorker, d drives.Drive, w drives.Work) error {
	done, err := s.volumeTurns.take(ctx, d.Account)
	if err != nil {
		return err
	}
	defer done()
	begun := time.Now()
	r, err := s.onVolume(ctx, d, w)
	me.tried += time.Since(begun)
	var later *agent.VolumeGrowLaterError
	if errors.As(err, &later) { // it has the room, and its files will
		r, err = drives.Result{Notice: "it has its new size once all have detached it and it is attached again: this machine can't enlarge what is in use"}, nil
	}
	if err == nil {
		err = s.store.Update(ctx, func(tx *store.Tx) error { return drives.Done(tx, d.ID, w, r, time.Now()) })
		if err == nil {
			s.log.Info("drive", "drive", d.ID, "done", w.Job, "gb", w.GB, "snapshot", w.Snapshot)
		}
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	hopeless := permanent(err) || d.Tried+me.tried >= watchdogTime
	if w.Job == drives.JobDelete || w.Job == drives.JobDropSnapshot || !hopeless {
		s.noteDrive(ctx, me, d, w, err)
		return err
	}
	return s.giveUpVolume(ctx, d, w, err)
}

// onVolume has the machine do a piece of work.
func (s *Scheduler) onVolume(ctx context.Context, d drives.Drive, w drives.Work) (r drives.Result, err error) {
	id := d.Volume()
	switch w.Job {
	case drives.JobCreate:
		err = s.machine.CreateVolume(ctx, id, w.GB*drives.BytesPerGB)
	case drives.JobClone:
		var source string
		if source, err = s.volumeOf(w.From); err == nil {
			err = s.machine.CloneVolume(ctx, source, w.Snapshot, id)
		}
	case drives.JobGrow:
		err = s.machine.GrowVolume(ctx, id, w.GB*drives.BytesPerGB)
	case drives.JobRestore:
		err = s.machine.RestoreVolume(ctx, id, w.Snapshot)
	case drives.JobSnapshot:
		r.Bytes, err = s.takeSnapshot(ctx, id, w.Snapshot)
	case drives.JobDropSnapshot:
		err = s.machine.DeleteVolumeSnapshot(ctx, id, w.Snapshot)
	case drives.JobDelete:
		err = s.machine.DeleteVolume(ctx, id)
	default:
		err = fmt.Errorf("nobody knows how to %s a drive", w.Job)
	}
	return r, err
}

// takeSnapshot makes a snapshot, and tells what it takes of the disk.
func (s *Scheduler) takeSnapshot(ctx context.Context, id, name string) (bytes int64, err error) {
	if err := s.machine.SnapshotVolume(ctx, id, name); err != nil {
		return 0, err
	}
	there, err := s.machine.VolumeSnapshots(ctx, id)
	if err != nil {
		return 0, err
	}
	for _, snapshot := range there {
		if snapshot.Name == name {
			return snapshot.UsedBytes, nil
		}
	}
	return 0, fmt.Errorf("the snapshot %s of %s was made and is not there", name, id)
}

func (s *Scheduler) volumeOf(id DriveID) (name string, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		d, ok, err := drives.Read(tx, id)
		if err == nil && !ok {
			err = fmt.Errorf("drive %d has no record", id)
		}
		name = d.Volume()
		return err
	})
	return name, err
}

// giveUpVolume records that a piece of work can't be done. Of a drive or a snapshot
// that can't be made nothing stays on the machine: an earlier attempt may have got
// further than this one. What has grown stays so.
func (s *Scheduler) giveUpVolume(ctx context.Context, d drives.Drive, w drives.Work, why error) (err error) {
	switch w.Job {
	case drives.JobCreate, drives.JobClone:
		err = s.machine.DeleteVolume(ctx, d.Volume())
	case drives.JobSnapshot:
		err = s.machine.DeleteVolumeSnapshot(ctx, d.Volume(), w.Snapshot)
	case drives.JobGrow:
		if u, err := s.machine.VolumeUsage(ctx, d.Volume()); err == nil && u.Bytes >= w.GB*drives.BytesPerGB {
			// It takes that much of the disk and never shrinks: so it is what it costs.
			r := drives.Result{Notice: fmt.Sprintf("it has the space for its new size, and gets it once all have detached it and it is attached again: %v", why)}
			return s.store.Update(ctx, func(tx *store.Tx) error { return drives.Done(tx, d.ID, w, r, time.Now()) })
		}
	}
	if err != nil {
		return fmt.Errorf("%w; and what there is of it can't be removed: %w", why, err)
	}
	err = s.store.Update(ctx, func(tx *store.Tx) error { return drives.GiveUp(tx, d.ID, w, why, time.Now()) })
	if err == nil {
		s.log.Error("a drive's work was given up", "drive", d.ID, "job", w.Job, "err", why)
	}
	return err
}

// noteDrive tells the user why it takes so long, and keeps for how long it has been
// tried. It is tried again whatever becomes of the note.
func (s *Scheduler) noteDrive(ctx context.Context, me *volumeWorker, d drives.Drive, w drives.Work, cause error) {
	err := s.store.Update(ctx, func(tx *store.Tx) error { return drives.Note(tx, d.ID, w, cause, me.tried) })
	if err != nil {
		s.log.Warn("a problem could not be noted", "drive", d.ID, "err", err)
		return
	}
	me.tried = 0
}
