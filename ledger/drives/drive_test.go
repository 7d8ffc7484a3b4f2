package drives

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

var states = []State{Pending, Available, Attached, Suspended, Deleting, Deleted, Failed}

func TestEveryPairOfStateAndEventIsInTheTableOrRefused(t *testing.T) {
	leads := map[string]State{
		"pending made": Available, "pending fail": Failed, "available attach": Attached, "available rebuild": Pending,
		"available lapse": Suspended, "available discard": Deleting, "attached detach": Available, "suspended revive": Available,
		"deleting gone": Deleted, "failed discard": Deleted,
	}
	for _, s := range states {
		if _, known := transitions[s]; !known {
			t.Errorf("%s is not in the table", s)
		}
		for _, e := range []event{made, fail, attach, detach, rebuild, lapse, revive, discard, gone} {
			st, ok := next(s, e)
			if want := leads[fmt.Sprint(s, " ", e)]; ok != (want != "") || st.to != want {
				t.Errorf("%s %s leads to %q, want %q", s, e, st.to, want)
			}
		}
	}
}

func TestADriveIsBilledFromWhenItCanBeUsedUntilItsDeletionIsAskedFor(t *testing.T) {
	b := newBooks(t)
	d, err := b.create(New{Name: "data", GB: 100})
	if err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(10 * time.Minute) // it takes its time
	b.work(d.ID)
	b.want(d.ID, Available)
	b.wantBalance("100.00")
	b.now = b.now.Add(6 * time.Hour)
	if err := b.discard(d.ID); err != nil {
		t.Fatal(err)
	}
	b.want(d.ID, Deleting)
	b.wantBalance("99.75") // a quarter of a day of a dollar
	b.now = b.now.Add(time.Hour)
	b.work(d.ID)
	b.want(d.ID, Deleted)
	b.wantBalance("99.75")
	wantError(t, b.discard(d.ID), ErrNotFound, "")
	if again := b.ready(New{Name: "data", GB: 1}); again.ID == d.ID {
		t.Error("a number came twice")
	}
}

func TestADriveThatCannotBeMadeCostsNothingAndSaysWhy(t *testing.T) {
	b := newBooks(t)
	d, err := b.create(New{Name: "data", GB: 100})
	if err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(13 * time.Hour) // over midnight
	w, _ := d.Work()
	b.must(func(tx *store.Tx) error { return GiveUp(tx, d.ID, w, errors.New("the disk is full"), b.now) })
	if d = b.want(d.ID, Failed); d.Problem != "the disk is full" || len(d.History) != 2 || d.History[1].Reason != d.Problem {
		t.Errorf("%+v", d)
	}
	b.wantBalance("100.00")
	if _, err := b.create(New{Name: "data", GB: 1}); err != nil { // the name is free
		t.Error(err)
	}
	if err := b.discard(d.ID); err != nil {
		t.Error(err)
	}
	b.want(d.ID, Deleted)
}

func TestADriveHasOneUserAndAFilesystemMany(t *testing.T) {
	b := newBooks(t)
	d, fs := b.ready(New{Name: "data", GB: 10}), b.ready(New{Name: "shared", GB: 10, Kind: SharedFilesystem})
	for _, id := range []ID{d.ID, fs.ID} {
		if err := b.attach(id, "gpu-instance/1"); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, b.attach(d.ID, "gpu-instance/2"), ErrConflict, "")
	if err := b.attach(d.ID, "gpu-instance/2"); !strings.Contains(err.Error(), "gpu-instance/1") {
		t.Errorf("%v does not say who has it", err)
	}
	if err := b.attach(fs.ID, "gpu-instance/2"); err != nil {
		t.Error(err)
	}
	wantError(t, b.attach(fs.ID, "gpu-instance/2"), ErrConflict, "")
	wantError(t, b.discard(d.ID), ErrConflict, "")
	b.letGo(fs.ID, "gpu-instance/1")
	b.letGo(fs.ID, "gpu-instance/1") // again, as after a crash
	b.letGo(d.ID, "gpu-instance/2")  // which never had it
	b.want(fs.ID, Attached)
	b.letGo(fs.ID, "gpu-instance/2")
	b.letGo(d.ID, "gpu-instance/1")
	b.want(fs.ID, Available)
	if d = b.want(d.ID, Available); len(d.Attachments) != 0 {
		t.Errorf("%+v", d.Attachments)
	}
	if fs.MountPath != "/shared" {
		t.Errorf("mounted at %q by default", fs.MountPath)
	}
}

