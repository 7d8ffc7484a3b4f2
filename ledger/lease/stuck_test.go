package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// misplace lets an account's lease name a hold that is not there, and gives what
// puts it right.
func (w *world) misplace(a identity.AccountID) (mend func()) {
	w.Helper()
	var was granted
	put := func(hold ledger.HoldID) {
		w.update(func(tx *store.Tx) (err error) {
			g, _, err := grants.Get(tx, a)
			if err != nil {
				return err
			}
			was, g.Hold = g, hold
			return grants.Put(tx, a, g)
		})
	}
	put(999)
	hold := was.Hold
	return func() { put(hold) }
}

// corrupt changes a byte of alice's lease on the disk.
func (w *world) corrupt() {
	w.Helper()
	var was []byte
	err := w.store.View(func(tx *store.Tx) error {
		g, _, err := grants.Get(tx, alice)
		was, _ = json.Marshal(g)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	db := w.backup()
	bad := bytes.Clone(was)
	bad[6] ^= 2 // a digit of its id
	if !bytes.Contains(db, was) {
		w.Fatalf("%s is not in the database", was)
	}
	w.swap(bytes.ReplaceAll(db, was, bad))
}

func TestUnreadableLeaseStopsOnlyItsAccount(t *testing.T) {
	w := newWorld(t, Config{Idle: time.Hour})
	w.credit(alice, 10*ledger.Dollar)
	w.credit(bob, 10*ledger.Dollar)
	w.spend(alice, 100, "a1")
	w.spend(bob, 100, "b1")
	w.flush()
	mend := w.misplace(alice)
	release := w.stall() // both in one group
	w.spend(alice, 100, "a2")
	w.spend(bob, 100, "b2")
	release()
	w.flush()
	w.spend(bob, 100, "b3")
	w.flush()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := w.Reserve(ctx, alice, 0, 100); !errors.Is(err, ledger.ErrNoHold) {
		t.Fatalf("alice: %v", err)
	}
	stuck := w.stuck()
	if len(stuck) != 1 || stuck[0].Entry.RequestID != "a2" || stuck[0].Entry.Amount != 100 || stuck[0].Lease == 0 || stuck[0].Why == "" {
		t.Fatalf("%+v", stuck)
	}
	// Bob's lease is given back although alice's is in the way.
	w.unused(alice)
	w.unused(bob)
	if err := w.returnIdle(time.Now()); !errors.Is(err, ledger.ErrNoHold) {
		t.Fatal(err)
	}
	if m := w.wallet(bob); m.Held != 0 || m.Out != 300 {
		t.Fatalf("%+v", m)
	}
	mend()
	w.spend(alice, 100, "a3") // and goes on when it is mended
	w.flush()
	if rows := requests(w.verify()); len(rows) != 5 || rows["a2"] != 0 {
		t.Fatalf("%v", rows)
	}
	w.update(func(tx *store.Tx) error { return ForgetStuck(tx, stuck[0].Number) })
	if len(w.stuck()) != 0 {
		t.Fatal("it was not forgotten")
	}
}

func TestOpenGoesOnWithoutTheAccountThatCantBeRead(t *testing.T) {
	for name, harm := range map[string]func(*world){
		"its hold is missing":   func(w *world) { w.misplace(alice) },
		"its record is damaged": func(w *world) { w.corrupt() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.credit(alice, 10*ledger.Dollar)
			w.credit(bob, 10*ledger.Dollar)
			w.reserve(alice, 0, 1).Release()
			w.reserve(bob, 0, 1).Release()
			w.dies(func() {
				for n := range 3 {
					w.spend(alice, 100, fmt.Sprint("a", n))
					w.spend(bob, 100, fmt.Sprint("b", n))
				}
			})
			harm(w)
			w.open()
			if w.found.Records != 6 || w.found.Charged != 300 || w.found.Stuck != 3 || w.found.StuckAmount != 300 ||
				w.found.Leases != 1 || len(w.found.Unreadable) != 1 || len(w.found.Aside) != 1 {
				t.Fatalf("%+v", w.found)
			}
			if stuck := w.stuck(); len(stuck) != 3 {
				t.Fatalf("%+v", stuck)
			}
			w.spend(bob, 100, "goes on")
			w.flush()
			if m := w.wallet(bob); m.Out != 400 {
				t.Fatalf("%+v", m)
			}
			if _, err := w.Reserve(context.Background(), alice, 0, 1); err == nil {
				t.Fatal("alice has money that can't be read")
			}
			w.close()
			w.open() // nothing is stuck twice
			if w.found.Stuck != 0 || len(w.stuck()) != 3 {
				t.Fatalf("%+v", w.found)
			}
		})
	}
}

func TestChargesOfALeaseThatIsGoneAreNotTakenFromTheNext(t *testing.T) {
	w, _, _ := crashed(t, 3)
	w.update(func(tx *store.Tx) error {
		g, _, err := grants.Get(tx, alice)
		if err != nil {
			return err
		}
		g.ID++
		return grants.Put(tx, alice, g)
	})
	w.open()
	if rows := w.verify(); len(rows) != 0 || w.found.Stuck != 3 || len(w.found.Aside) != 1 {
		t.Fatalf("%d rows, %+v", len(rows), w.found)
	}
}

func TestOnlySoManyStuckChargesAreKept(t *testing.T) {
	w := newWorld(t, Config{})
	const more = 10
	w.update(func(tx *store.Tx) error {
		state, _, err := states.Get(tx, stateKey)
		if err != nil {
			return err
		}
		var f folding
		for n := range maxStuck + more {
			r := record{number: int64(n + 1), lease: 1, entry: charge(2, "x")}
			r.entry.Account = alice
			if err := f.stick(tx, &state, &r, "test", time.Now()); err != nil {
				return err
			}
		}
		return states.Put(tx, stateKey, state)
	})
	var total StuckTotal
	if err := w.store.View(func(tx *store.Tx) (err error) { _, total, err = StuckCharges(tx); return err }); err != nil {
		t.Fatal(err)
	}
	if want := (StuckTotal{Kept: maxStuck, Records: maxStuck + more, Amount: 2 * (maxStuck + more)}); total != want || len(w.stuck()) != maxStuck {
		t.Fatalf("%+v", total)
	}
}
