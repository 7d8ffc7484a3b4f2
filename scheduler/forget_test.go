package scheduler

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

func (b *box) known(id DriveID) (ok bool) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { _, ok, err = drives.Read(tx, id); return err })
	return ok
}

// requests counts the idempotency keys that are kept.
func (b *box) requests() (n int) {
	b.t.Helper()
	b.view(func(tx *store.Tx) error {
		n = 0
		for _, err := range drivesByRequest.All(tx) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n
}

func TestADeletedDriveAndItsKeysAreKeptForThirtyDaysAndNoLonger(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		r := driveRequest("data", 10)
		r.Key = "one"
		d := b.make(r)
		other := driveRequest("stays", 1)
		other.Key = "other"
		stays := b.make(other)
		if _, err := b.SnapshotDrive(background, alice, drives.CloudDrive, d.ID, "s", "two"); err != nil {
			t.Fatal(err)
		}
		b.settle()
		if _, err := b.DeleteDrive(background, alice, drives.CloudDrive, d.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.pass(keepRecords - forgetEvery)
		b.wantDrive(d.ID, drives.Deleted)
		if again, err := b.CreateDrive(background, r); err != nil || again.ID != d.ID || again.State != drives.Deleted {
			t.Errorf("%+v, %v", again, err)
		}
		b.pass(3 * forgetEvery)
		if b.known(d.ID) || b.requests() != 0 {
			t.Fatalf("the drive is known: %v; %d keys are left", b.known(d.ID), b.requests())
		}
		b.wantDrive(stays.ID, drives.Available)
		if names := b.machine.Names(); len(names) != 1 || names[0] != stays.Volume() {
			t.Errorf("the machine has %v", names)
		}
		again := b.make(r)
		if again.ID <= stays.ID {
			t.Errorf("number %d came again", again.ID)
		}
	})
}

// A crash leaves what was not forgotten yet: part of the keys, or drives without keys.
func TestForgettingGoesOnAfterACrash(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		const old, young, unmarked = 3*forgetBatch + 7, 5, 3
		b.update(func(tx *store.Tx) error {
			put := func(kind string, n int, at time.Time) (err error) {
				for k := range n {
					err = errors.Join(err, drivesByRequest.Put(tx, fmt.Sprintf("1/%s-%04d", kind, k), driveRecord{ID: 99, At: at}))
				}
				return err
			}
			return errors.Join(put("old", old, time.Now().Add(-keepRecords-time.Second)), put("young", young, time.Now()), put("unmarked", unmarked, time.Time{}))
		})
		b.stop()
		calls := 0
		n, err := sweep(background, &biller{Scheduler: b.Scheduler}, outdatedRequests, func(tx *store.Tx, keys []string, before time.Time) error {
			if calls++; calls == 3 {
				_ = forgetRequests(tx, keys, before, time.Now())
				return errTest // in the middle of the third part: nothing of it is on disk
			}
			return forgetRequests(tx, keys, before, time.Now())
		}, time.Now().Add(-keepRecords))
		if !errors.Is(err, errTest) || n != 2*forgetBatch || b.requests() != old-n+young+unmarked {
			t.Fatalf("%v; %d were forgotten, and %d are left", err, n, b.requests())
		}
		b.start()
		b.settle()
		if left := b.requests(); left != young+unmarked {
			t.Errorf("%d keys are left, want %d", left, young+unmarked)
		}
		b.pass(keepRecords + 2*forgetEvery) // those that did not tell their age count from when they were found
		if left := b.requests(); left != 0 {
			t.Errorf("%d keys are left, want none", left)
		}
	})
}

func TestAKeyThatOutlivesItsDriveMakesAnother(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		r := driveRequest("data", 10)
		r.Key = "one"
		d := b.make(r)
		if _, err := b.DeleteDrive(background, alice, drives.CloudDrive, d.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.update(func(tx *store.Tx) error { return drives.Forget(tx, []DriveID{d.ID}, time.Now().Add(time.Hour)) })
		b.settle() // its worker is told, and must not make it anew
		if names := b.machine.Names(); len(names) != 0 {
			t.Fatalf("the machine has %v", names)
		}
		if again := b.make(r); again.ID == d.ID {
			t.Errorf("it is %d again", again.ID)
		}
	})
}

// What fails reads all records before it does: it must not do so each minute.
func TestForgettingThatFailsIsTriedAgainAfterAnHour(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		b.update(func(tx *store.Tx) error { // not a record
			return store.NewStringCollection[string, string]("drives.idempotency").Put(tx, "1/broken", "broken")
		})
		e := b.listen()
		const message = "old records could not be forgotten; will be tried again"
		b.pass(forgetEvery / 2)
		if n := e.count(message); n != 1 {
			t.Errorf("it was tried %d times in half an hour, want once", n)
		}
		b.pass(forgetEvery)
		if n := e.count(message); n != 2 {
			t.Errorf("it was tried %d times in an hour and a half, want twice", n)
		}
	})
}