func TestAnUnpaidDriveIsSuspendedOnceNobodyUsesIt(t *testing.T) {
	b := newBooks(t)
	idle, used := b.ready(New{Name: "idle", GB: 1}), b.ready(New{Name: "used", GB: 1})
	making, err := b.create(New{Name: "making", GB: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.attach(used.ID, "gpu-instance/1"); err != nil {
		t.Fatal(err)
	}
	pay := func(paid bool) {
		b.t.Helper()
		b.must(func(tx *store.Tx) error {
			for _, d := range []Drive{idle, used, making} {
				if err := SetPaid(tx, d.Resource(), paid, b.now); err != nil {
					return err
				}
			}
			return errors.Join(SetPaid(tx, "drive/99", paid, b.now), SetPaid(tx, "shared-filesystem/1", paid, b.now), SetPaid(tx, "gpu-instance/x", paid, b.now))
		})
	}
	pay(false)
	b.want(idle.ID, Suspended)
	b.want(used.ID, Attached)
	b.want(making.ID, Pending)
	wantError(t, b.attach(idle.ID, "gpu-instance/2"), ErrConflict, "")
	wantError(t, b.grow(idle.ID, 2), ErrConflict, "")
	wantError(t, b.grow(used.ID, 2), ErrConflict, "")
	wantError(t, b.snapshot(used.ID, "s"), ErrConflict, "")
	wantError(t, b.discard(idle.ID), ErrConflict, "")
	b.letGo(used.ID, "gpu-instance/1")
	b.work(making.ID)
	b.want(used.ID, Suspended)
	b.want(making.ID, Suspended)
	pay(true)
	for _, d := range []Drive{idle, used, making} {
		if d = b.want(d.ID, Available); d.Unpaid {
			t.Errorf("%s is unpaid", d)
		}
	}
}

func TestGrowingIsBilledAtOnceAndTakenBackWhenItCannotBe(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	if err := b.attach(d.ID, "gpu-instance/1"); err != nil {
		t.Fatal(err)
	}
	if err := b.grow(d.ID, 20); err != nil {
		t.Fatal(err)
	}
	b.wantBilled(d, 20)
	wantError(t, b.grow(d.ID, 19), ErrInvalid, "size_gb")
	if err := b.grow(d.ID, 20); err != nil { // again
		t.Error(err)
	}
	b.work(d.ID)
	if d = b.want(d.ID, Attached); d.MadeGB != 20 {
		t.Errorf("%+v", d)
	}
	if err := b.grow(d.ID, 500); err != nil {
		t.Fatal(err)
	}
	w, _ := b.read(d.ID).Work()
	b.must(func(tx *store.Tx) error { return Note(tx, d.ID, w, errors.New("busy"), time.Minute) })
	b.must(func(tx *store.Tx) error { return Note(tx, d.ID, w, errors.New("busy"), time.Second) })
	if d := b.read(d.ID); d.Problem != "trying again to grow it: busy" || d.Tried != 61*time.Second {
		t.Errorf("%q, tried for %s", d.Problem, d.Tried)
	}
	b.must(func(tx *store.Tx) error { return GiveUp(tx, d.ID, w, errors.New("full"), b.now) })
	if d = b.want(d.ID, Attached); d.GB != 20 || d.Tried != 0 || d.Problem != "it could not be grown to 500 GB and has 20: full" {
		t.Errorf("%+v", d)
	}
	b.wantBilled(d, 20)
	var short *ledger.InsufficientError
	if err := b.grow(d.ID, 20_000); !errors.As(err, &short) {
		t.Errorf("%v", err)
	}
	b.must(func(tx *store.Tx) error { return Done(tx, d.ID, w, Result{}, b.now) }) // late, and of no interest
	if d = b.read(d.ID); d.GB != 20 || d.MadeGB != 20 {
		t.Errorf("%+v", d)
	}
}

func TestSnapshotsAreBilledForWhatTheyTake(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	if err := b.snapshot(d.ID, "before"); err != nil {
		t.Fatal(err)
	}
	b.wantBilled(d, 20) // the most that it can be
	wantError(t, b.snapshot(d.ID, "before"), ErrConflict, "name")
	wantError(t, b.restore(d.ID, "before"), ErrConflict, "snapshot")
	wantError(t, b.snapshot(d.ID, "../etc"), ErrInvalid, "name")
	b.work(d.ID)
	b.wantBilled(d, 12) // 1.5 GB
	wantError(t, b.restore(d.ID, "after"), ErrNotFound, "snapshot")
	if err := b.restore(d.ID, "before"); err != nil {
		t.Fatal(err)
	}
	b.want(d.ID, Pending)
	wantError(t, b.attach(d.ID, "gpu-instance/1"), ErrConflict, "")
	wantError(t, b.drop(d.ID, "before"), ErrConflict, "")
	w, _ := b.read(d.ID).Work()
	b.must(func(tx *store.Tx) error { return GiveUp(tx, d.ID, w, errors.New("damaged"), b.now) })
	if d = b.want(d.ID, Available); d.Problem == "" || d.RestoreFrom != "" {
		t.Errorf("%+v", d)
	}
	if err := b.restore(d.ID, "before"); err != nil {
		t.Fatal(err)
	}
	b.work(d.ID)
	if d = b.want(d.ID, Available); d.Problem != "" || d.RestoreFrom != "" {
		t.Errorf("%+v", d)
	}
	for range 2 {
		if err := b.drop(d.ID, "before"); err != nil {
			t.Fatal(err)
		}
	}
	b.wantBilled(d, 10)
	b.work(d.ID)
	if d = b.read(d.ID); len(d.Snapshots) != 0 {
		t.Errorf("%+v", d.Snapshots)
	}
	for n := range maxSnapshots {
		if err := b.snapshot(d.ID, fmt.Sprint("s", n)); err != nil {
			t.Fatal(err)
		}
		b.work(d.ID)
	}
	wantError(t, b.snapshot(d.ID, "one-more"), ErrConflict, "")
}

func TestACloneHasTheSizeOfItsSourceAndHoldsItStill(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	if err := b.snapshot(d.ID, "s"); err != nil {
		t.Fatal(err)
	}
	b.work(d.ID)
	_, err := b.create(New{Name: "small", GB: 9, CloneOf: &Source{Drive: d.ID}})
	wantError(t, err, ErrInvalid, "size_gb")
	_, err = b.create(New{Name: "none", CloneOf: &Source{Drive: d.ID, Snapshot: "x"}})
	wantError(t, err, ErrNotFound, "snapshot")
	_, err = b.create(New{Account: bob, Name: "theirs", CloneOf: &Source{Drive: d.ID}})
	wantError(t, err, ErrNotFound, "")
	same, err := b.create(New{Name: "same", CloneOf: &Source{Drive: d.ID}})
	if err != nil || same.GB != 10 {
		t.Fatalf("%+v, %v", same, err)
	}
	larger, err := b.create(New{Name: "larger", Kind: SharedFilesystem, GB: 15, CloneOf: &Source{Drive: d.ID, Snapshot: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, b.grow(d.ID, 11), ErrBusy, "")
	wantError(t, b.restore(d.ID, "s"), ErrBusy, "")
	wantError(t, b.drop(d.ID, "s"), ErrBusy, "")
	wantError(t, b.discard(d.ID), ErrBusy, "")
	b.work(same.ID)
	wantError(t, b.discard(d.ID), ErrBusy, "")
	w, _ := larger.Work()
	b.must(func(tx *store.Tx) error { return Done(tx, larger.ID, w, Result{}, b.now) })
	if larger = b.want(larger.ID, Pending); larger.MadeGB != 10 { // still to be grown
		t.Errorf("%+v", larger)
	}
	b.work(larger.ID)
	if larger = b.want(larger.ID, Available); larger.MadeGB != 15 {
		t.Errorf("%+v", larger)
	}
	if err := b.discard(d.ID); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeCreatedIsRefusedWithTheField(t *testing.T) {
	b := newBooks(t)
	b.ready(New{Name: "taken", GB: 1})
	for _, c := range []struct {
		what  string
		n     New
		kind  error
		field string
	}{
		{"no size", New{Name: "a"}, ErrInvalid, "size_gb"},
		{"a size below nothing", New{Name: "a", GB: -1}, ErrInvalid, "size_gb"},
		{"an exabyte", New{Name: "a", GB: 1_000_000_000}, ErrInvalid, "size_gb"},
		{"no name", New{GB: 1}, ErrInvalid, "name"},
		{"a path for a name", New{Name: "../a", GB: 1}, ErrInvalid, "name"},
		{"a name that is taken", New{Name: "taken", Kind: SharedFilesystem, GB: 1}, ErrConflict, "name"},
		{"a kind that is none", New{Name: "a", GB: 1, Kind: "tape"}, ErrInvalid, "kind"},
		{"a path for a drive", New{Name: "a", GB: 1, MountPath: "/x"}, ErrInvalid, "mount_path"},
		{"a path in /proc", New{Name: "a", GB: 1, Kind: SharedFilesystem, MountPath: "/proc/x"}, ErrInvalid, "mount_path"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := b.create(c.n)
			wantError(t, err, c.kind, c.field)
		})
	}
	var short *ledger.InsufficientError
	if _, err := b.create(New{Account: bob, Name: "a", GB: 1}); !errors.As(err, &short) {
		t.Errorf("without money: %v", err)
	}
	if _, err := b.create(New{Name: "a", GB: 20_000}); !errors.As(err, &short) {
		t.Errorf("with too little: %v", err)
	}
	b.view(func(tx *store.Tx) error {
		list, err := List(tx, alice, CloudDrive, 0, 10)
		if len(list) != 1 {
			t.Errorf("%+v", list)
		}
		volumes, err2 := metering.Volumes(tx, alice)
		if len(volumes) != 1 {
			t.Errorf("billed: %+v", volumes)
		}
		return errors.Join(err, err2)
	})
}

func TestAnAccountHasAThousandDrivesAtMost(t *testing.T) {
	b := newBooks(t)
	b.must(func(tx *store.Tx) error {
		for n := range maxPerAccount {
			if _, err := Create(tx, New{Account: alice, Kind: CloudDrive, Name: fmt.Sprint("d", n), GB: 1}, b.now); err != nil {
				return err
			}
		}
		return nil
	})
	_, err := b.create(New{Name: "one-more", GB: 1})
	wantError(t, err, ErrConflict, "")
}

func TestListsAreOfOneKindNewestFirstInPages(t *testing.T) {
	b := newBooks(t)
	for n := range 6 {
		kind := CloudDrive
		if n%2 == 1 {
			kind = SharedFilesystem
		}
		b.ready(New{Name: fmt.Sprint("n", n), GB: 1, Kind: kind})
	}
	b.view(func(tx *store.Tx) error {
		first, err := List(tx, alice, CloudDrive, 0, 2)
		rest, err2 := List(tx, alice, CloudDrive, first[1].ID, 2)
		if first[0].ID != 5 || first[1].ID != 3 || len(rest) != 1 || rest[0].ID != 1 {
			t.Errorf("%+v, then %+v", first, rest)
		}
		theirs, err3 := List(tx, bob, CloudDrive, 0, 10)
		if len(theirs) != 0 {
			t.Errorf("Bob sees %+v", theirs)
		}
		_, err4 := Get(tx, alice, SharedFilesystem, 5)
		wantError(t, err4, ErrNotFound, "")
		return errors.Join(err, err2, err3)
	})
}

func TestAHistoryKeepsTheBeginningAndTheNewest(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 1})
	for n := range maxHistory {
		user := fmt.Sprint("gpu-instance/", n)
		if err := b.attach(d.ID, user); err != nil {
			t.Fatal(err)
		}
		b.letGo(d.ID, user)
	}
	d = b.read(d.ID)
	if len(d.History) != maxHistory || d.History[0].Reason != "created" || d.History[maxHistory-1].Reason != "gpu-instance/99 has let go" {
		t.Errorf("%d changes: %+v", len(d.History), d.History)
	}
}

// The machine may have grown it, and nobody has heard of it yet: a snapshot would
// have a size that nobody knows, and a clone of it would cost too little.
func TestNoSnapshotIsTakenOfADriveThatGrows(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	if err := b.grow(d.ID, 20); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.snapshot(d.ID, "s"), ErrBusy, "")
	b.wantBilled(d, 20)
	b.work(d.ID)
	if err := b.snapshot(d.ID, "s"); err != nil {
		t.Fatal(err)
	}
	b.work(d.ID)
	if d = b.read(d.ID); d.Snapshots[0].GB != 20 {
		t.Errorf("%+v", d.Snapshots)
	}
}

func TestADriveThatIsAskedToGrowFurtherKeepsAndCostsWhatItHasGot(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	for _, gb := range []int64{20, 30} {
		if err := b.grow(d.ID, gb); err != nil {
			t.Fatal(err)
		}
	}
	b.must(func(tx *store.Tx) error { // what the machine was told before it was asked for 30
		return Done(tx, d.ID, Work{Job: JobGrow, GB: 20}, Result{}, b.now)
	})
	if d = b.read(d.ID); d.MadeGB != 20 || d.GB != 30 {
		t.Errorf("%+v", d)
	}
	w, _ := d.Work()
	b.must(func(tx *store.Tx) error { return GiveUp(tx, d.ID, w, errors.New("full"), b.now) })
	if d = b.want(d.ID, Available); d.GB != 20 || d.MadeGB != 20 {
		t.Errorf("%+v", d)
	}
	b.wantBilled(d, 20)
}

func TestANoticeStaysUntilTheDriveIsAttachedAnew(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	if err := b.grow(d.ID, 20); err != nil {
		t.Fatal(err)
	}
	w, _ := b.read(d.ID).Work()
	b.must(func(tx *store.Tx) error { return Done(tx, d.ID, w, Result{Notice: "later"}, b.now) })
	if err := b.snapshot(d.ID, "s"); err != nil {
		t.Fatal(err)
	}
	b.work(d.ID)
	if d = b.read(d.ID); d.Notice != "later" {
		t.Errorf("%q", d.Notice)
	}
	if err := b.attach(d.ID, "gpu-instance/1"); err != nil {
		t.Fatal(err)
	}
	if d = b.read(d.ID); d.Notice != "" {
		t.Errorf("%q", d.Notice)
	}
}

// A growing that is given up in a moment must not take a restore with it.
func TestARestoreThatComesBeforeAGrowingHasItsOwnTime(t *testing.T) {
	b := newBooks(t)
	d := b.ready(New{Name: "data", GB: 10})
	if err := b.snapshot(d.ID, "s"); err != nil {
		t.Fatal(err)
	}
	b.work(d.ID)
	if err := b.grow(d.ID, 20); err != nil {
		t.Fatal(err)
	}
	w, _ := b.read(d.ID).Work()
	b.must(func(tx *store.Tx) error { return Note(tx, d.ID, w, errors.New("busy"), time.Hour) })
	if err := b.restore(d.ID, "s"); err != nil {
		t.Fatal(err)
	}
	d = b.read(d.ID)
	if w, _ := d.Work(); w.Job != JobRestore || d.Tried != 0 {
		t.Errorf("%+v has been tried for %s", w, d.Tried)
	}
}
