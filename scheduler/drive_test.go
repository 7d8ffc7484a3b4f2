package scheduler

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/ledger/drives"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
	"ecolink/scheduler/schedulertest"
)

// poolGB is what the test machine has for drives.
const poolGB = 1000

func driveRequest(name string, gb int64) DriveRequest {
	return DriveRequest{Account: alice, User: 1, Kind: drives.CloudDrive, Name: name, GB: gb}
}

// makeDrive creates a drive of Alice's and waits until it is there.
func (b *box) makeDrive(name string, gb int64) drives.Drive {
	b.t.Helper()
	return b.make(driveRequest(name, gb))
}

func (b *box) makeFilesystem(name string, gb int64) drives.Drive {
	b.t.Helper()
	r := driveRequest(name, gb)
	r.Kind = drives.SharedFilesystem
	return b.make(r)
}

func (b *box) make(r DriveRequest) drives.Drive {
	b.t.Helper()
	d, err := b.CreateDrive(background, r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.settle()
	return b.wantDrive(d.ID, drives.Available)
}

func (b *box) readDrive(id DriveID) (d drives.Drive) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { d, _, err = drives.Read(tx, id); return err })
	return d
}

func (b *box) wantDrive(id DriveID, st drives.State) drives.Drive {
	b.t.Helper()
	d := b.readDrive(id)
	if d.State != st {
		b.t.Fatalf("drive %d is %s (%s), want %s; %+v", id, d.State, d.Problem, st, d.History)
	}
	return d
}

// launchWith launches with drives at /d1, /d2 and so on, by their numbers.
func (b *box) launchWith(name string, ds ...drives.Drive) (Instance, error) {
	r := request(name, 1)
	for _, d := range ds {
		m := DriveMount{Drive: d.ID, Path: fmt.Sprint("/d", d.ID)}
		if d.Kind == drives.CloudDrive {
			r.Drives = append(r.Drives, m)
		} else {
			r.Filesystems = append(r.Filesystems, m)
		}
	}
	i, err := b.Launch(background, r)
	b.settle()
	return i, err
}

// storage gives filesystems a price, too.
func storage(t *testing.T, gpus int, f func(t *testing.T, b *box)) {
	t.Helper()
	rule(t, gpus, func(t *testing.T, b *box) {
		b.priceFilesystems()
		f(t, b)
	})
}

func TestADriveKeepsWhatIsInItFromOneInstanceToTheNext(t *testing.T) {
	storage(t, 2, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		i, err := b.launchWith("first", d)
		if err != nil {
			t.Fatal(err)
		}
		i = b.want(i.ID, Running)
		if len(i.Drives) != 1 || b.wantDrive(d.ID, drives.Attached).Attachments[0].User != i.Resource() {
			t.Fatalf("%+v", i)
		}
		if v, _ := b.machine.At("drive-1"); v.Users[i.Workload()] != "/d1" || v.Bytes != 10_000_000_000 {
			t.Fatalf("%+v", v)
		}
		b.machine.Write("drive-1", "checkpoint")
		_, err = b.launchWith("second", d)
		wantProblem(t, err, Conflict, "drives[0].id")
		if !strings.Contains(err.Error(), "instance 1 (first)") {
			t.Errorf("%v does not name the instance", err)
		}
		b.wantWallet(alice, "98.40", "1.60")
		_, err = b.DeleteDrive(background, alice, drives.CloudDrive, d.ID)
		wantProblem(t, err, Conflict, "")
		b.machine.set(func() { b.machine.stopErr = errTest })
		b.Terminate(background, alice, i.ID)
		b.settle()
		b.wantDrive(d.ID, drives.Attached) // its container is still there
		b.machine.set(func() { b.machine.stopErr = nil })
		time.Sleep(retryMax)
		b.settle()
		b.want(i.ID, Terminated)
		b.wantDrive(d.ID, drives.Available)
		i, err = b.launchWith("second", d)
		if err != nil {
			t.Fatal(err)
		}
		b.want(i.ID, Running)
		if v, _ := b.machine.At("drive-1"); v.Content != "checkpoint" || v.Users[i.Workload()] == "" {
			t.Errorf("%+v", v)
		}
	})
}

