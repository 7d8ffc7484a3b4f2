package lease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// stall keeps the database's writer busy until the returned function is called.
func (w *world) stall() (release func()) {
	w.Helper()
	return w.stallThen(func(*store.Tx) error { return nil })
}

// stallThen has the writer do something in the end.
func (w *world) stallThen(fn func(*store.Tx) error) (release func()) {
	w.Helper()
	hold, busy, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- w.store.Update(context.Background(), func(tx *store.Tx) error { close(busy); <-hold; return fn(tx) })
	}()
	<-busy
	return func() {
		close(hold)
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
}

func TestRequestsDoNotWaitForTheDatabase(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 7, 1).Release()
	release := w.stall()
	for n := range 100 {
		if err := w.reserve(alice, 7, 200).Charge(charge(125, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if m := w.wallet(alice); m.Out != 0 {
		t.Fatalf("the database was not busy: %+v", m)
	}
	release()
	w.flush()
	if rows := w.verify(); len(rows) != 100 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestNoMoreThanABlockOfAnAccountCanBeLostByAPowerCut(t *testing.T) {
	w := newWorld(t, Config{Block: 1000, MinBlock: 10, MaxBlock: 1000})
	w.credit(alice, 10*ledger.Dollar)
	big := w.reserve(alice, 0, 5000)
	w.reserve(alice, 0, 1000).Release()
	release := w.stall()
	for n := range 10 {
		w.spend(alice, 100, fmt.Sprint(n))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.Reserve(ctx, alice, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	if err := big.Charge(charge(4000, "was in flight")); err != nil {
		t.Fatal(err)
	}
	release()
	w.spend(alice, 1, "goes on")
	w.flush()
	if rows := w.verify(); len(rows) != 12 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestLeaseGoesOnWhenSomebodyElseEndedItsHold(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.spend(alice, 100, "1")
	w.flush()
	l := w.leases.peek(alice)
	w.update(func(tx *store.Tx) error {
		_, err := ledger.VoidHold(tx, l.hold, ledger.Entry{At: time.Now(), Description: "by hand"})
		return err
	})
	w.spend(alice, 100, "2")
	w.flush()
	w.spend(alice, 100, "3")
	w.flush()
	w.verify()
	w.close()
	if m := w.wallet(alice); m.Out != 300 || m.Held != 0 {
		t.Fatalf("%+v", m)
	}
}

func TestAuditFindsALeaseWithoutItsMoney(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.spend(alice, 100, "1")
	w.flush()
	audit := func() (out Audited, err error) {
		err = w.store.View(func(tx *store.Tx) (err error) { out, err = Audit(tx, ""); return err })
		return out, err
	}
	if got, err := audit(); err != nil || got.Leases != 1 || got.Held != w.wallet(alice).Held {
		t.Fatalf("%+v, %v", got, err)
	}
	w.update(func(tx *store.Tx) error {
		_, err := ledger.PlaceHold(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: 5, Resource: resourceOf(alice)}, ledger.HoldTerms{})
		return err
	})
	var found *ledger.Disagreement
	if _, err := audit(); !errors.As(err, &found) {
		t.Fatalf("a hold without a lease: %v", err)
	}
}
