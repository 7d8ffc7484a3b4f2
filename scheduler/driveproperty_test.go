package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/metering"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// Any sequence of what people, money, faults, crashes and reboots do to drives keeps
// what must always be true: a drive has one user, who is alive; who has it attached
// is who the records of instances say; what is there is billed for its size, and
// what is not is not; no written byte is lost while anybody may want it; what was
// deleted, and keys, are kept for their time and no longer. In the end the machine
// has what the records say, to the byte.
func TestNoSequenceOfEventsBreaksTheInvariantsOfDrives(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBox(t, 3)
			defer b.close()
			b.keep = keeping{long: 36 * time.Hour, every: time.Hour}
			b.restart()
			b.priceDrives()
			m := &driveModel{box: b, rt: rt, written: map[DriveID]string{}, deleted: map[DriveID]time.Time{}, keyed: map[string]keyedRequest{}}
			for n := range rapid.IntRange(1, 25).Draw(rt, "steps") {
				m.step(n)
				b.settle()
				m.check()
			}
			m.finish()
		})
	})
}

type driveModel struct {
	*box
	rt      *rapid.T
	written map[DriveID]string // what must be in a drive: what was written last, or restored
	faulty  bool

	most    DriveID                 // the greatest number that a drive has had
	deleted map[DriveID]time.Time   // of which drives it has been seen, and when it was
	keyed   map[string]keyedRequest // by idempotency key
}

// keyedRequest is what a key has made, and when.
type keyedRequest struct {
	drive DriveID
	at    time.Time
}

// create asks for a drive.
func (m *driveModel) create(r DriveRequest) {
	m.t.Helper()
	d, err := m.CreateDrive(background, r)
	if err != nil {
		return
	}
	m.most = max(m.most, d.ID)
	if r.Key == "" {
		return
	}
	k, known := m.keyed[r.Key]
	age := time.Since(k.at)
	if known && (age < m.keep.long && d.ID != k.drive || age > m.keep.long+2*m.keep.every && d.ID == k.drive) {
		m.t.Fatalf("the key %s made drive %d %s ago, and now gives %d", r.Key, k.drive, age, d.ID)
	}
	if !known || d.ID != k.drive {
		m.keyed[r.Key] = keyedRequest{d.ID, time.Now()}
	}
}