func TestADriveThatThePoolHasNoRoomForIsRefusedAndCostsNothing(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		_, err := b.CreateDrive(background, driveRequest("huge", poolGB+1))
		wantProblem(t, err, Unprocessable, "size_gb")
		if !strings.Contains(err.Error(), "1000 GB free") {
			t.Errorf("%v does not say what is free", err)
		}
		_, err = b.CreateDrive(background, driveRequest("exabyte", 1_000_000_000))
		wantProblem(t, err, Unprocessable, "size_gb")
		_, err = b.CreateDrive(background, driveRequest("nothing", 0))
		wantProblem(t, err, Unprocessable, "size_gb")
		d := b.makeDrive("most", 900)
		_, err = b.CreateDrive(background, driveRequest("rest", 101))
		wantProblem(t, err, Conflict, "size_gb")
		_, err = b.GrowDrive(background, alice, drives.CloudDrive, d.ID, 1001)
		wantProblem(t, err, Conflict, "size_gb")
		r := driveRequest("clone", 0)
		r.CloneOf = &drives.Source{Drive: d.ID}
		_, err = b.CreateDrive(background, r)
		wantProblem(t, err, Conflict, "size_gb")
		if list, _ := b.Drives(alice, drives.CloudDrive, 0, 10); len(list) != 1 || list[0].GB != 900 {
			t.Errorf("%+v", list)
		}
		b.wantWallet(alice, "100", "0")
	})
}

// Two that together are too large are asked for before either is made.
func TestWhatIsPromisedAndNotYetMadeIsNotPromisedAgain(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.machine.FailWith(func(op, _ string) (before, after error) {
			if op == "create" {
				return errTest, nil
			}
			return nil, nil
		})
		if _, err := b.CreateDrive(background, driveRequest("a", 600)); err != nil {
			t.Fatal(err)
		}
		_, err := b.CreateDrive(background, driveRequest("b", 600))
		wantProblem(t, err, Conflict, "size_gb")
	})
}

