package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// slowSnapshots lets each snapshot take ten minutes.
func slowSnapshots(b *box) {
	b.machine.SlowWith(func(op, _ string) (before, after time.Duration) {
		if op == "snapshot" {
			return 10 * time.Minute, 0
		}
		return 0, 0
	})
}

// manySnapshots has Alice ask for a snapshot of each of twenty drives.
func manySnapshots(b *box) (ids []DriveID) {
	b.t.Helper()
	for n := range 20 {
		ids = append(ids, b.makeDrive(fmt.Sprint("data-", n), 1).ID)
	}
	slowSnapshots(b)
	for _, id := range ids {
		if _, err := b.SnapshotDrive(background, alice, drives.CloudDrive, id, "s", ""); err != nil {
			b.t.Fatal(err)
		}
	}
	b.settle()
	return ids
}

func (b *box) ready(ids []DriveID) (n int) {
	b.t.Helper()
	for _, id := range ids {
		if d := b.readDrive(id); len(d.Snapshots) == 1 && d.Snapshots[0].State == drives.SnapshotReady {
			n++
		}
	}
	return n
}

func TestAnAccountsTwentySnapshotsKeepAnothersNewDriveNoMomentWaiting(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.update(func(tx *store.Tx) error {
			_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: bob, Amount: usd("100")})
			return err
		})
		ids := manySnapshots(b)
		r := driveRequest("his", 10)
		r.Account = bob
		d, err := b.CreateDrive(background, r)
		if err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.wantDrive(d.ID, drives.Available)
		if n := b.ready(ids); n != 0 {
			t.Fatalf("%d snapshots were quicker than they are", n)
		}
		b.pass(10 * time.Minute)
		if n := b.ready(ids); n != maxAccountJobs {
			t.Errorf("%d snapshots were made at once, want %d", n, maxAccountJobs)
		}
		b.pass(70 * time.Minute)
		if n := b.ready(ids); n != len(ids) {
			t.Errorf("%d of %d snapshots were made", n, len(ids))
		}
	})
}

// The last of twenty waits for an hour, and then fails once: it has been tried for
// ten minutes, not for seventy.
func TestWaitingForATurnIsNotTakenForTrying(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		failed := map[string]bool{} // the machine asks one at a time
		b.machine.FailWith(func(op, id string) (before, after error) {
			if op == "snapshot" && !failed[id] {
				failed[id] = true
				return errTest, nil
			}
			return nil, nil
		})
		ids := manySnapshots(b)
		b.pass(3 * time.Hour)
		if n := b.ready(ids); n != len(ids) {
			t.Errorf("%d of %d snapshots were made", n, len(ids))
		}
	})
}

// A box that is down works on nothing: what was tried for ten minutes before has
// five left after it, however often it was restarted meanwhile.
func TestTheWatchdogOfADriveDoesNotCountWhenTheBoxWasDown(t *testing.T) {
	storage(t, 1, func(t *testing.T, b *box) {
		b.machine.FailWith(func(op, _ string) (before, after error) {
			if op == "create" {
				return errTest, nil
			}
			return nil, nil
		})
		d, err := b.CreateDrive(background, driveRequest("data", 100))
		if err != nil {
			t.Fatal(err)
		}
		b.pass(10 * time.Minute)
		for range 3 {
			b.stop()
			time.Sleep(24 * time.Hour)
			b.start()
			b.pass(time.Minute)
			if d := b.wantDrive(d.ID, drives.Pending); !strings.Contains(d.Problem, errTest.Error()) {
				t.Errorf("why it waits: %q", d.Problem)
			}
		}
		b.pass(5 * time.Minute)
		b.wantDrive(d.ID, drives.Failed)
	})
}

// Those who wait have their turns one account after the other, each account's in
// the order in which they came; who leaves the line takes no turn with him.
func TestTurnsGoRoundTheAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const carol identity.AccountID = 3
		var line turns
		var order []string
		took := make(chan string, 100)
		next := make(chan struct{})
		ask := func(ctx context.Context, a identity.AccountID, name string) {
			go func() {
				done, err := line.take(ctx, a)
				if err != nil {
					took <- name + " left"
					return
				}
				took <- name
				<-next
				done()
			}()
			synctest.Wait()
		}
		see := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(took) > 0 {
				got = append(got, <-took)
			}
			slices.Sort(got) // those of one moment
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Fatalf("%v had their turn after %v, want %v", got, order, want)
			}
			order = append(order, got...)
		}
		impatient, leave := context.WithCancel(t.Context())
		for _, name := range []string{"a1", "a2", "a3", "a4", "a5"} {
			ask(t.Context(), alice, name)
		}
		see("a1", "a2", "a3") // and not four of them
		ask(impatient, bob, "b1")
		see("b1")
		ask(t.Context(), bob, "b2")
		ask(impatient, bob, "b3")
		ask(impatient, carol, "c1")
		ask(t.Context(), carol, "c2")
		see()
		leave()
		see("b3 left", "c1 left")
		end := func() { next <- struct{}{} }
		end()
		// a4 stood in line before b2, and b2 before c2; each is followed by another.
		see("a4")
		end()
		see("b2")
		end()
		see("c2")
		end()
		see("a5")
		for range 4 {
			end()
		}
		see()
		if line.total != 0 || len(line.running)+len(line.waiting)+len(line.line) != 0 {
			t.Errorf("left in line: %+v", line.line)
		}
	})
}