// each reads every drive that there is, and sees to it that those that are not were
// deleted long enough ago.
func (m *driveModel) each(tx *store.Tx, do func(d drives.Drive) error) error {
	m.t.Helper()
	for id := DriveID(1); id <= m.most; id++ {
		d, ok, err := drives.Read(tx, id)
		if err != nil {
			return err
		}
		at, gone := m.deleted[id]
		switch {
		case !ok && (!gone || time.Since(at) < m.keep.long):
			m.t.Fatalf("drive %d is forgotten, and was deleted at %s", id, at)
		case ok && gone && time.Since(at) > m.keep.long+2*m.keep.every:
			m.t.Fatalf("%s is known still, and was deleted at %s", d, at)
		case ok && d.State == drives.Deleted && !gone:
			m.deleted[id] = d.History[len(d.History)-1].At // a step takes less time than it is kept
		}
		if ok {
			if err := do(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// priceDrives lets a GB of either kind cost a cent a day.
func (b *box) priceDrives() {
	b.t.Helper()
	b.priceFilesystems()
	b.update(func(tx *store.Tx) error {
		return second(price.Set(tx, price.Drive, usd("0.31"), time.Time{}, time.Now(), ""))
	})
}

func (m *driveModel) number() DriveID { return DriveID(rapid.Int64Range(1, 5).Draw(m.rt, "drive")) }

// any reads one of the drives; its kind is empty where there is none.
func (m *driveModel) any() drives.Drive { return m.readDrive(m.number()) }

func (m *driveModel) step(n int) {
	draw := func(what string, most int64) int64 { return rapid.Int64Range(1, most).Draw(m.rt, what) }
	switch op := rapid.IntRange(0, 15).Draw(m.rt, "op"); op {
	case 0, 1, 2:
		r := driveRequest(fmt.Sprint("d", n), draw("gb", 400))
		if rapid.Bool().Draw(m.rt, "shared") {
			r.Kind = drives.SharedFilesystem
		}
		if key := draw("key", 6); key <= 2 {
			r = driveRequest(fmt.Sprint("keyed-", key), 7)
			r.Key = fmt.Sprint("key ", key)
		}
		m.create(r)
	case 3, 4:
		if d, other := m.any(), m.any(); d.Kind != "" && other.Kind != "" {
			m.launchWith(fmt.Sprint("i", n), d, other)
		}
	case 5:
		m.Terminate(background, alice, InstanceID(draw("instance", 6)))
	case 6:
		m.machine.exit(Instance{ID: InstanceID(draw("instance", 6))}.Workload())
	case 7:
		if d := m.any(); d.Kind != "" {
			m.GrowDrive(background, alice, d.Kind, d.ID, d.GB+draw("more", 300))
		}
	case 8:
		if d := m.any(); d.Kind != "" {
			m.SnapshotDrive(background, alice, d.Kind, d.ID, fmt.Sprint("s", draw("snapshot", 2)), "")
		}
	case 9:
		m.restore()
	case 10:
		d := m.any()
		r := driveRequest(fmt.Sprint("d", n), 0)
		r.CloneOf = &drives.Source{Drive: d.ID}
		if rapid.Bool().Draw(m.rt, "of a snapshot") {
			r.CloneOf.Snapshot = fmt.Sprint("s", draw("snapshot", 2))
		}
		m.create(r)
	case 11:
		if d := m.any(); d.Kind != "" {
			if rapid.Bool().Draw(m.rt, "all of it") {
				m.DeleteDrive(background, alice, d.Kind, d.ID)
			} else {
				m.DeleteSnapshot(background, alice, d.Kind, d.ID, fmt.Sprint("s", draw("snapshot", 2)))
			}
		}
	case 12:
		m.breakMachine()
	case 13:
		m.stop()
		if rapid.Bool().Draw(m.rt, "reboot") {
			m.machine.reboot()
		}
		m.start()
	case 14:
		if rapid.Bool().Draw(m.rt, "money comes") {
			m.topUp("100")
		} else if w := m.wallet(alice); w.Total() > 0 {
			m.take("0")
		}
	case 15:
		time.Sleep(time.Duration(rapid.IntRange(1, 30).Draw(m.rt, "hours")) * time.Hour)
	}
	m.write(fmt.Sprint("step ", n))
}

// write puts something into all that is attached to a running instance.
func (m *driveModel) write(what string) {
	for id := DriveID(1); id <= 5; id++ {
		d := m.readDrive(id)
		if v, there := m.machine.At(d.Volume()); there && len(v.Users) > 0 {
			m.machine.Write(d.Volume(), what)
			m.written[id] = what
		}
	}
}

func (m *driveModel) restore() {
	d := m.any()
	name := fmt.Sprint("s", rapid.IntRange(1, 2).Draw(m.rt, "snapshot"))
	if d.Kind == "" {
		return
	}
	if _, err := m.RestoreDrive(background, alice, d.Kind, d.ID, name, ""); err == nil {
		delete(m.written, d.ID) // one or the other, by when it is done
	}
}

// breakMachine has the machine fail from now on, now and then, or no more.
func (m *driveModel) breakMachine() {
	m.faulty = !m.faulty
	if !m.faulty {
		m.mend()
		return
	}
	kinds := []error{errTest, refusal("never")}
	var faults []int
	for range 20 {
		faults = append(faults, rapid.IntRange(0, 5).Draw(m.rt, "fault"))
	}
	run := rapid.SampledFrom([]error{nil, errTest, refusal("the volume is damaged")}).Draw(m.rt, "run")
	m.machine.set(func() { m.machine.runErr = run })
	calls := 0
	m.machine.FailWith(func(op, _ string) (before, after error) {
		calls++
		switch f := faults[calls%len(faults)]; f {
		case 0, 1:
			if strings.HasPrefix(op, "delete") || op == "space" {
				return errTest, nil
			}
			return kinds[f], nil
		case 2:
			return nil, errTest // done, and nobody hears of it
		}
		return nil, nil
	})
}

func (m *driveModel) mend() {
	m.faulty = false
	m.machine.FailWith(nil)
	m.machine.set(func() { m.machine.runErr = nil })
}

func (m *driveModel) check() {
	m.t.Helper()
	users := map[string][]DriveID{} // as the records of instances say
	list, err := m.List(alice, 0, 100)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, i := range list {
		if i.State == Terminated || i.State == Failed && len(i.GPUs) == 0 {
			continue
		}
		for _, mount := range slices.Concat(i.Drives, i.Filesystems) {
			users[i.Resource()] = append(users[i.Resource()], mount.Drive)
		}
	}
	m.view(func(tx *store.Tx) error {
		return m.each(tx, func(d drives.Drive) error { m.checkDrive(tx, d, users); return nil })
	})
	for user, left := range users {
		if len(left) > 0 {
			m.t.Fatalf("%s has %v, which do not know of it", user, left)
		}
	}
	m.checkRoom()
}

// checkRoom makes sure that no byte is promised twice, nor counted twice: what is left
// is what the pool has without the larger of what each drive is to have and has.
func (m *driveModel) checkRoom() {
	m.t.Helper()
	space, release, err := m.poolSpace(background)
	if err != nil {
		return // the machine does not say now
	}
	defer release()
	left := int64(poolGB)
	m.view(func(tx *store.Tx) error {
		err := m.each(tx, func(d drives.Drive) error {
			gb := space.Volumes[d.Volume()] / drives.BytesPerGB
			if d.Live() && d.State != drives.Deleting {
				gb = max(gb, d.GB)
			}
			left -= gb
			return nil
		})
		if err != nil {
			return err
		}
		room, err := space.room(tx)
		if room.free != left {
			m.t.Fatalf("%d GB are said to be free, and it is %d", room.free, left)
		}
		return err
	})
}

func (m *driveModel) checkDrive(tx *store.Tx, d drives.Drive, users map[string][]DriveID) {
	m.t.Helper()
	if d.Kind == drives.CloudDrive && len(d.Attachments) > 1 || (len(d.Attachments) > 0) != (d.State == drives.Attached) {
		m.t.Fatalf("%s is %s: %+v", d, d.State, d.Attachments)
	}
	for _, a := range d.Attachments {
		n := slices.Index(users[a.User], d.ID)
		if n < 0 {
			m.t.Fatalf("%s is attached to %s, which does not have it", d, a.User)
		}
		users[a.User] = slices.Delete(users[a.User], n, n+1)
	}
	v, err := metering.GetVolume(tx, d.Resource())
	billed := d.State != drives.Deleting && d.State != drives.Deleted && d.State != drives.Failed
	if billed != (err == nil) || err != nil && !errors.Is(err, metering.ErrNotFound) {
		m.t.Fatalf("%s is %s, and billed: %v", d, d.State, err)
	}
	if billed && (v.GB != d.BilledGB() || v.Suspended != d.Unpaid || v.Idle && d.State != drives.Pending) {
		m.t.Fatalf("%s: %+v is billed as %+v", d, d, v)
	}
	if d.State == drives.Suspended && !d.Unpaid || d.State == drives.Available && d.Unpaid {
		m.t.Fatalf("%s is %s, and unpaid: %v", d, d.State, d.Unpaid)
	}
	there, ok := m.machine.At(d.Volume())
	if d.MadeGB > 0 && d.Live() && d.State != drives.Deleting {
		if !ok || there.Bytes < d.MadeGB*drives.BytesPerGB {
			m.t.Fatalf("%s has lost something: %+v, %+v", d, d, there)
		}
		if want, known := m.written[d.ID]; known && there.Content != want {
			m.t.Fatalf("%s has %q, not %q", d, there.Content, want)
		}
	}
	if d.Kind == drives.CloudDrive && len(there.Users) > 1 {
		m.t.Fatalf("%s is mounted by %v", d, there.Users)
	}
}

// finish lets all end well: no faults, money, nobody uses anything.
func (m *driveModel) finish() {
	m.t.Helper()
	m.mend()
	m.topUp("1000")
	list, _ := m.List(alice, 0, 100)
	for _, i := range list {
		m.Terminate(background, alice, i.ID)
	}
	time.Sleep(2*retryMax + billingEvery)
	m.settle()
	m.check()
	var want []string
	m.view(func(tx *store.Tx) error {
		return m.each(tx, func(d drives.Drive) error {
			if w, busy := d.Work(); busy || d.State != drives.Available && d.State != drives.Deleted && d.State != drives.Failed {
				return fmt.Errorf("%s is %s, with %+v to be done", d, d.State, w)
			}
			if !d.Live() {
				return nil
			}
			want = append(want, d.Volume())
			v, _ := m.machine.At(d.Volume())
			if v.Bytes < d.GB*drives.BytesPerGB || len(v.Users) > 0 || len(v.Snapshots) != len(d.Snapshots) {
				return fmt.Errorf("%+v and the machine's %+v differ", d, v)
			}
			return nil
		})
	})
	slices.Sort(want)
	if got := m.machine.Names(); !slices.Equal(got, want) {
		m.t.Fatalf("the machine has %v, want %v", got, want)
	}
	if w := m.wallet(alice); w.Held != 0 {
		m.t.Fatalf("%s is still held", w.Held)
	}
	m.view(func(tx *store.Tx) error { _, err := ledger.Verify(tx); return err })
}