func TestADriveThatCannotBeMadeFailsWithItsReasonAndCostsNothing(t *testing.T) {
	for what, fault := range map[string]error{"at once": refusal("no loop device"), "in a quarter of an hour": errTest} {
		t.Run(what, func(t *testing.T) {
			storage(t, 1, func(t *testing.T, b *box) {
				b.machine.FailWith(func(op, _ string) (before, after error) {
					if op == "create" {
						return fault, nil
					}
					return nil, nil
				})
				d, err := b.CreateDrive(background, driveRequest("data", 100))
				if err != nil {
					t.Fatal(err)
				}
				b.settle()
				if fault == errTest {
					if p := b.wantDrive(d.ID, drives.Pending).Problem; !strings.Contains(p, errTest.Error()) {
						t.Errorf("why it waits: %q", p)
					}
					b.pass(watchdogTime + retryMax)
				}
				if d = b.wantDrive(d.ID, drives.Failed); !strings.Contains(d.Problem, fault.Error()) {
					t.Errorf("%q", d.Problem)
				}
				b.pass(48 * time.Hour)
				b.wantWallet(alice, "100", "0")
				if _, err := b.DeleteDrive(background, alice, drives.CloudDrive, d.ID); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestCreatingWithoutMoneyOrPriceIsRefused(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		r := driveRequest("models", 1)
		r.Kind = drives.SharedFilesystem
		_, err := b.CreateDrive(background, r)
		wantProblem(t, err, Unprocessable, "")
		b.take("0.99")
		wantShort(t, second(b.CreateDrive(background, driveRequest("data", 100))))
		if err := second(b.CreateDrive(background, driveRequest("data", 90))); err != nil {
			t.Error(err)
		}
	})
}

func TestAnIdempotencyKeyCreatesOnce(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		r := driveRequest("data", 10)
		r.Key = "one"
		first, err := b.CreateDrive(background, r)
		second, err2 := b.CreateDrive(background, r)
		if err != nil || err2 != nil || first.ID != second.ID {
			t.Fatalf("%v, %v: %d and %d", err, err2, first.ID, second.ID)
		}
		r.GB = 11
		_, err = b.CreateDrive(background, r)
		wantProblem(t, err, Conflict, "Idempotency-Key")
		b.settle()
		for range 2 {
			if _, err := b.SnapshotDrive(background, alice, drives.CloudDrive, first.ID, "s", "two"); err != nil {
				t.Fatal(err)
			}
			b.settle()
		}
		b.machine.Write("drive-1", "later")
		for range 2 {
			if _, err := b.RestoreDrive(background, alice, drives.CloudDrive, first.ID, "s", "three"); err != nil {
				t.Fatal(err)
			}
			b.settle()
		}
		if v, _ := b.machine.At("drive-1"); v.Content != "" {
			t.Errorf("%+v", v)
		}
	})
}

func TestGrowSnapshotRestoreCloneAndDelete(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		i, err := b.launchWith("box", d)
		if err != nil {
			t.Fatal(err)
		}
		b.machine.Write("drive-1", "before")
		must := func(_ drives.Drive, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			b.settle()
		}
		must(b.SnapshotDrive(background, alice, drives.CloudDrive, d.ID, "s", ""))
		must(b.GrowDrive(background, alice, drives.CloudDrive, d.ID, 20)) // under it
		b.machine.Write("drive-1", "after")
		if v, _ := b.machine.At("drive-1"); v.Bytes != 20_000_000_000 || v.Snapshots["s"].Content != "before" {
			t.Fatalf("%+v", v)
		}
		_, err = b.RestoreDrive(background, alice, drives.CloudDrive, d.ID, "s", "")
		wantProblem(t, err, Conflict, "")
		r := driveRequest("clone", 0)
		r.CloneOf = &drives.Source{Drive: d.ID, Snapshot: "s"}
		clone := b.make(r)
		if v, _ := b.machine.At(clone.Volume()); v.Content != "before" || v.Bytes != 10_000_000_000 {
			t.Errorf("%+v", v)
		}
		b.Terminate(background, alice, i.ID)
		b.settle()
		must(b.RestoreDrive(background, alice, drives.CloudDrive, d.ID, "s", ""))
		if v, _ := b.machine.At("drive-1"); v.Content != "before" || v.Bytes != 20_000_000_000 {
			t.Errorf("%+v", v)
		}
		if d = b.wantDrive(d.ID, drives.Available); d.BilledGB() != 22 { // a snapshot takes a byte more than a GB here
			t.Errorf("billed as %d GB: %+v", d.BilledGB(), d)
		}
		must(b.DeleteSnapshot(background, alice, drives.CloudDrive, d.ID, "s"))
		if v, _ := b.machine.At("drive-1"); len(v.Snapshots) != 0 {
			t.Errorf("%+v", v)
		}
		must(b.DeleteDrive(background, alice, drives.CloudDrive, d.ID))
		b.wantDrive(d.ID, drives.Deleted)
		if names := b.machine.Names(); len(names) != 1 || names[0] != clone.Volume() {
			t.Errorf("%v are left", names)
		}
		b.view(func(tx *store.Tx) error {
			h, err := Known(tx)
			if len(h.Volumes) != 1 || h.Volumes[0] != clone.Volume() || len(h.Unsettled) != 0 {
				t.Errorf("%+v", h)
			}
			return err
		})
	})
}

// Somebody reads its files: the deletion waits until they have finished.
func TestADeletionWaitsForWhoeverHasItMounted(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		var busy atomic.Bool
		busy.Store(true)
		b.machine.FailWith(func(op, _ string) (before, after error) {
			if op == "delete" && busy.Load() {
				return errTest, nil
			}
			return nil, nil
		})
		if _, err := b.DeleteDrive(background, alice, drives.CloudDrive, d.ID); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Hour)
		b.restart()
		b.wantDrive(d.ID, drives.Deleting)
		_, err := b.OpenVolume(background, alice, d.ID)
		wantProblem(t, err, Conflict, "")
		busy.Store(false)
		b.pass(retryMax)
		b.wantDrive(d.ID, drives.Deleted)
		_, err = b.OpenVolume(background, alice, d.ID)
		wantProblem(t, err, NotFound, "")
	})
}

func TestWhatWasAskedForBeforeEcoLinkDiedIsDoneWhenItIsBack(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.stop()
		d, err := b.CreateDrive(background, driveRequest("data", 10)) // the last that it did
		if err != nil {
			t.Fatal(err)
		}
		b.start()
		b.settle()
		b.wantDrive(d.ID, drives.Available)
	})
}

