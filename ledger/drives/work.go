package drives

import (
	"fmt"
	"slices"
	"time"

	"ecolink/ledger/store"
)

// Job is something that the machine is to do for a drive.
type Job string

// The jobs.
const (
	JobCreate       Job = "create"
	JobClone        Job = "clone"
	JobGrow         Job = "grow"
	JobSnapshot     Job = "snapshot"
	JobDropSnapshot Job = "delete a snapshot of"
	JobRestore      Job = "restore"
	JobDelete       Job = "delete"
)

// Work is the one thing that is to be done next for a drive, so that what the
// machine has becomes what the record says. Doing it twice is as doing it once.
type Work struct {
	Job      Job
	GB       int64  // that the volume has when it is done
	Snapshot string // of the drive or, for a clone, of its source; may be ""
	From     ID     // of a clone's source
}

// Work tells what is to be done next; ok is false when there is nothing.
func (d Drive) Work() (w Work, ok bool) {
	switch {
	case d.State == Deleting:
		return Work{Job: JobDelete}, true
	case !d.Live():
		return Work{}, false
	case d.MadeGB == 0 && d.CloneOf != nil:
		return Work{Job: JobClone, GB: d.CloneOf.GB, From: d.CloneOf.Drive, Snapshot: d.CloneOf.Snapshot}, true
	case d.MadeGB == 0:
		return Work{Job: JobCreate, GB: d.GB}, true
	}
	for _, s := range d.Snapshots { // before it is put back to another
		switch s.State {
		case SnapshotPending:
			return Work{Job: JobSnapshot, GB: d.MadeGB, Snapshot: s.Name}, true
		case SnapshotDeleting:
			return Work{Job: JobDropSnapshot, GB: d.MadeGB, Snapshot: s.Name}, true
		}
	}
	if d.RestoreFrom != "" {
		return Work{Job: JobRestore, GB: d.MadeGB, Snapshot: d.RestoreFrom}, true
	}
	if d.MadeGB < d.GB {
		return Work{Job: JobGrow, GB: d.GB}, true
	}
	return Work{}, false
}

// current reads a drive that still has that work; ok is false when it has other, or
// none: what came of it is of no interest any more.
func current(tx *store.Tx, id ID, w Work) (d Drive, ok bool, err error) {
	d, ok, err = all.Get(tx, id)
	if err != nil || !ok {
		return d, false, err
	}
	now, busy := d.Work()
	return d, busy && now == w, nil
}

// Result is what the machine says of a piece of work that is done.
type Result struct {
	Bytes  int64  // that a new snapshot takes of the disk
	Notice string // for people, until it is attached anew
}

// Done notes that a piece of work is done.
func Done(tx *store.Tx, id ID, w Work, r Result, now time.Time) error {
	d, ok, err := current(tx, id, w)
	if err == nil && !ok {
		return outgrown(tx, d, w)
	}
	if err != nil {
		return err
	}
	d.Problem, d.Tried = "", 0
	if r.Notice != "" || w.Job == JobGrow || w.Job == JobRestore {
		d.Notice = r.Notice
	}
	before := d.BilledGB()
	switch w.Job {
	case JobDelete:
		_, err := apply(tx, d, gone, "nothing of it is left", now)
		return err
	case JobCreate, JobClone, JobGrow:
		d.MadeGB = w.GB
	case JobRestore:
		d.RestoreFrom = ""
	case JobSnapshot:
		d.Snapshots = slices.Clone(d.Snapshots)
		s := d.snapshot(w.Snapshot)
		s.State, s.Bytes = SnapshotReady, r.Bytes
	case JobDropSnapshot:
		d.forget(w.Snapshot)
	}
	return finish(tx, d, before, now)
}

// outgrown notes the size that a drive has got while it was asked to have more: if
// it never gets that, it is this one that it has and costs.
func outgrown(tx *store.Tx, d Drive, w Work) error {
	if w.Job != JobGrow || d.MadeGB == 0 || w.GB <= d.MadeGB || w.GB > d.GB {
		return nil
	}
	d.MadeGB, d.Tried = w.GB, 0
	return put(tx, d)
}

// GiveUp notes that a piece of work can't be done, and takes back that it was
// wanted: a drive that can't be made has failed and costs nothing, one that can't
// grow stays as large as it is, and is billed as that. Deleting is not given up.
func GiveUp(tx *store.Tx, id ID, w Work, why error, now time.Time) error {
	d, ok, err := current(tx, id, w)
	if err != nil || !ok {
		return err
	}
	d.Tried = 0
	before := d.BilledGB()
	switch w.Job {
	case JobCreate, JobClone:
		d.tell(why.Error())
		_, err := apply(tx, d, fail, d.Problem, now)
		return err
	case JobGrow:
		d.tell(fmt.Sprintf("it could not be grown to %d GB and has %d: %v", d.GB, d.MadeGB, why))
		d.GB = d.MadeGB
	case JobRestore:
		d.tell(fmt.Sprintf("it could not be put back to the snapshot %s: %v", w.Snapshot, why))
		d.RestoreFrom = ""
	case JobSnapshot:
		d.tell(fmt.Sprintf("the snapshot %s could not be made: %v", w.Snapshot, why))
		d.forget(w.Snapshot)
	default:
		return fmt.Errorf("%s of drive %d is not to be given up: %w", w.Job, id, why)
	}
	return finish(tx, d, before, now)
}

// finish writes what has become of a piece of work. A drive that was pending, and
// has all that was wanted, is made.
func finish(tx *store.Tx, d Drive, before int64, now time.Time) error {
	d, err := rebill(tx, d, before, now)
	if err != nil {
		return err
	}
	if d.State == Pending && d.MadeGB >= d.GB && d.RestoreFrom == "" {
		_, err := apply(tx, d, made, "ready", now)
		return err
	}
	return put(tx, d)
}

func (d *Drive) forget(snapshot string) {
	d.Snapshots = slices.DeleteFunc(slices.Clone(d.Snapshots), func(s Snapshot) bool { return s.Name == snapshot })
}

// Note keeps what went wrong, while the work is tried again, and adds to how long it
// has been tried in vain.
func Note(tx *store.Tx, id ID, w Work, why error, tried time.Duration) error {
	d, ok, err := current(tx, id, w)
	if err != nil || !ok {
		return err
	}
	d.tell(fmt.Sprintf("trying again to %s it: %v", w.Job, why))
	d.Tried += tried
	return put(tx, d)
}

// Working lists the drives that there is something to do for.
func Working(tx *store.Tx) (out []ID, err error) {
	for rec, err := range withWork.All(tx) {
		if err != nil {
			return nil, err
		}
		out = append(out, rec.Key)
	}
	return out, nil
}
