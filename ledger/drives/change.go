package drives

import (
	"slices"
	"strings"
	"time"

	"ecolink/ledger/store"
)

// Snapshot is what a drive had at an instant, under a name.
type Snapshot struct {
	Name  string        `json:"name"`
	At    time.Time     `json:"at"`
	GB    int64         `json:"gb"`              // the size that the drive had
	Bytes int64         `json:"bytes,omitempty"` // what it takes of the disk, once it is ready
	State SnapshotState `json:"state"`
}

// SnapshotState is how far a snapshot is.
type SnapshotState string

// The states of a snapshot. One that can't be made is not there.
const (
	SnapshotPending  SnapshotState = "pending"
	SnapshotReady    SnapshotState = "ready"
	SnapshotDeleting SnapshotState = "deleting"
)

// billedGB is what a snapshot costs: what it takes of the disk in whole GB, 1 at
// least. Before that is known it is the most that it can be, so that the balance
// is asked for that.
func (s Snapshot) billedGB() int64 {
	switch s.State {
	case SnapshotPending:
		return s.GB
	case SnapshotReady:
		return max(1, min(s.GB, (s.Bytes+BytesPerGB-1)/BytesPerGB))
	default:
		return 0
	}
}

// snapshot finds one by name; nil when there is none.
func (d Drive) snapshot(name string) *Snapshot {
	n := slices.IndexFunc(d.Snapshots, func(s Snapshot) bool { return s.Name == name })
	if n < 0 {
		return nil
	}
	return &d.Snapshots[n]
}

// ready finds a snapshot that is there.
func (d Drive) ready(name string) (Snapshot, error) {
	s := d.snapshot(name)
	switch {
	case s == nil:
		return Snapshot{}, &Error{Kind: ErrNotFound, Field: "snapshot", Message: d.String() + " has no snapshot of the name " + shown(name) + ": " + d.snapshotNames()}
	case s.State != SnapshotReady:
		return *s, conflict("snapshot", "the snapshot %s is %s: wait until it is ready", name, s.State)
	}
	return *s, nil
}

func (d Drive) snapshotNames() string {
	if len(d.Snapshots) == 0 {
		return "it has none"
	}
	var names []string
	for _, s := range d.Snapshots {
		names = append(names, s.Name)
	}
	return "it has " + strings.Join(names, ", ")
}

// Grow asks for a larger size, attached or not. It is billed from now on; a balance
// that does not cover the next 24 hours of it is an *ledger.InsufficientError. The
// size that it has, or is about to have, changes nothing.
func Grow(tx *store.Tx, d Drive, gb int64, now time.Time) (Drive, error) {
	if err := checkGB(gb); err != nil {
		return d, err
	}
	if err := d.usable(); err != nil {
		return d, err
	}
	if gb < d.GB {
		return d, invalid("size_gb", "%s has %d GB, and can't be made smaller: create a smaller one and copy what it has", d, d.GB)
	}
	if gb == d.GB {
		return d, nil
	}
	if d.Unpaid {
		return d, conflict("", "%s is no longer paid for: add credit first", d)
	}
	if err := undisturbed(tx, d, ""); err != nil {
		return d, err
	}
	before := d.BilledGB()
	d.GB, d.Problem = gb, ""
	d, err := rebill(tx, d, before, now)
	if err != nil {
		return d, err
	}
	return d, put(tx, d)
}

// TakeSnapshot asks for a snapshot of what the drive has, attached or not. What was
// synced before the call is in it. It is billed as storage, for what it takes.
func TakeSnapshot(tx *store.Tx, d Drive, name string, now time.Time) (Drive, error) {
	if err := checkName(name); err != nil {
		return d, err
	}
	if err := d.usable(); err != nil {
		return d, err
	}
	if s := d.snapshot(name); s != nil {
		return d, conflict("name", "%s has a snapshot of that name, which is %s: choose another name, or delete that one", d, s.State)
	}
	if len(d.Snapshots) >= maxSnapshots {
		return d, conflict("", "%s has %d snapshots, which is the most: delete one that is no longer needed", d, maxSnapshots)
	}
	if d.Unpaid {
		return d, conflict("", "%s is no longer paid for: add credit first", d)
	}
	if d.MadeGB != d.GB { // which of both sizes the snapshot would have, nobody could say
		return d, busy("%s is being grown: try again in a moment", d)
	}
	before := d.BilledGB()
	d.Snapshots = append(slices.Clone(d.Snapshots), Snapshot{Name: name, At: now.UTC(), GB: d.MadeGB, State: SnapshotPending})
	d.Problem = ""
	d, err := rebill(tx, d, before, now)
	if err != nil {
		return d, err
	}
	return d, put(tx, d)
}

// DropSnapshot asks for a snapshot to be deleted. It costs nothing from now on.
// Deleting one that is being deleted changes nothing.
func DropSnapshot(tx *store.Tx, d Drive, name string, now time.Time) (Drive, error) {
	s := d.snapshot(name)
	if s == nil {
		_, err := d.ready(name)
		return d, err
	}
	if s.State == SnapshotDeleting {
		return d, nil
	}
	if err := d.usable(); err != nil && d.State != Suspended {
		return d, err
	}
	if _, err := d.ready(name); err != nil {
		return d, err
	}
	if err := undisturbed(tx, d, name); err != nil {
		return d, err
	}
	before := d.BilledGB()
	d.Snapshots = slices.Clone(d.Snapshots)
	d.snapshot(name).State = SnapshotDeleting
	d, err := rebill(tx, d, before, now)
	if err != nil {
		return d, err
	}
	return d, put(tx, d)
}

// Restore asks for the drive to have again what a snapshot has, and nothing of what
// was written since. Nobody may use it; until it is done it is pending.
func Restore(tx *store.Tx, d Drive, name string, now time.Time) (Drive, error) {
	if err := d.unused(); err != nil {
		return d, err
	}
	if _, err := d.ready(name); err != nil {
		return d, err
	}
	if err := undisturbed(tx, d, ""); err != nil {
		return d, err
	}
	// It comes before a growing that may have been tried in vain already.
	d.RestoreFrom, d.Problem, d.Tried = name, "", 0
	return apply(tx, d, rebuild, "to be put back to the snapshot "+name, now)
}

// Discard asks for the drive to be deleted, with its snapshots. It is billed until
// now. Only one that nobody uses can be; one that is being deleted stays as it is.
func Discard(tx *store.Tx, d Drive, now time.Time) (Drive, error) {
	if d.State == Deleting {
		return d, nil
	}
	if d.State != Failed {
		if err := d.unused(); err != nil {
			return d, err
		}
		for _, what := range append([]Snapshot{{}}, d.Snapshots...) {
			if err := undisturbed(tx, d, what.Name); err != nil {
				return d, err
			}
		}
	}
	return apply(tx, d, discard, "deleted by its owner", now)
}

// unused refuses a drive that is not available.
func (d Drive) unused() error {
	if d.State == Attached {
		return conflict("", "%s is attached to %s: end that first", d, d.users())
	}
	return d.usable()
}

func (d Drive) users() string {
	const enough = 3
	var names []string
	for _, a := range d.Attachments[:min(enough, len(d.Attachments))] {
		names = append(names, a.Name)
	}
	if len(d.Attachments) > enough {
		names = append(names, "and others")
	}
	return strings.Join(names, ", ")
}