// The FAQ: at $0 storage is suspended, not deleted; restoring the balance brings it
// back. Instances end at once, so that what they had attached is suspended too.
func TestAtZeroADriveIsSuspendedOnceItsInstanceHasEndedAndComesBack(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d, idle := b.makeDrive("data", 10), b.makeDrive("idle", 10)
		i, err := b.launchWith("box", d)
		if err != nil {
			t.Fatal(err)
		}
		b.machine.Write("drive-1", "checkpoint")
		b.pass(time.Minute)
		b.take("0")
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonDepleted {
			t.Errorf("%s", i.TerminationReason)
		}
		b.wantDrive(d.ID, drives.Suspended)
		b.wantDrive(idle.ID, drives.Suspended)
		_, err = b.OpenVolume(background, alice, d.ID)
		wantProblem(t, err, Conflict, "")
		b.topUp("10")
		b.settle()
		b.wantDrive(idle.ID, drives.Available)
		b.wantDrive(d.ID, drives.Available)
		if v, ok := b.machine.At("drive-1"); !ok || v.Content != "checkpoint" {
			t.Errorf("%+v", v)
		}
		if i, err = b.launchWith("again", d); err != nil {
			t.Fatal(err)
		}
		b.want(i.ID, Running)
	})
}

// Nobody is cut short for money that is held: the drive of an instance whose hold
// goes on stays until that has ended.
func TestADriveStaysWithAnInstanceThatIsPaidForThoughNobodyPaysForTheDrive(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 900) // $9 a day
		b.pass(time.Until(midnight().Add(-30 * time.Minute)))
		b.take("8.50")
		r := request("box", 5)
		r.Drives = []DriveMount{{Drive: d.ID, Path: "/data"}}
		i, err := b.Launch(background, r)
		if err != nil {
			t.Fatal(err)
		}
		b.pass(time.Hour) // over midnight: a day costs more than all there is, held or not
		b.view(func(tx *store.Tx) error {
			v, err := metering.GetVolume(tx, d.Resource())
			if !v.Suspended {
				t.Errorf("%+v", v)
			}
			return err
		})
		b.want(i.ID, Running)
		if d = b.wantDrive(d.ID, drives.Attached); !d.Unpaid {
			t.Errorf("%+v", d)
		}
		b.Terminate(background, alice, i.ID)
		b.settle()
		b.wantDrive(d.ID, drives.Suspended)
	})
}

func midnight() time.Time {
	y, m, d := time.Now().UTC().Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

// A full pool that the record did not know of: growing is taken back.
func TestADriveThatCannotGrowIsBilledAsItIs(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		b.machine.FailWith(func(op, _ string) (before, after error) {
			if op == "grow" {
				return schedulertest.Refusal("the disk is full"), nil
			}
			return nil, nil
		})
		if _, err := b.GrowDrive(background, alice, drives.CloudDrive, d.ID, 20); err != nil {
			t.Fatal(err)
		}
		b.settle()
		if d = b.wantDrive(d.ID, drives.Available); d.GB != 10 || !strings.Contains(d.Problem, "disk is full") {
			t.Errorf("%+v", d)
		}
	})
}

// The machine has the space and could not finish: it never shrinks what it has, so
// that is what is paid for.
func TestADriveWhoseGrowthWasNotFinishedIsBilledForWhatItTakes(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		b.machine.FailWith(func(op, _ string) (before, after error) {
			if op == "grow" {
				return nil, schedulertest.Refusal("the file system did not take it")
			}
			return nil, nil
		})
		if _, err := b.GrowDrive(background, alice, drives.CloudDrive, d.ID, 20); err != nil {
			t.Fatal(err)
		}
		b.settle()
		d = b.wantDrive(d.ID, drives.Available)
		if d.GB != 20 || d.MadeGB != 20 || d.Problem != "" || !strings.Contains(d.Notice, "did not take it") {
			t.Errorf("%+v", d)
		}
	})
}

func TestFilesOfADriveThatIsWorkedOnAreAConflict(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		d := b.makeDrive("data", 10)
		b.machine.FailWith(func(op, _ string) (before, after error) {
			return &agent.VolumeBusyError{Volume: "drive-1", Working: true}, nil
		})
		_, err := b.OpenVolume(background, alice, d.ID)
		wantProblem(t, err, Conflict, "")
	})
}
