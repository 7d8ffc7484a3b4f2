package lease

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

func TestChargeOfNothingEndsTheReservationWithoutARow(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.update(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, 7, 1000, 0, time.Now()) })
	r := w.reserve(alice, 7, 1000)
	if err := r.Charge(charge(0, "free")); err != nil {
		t.Fatal(err)
	}
	if err := r.Charge(charge(5, "free")); err != ErrSpent {
		t.Fatalf("charged again: %v", err)
	}
	w.reserve(alice, 7, 1000).Release() // nothing is reserved, nor counted against the cap
	w.flush()
	if rows := w.verify(); len(rows) != 0 {
		t.Fatalf("%+v", rows)
	}
}

func TestRowHasTheRequestsTimeUnlessThatIsLongAgoOrToCome(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		e := charge(100, off.String())
		e.At = time.Now().Add(off)
		if err := w.reserve(alice, 0, 100).Charge(e); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	rows := w.verify()
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		if off := time.Since(row.At); off < 0 || off > 10*time.Second {
			t.Fatalf("%s: the row is dated %s ago", row.RequestID, off)
		}
	}
	now := time.Now()
	if e := dated(ledger.Entry{At: now.Add(-30 * time.Second)}, now); !e.At.Equal(now.Add(-30 * time.Second)) {
		t.Fatal("a request's own time is lost")
	}
}

func TestKeyWithoutACapIsReadOnce(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	if err := w.reserve(alice, 7, 100).Charge(charge(100, "1")); err != nil {
		t.Fatal(err)
	}
	w.flush()
	k := w.caps.keys.peek(7)
	k.mu.Lock()
	known, pending := k.known, k.pending
	k.mu.Unlock()
	if !known || pending != 0 {
		t.Fatalf("after the fold: known %v, $%s pending", known, pending)
	}
}

func TestRecordsAreFoldedInTheirOrderOnly(t *testing.T) {
	w, path, _ := crashed(t, 3)
	s, err := readSegment(path, tornEnd)
	if err != nil {
		t.Fatal(err)
	}
	state, err := readState(w.store)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]int{{0, 0}, {1, 0}, {0, 1, 1}, {0, 2, 1}} {
		var records []record
		for _, n := range order {
			records = append(records, s.records[n])
		}
		err := w.store.Update(context.Background(), func(tx *store.Tx) error {
			_, err := foldRecords(tx, records, state.Epoch, time.Now())
			return err
		})
		if err == nil {
			t.Fatalf("%v was folded", order)
		}
	}
	if rows := w.verify(); len(rows) != 0 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestRecordThatIsInTheLogTwiceIsDamage(t *testing.T) {
	w, path, raw := crashed(t, 3)
	at := ends(t, path, raw)
	twice := append(bytes.Clone(raw), raw[at[1]:at[2]]...)
	w.put(path, twice)
	var said *DamagedError
	if _, _, err := Open(context.Background(), w.store, w.logs, w.config); !errors.As(err, &said) {
		t.Fatalf("%v", err)
	}
	w.reboot()
	w.open()
	if rows := w.verify(); len(rows) != 3 || w.found.Torn != 1 {
		t.Fatalf("%d rows, %+v", len(rows), w.found)
	}
}

func TestLogOfAnotherHistoryIsNeverDeleted(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	old := w.backup()
	for range 10 {
		w.spend(alice, 100, "a")
	}
	w.close()
	late := w.backup() // has folded more than the other history ever had
	w.swap(old)
	w.open()
	w.credit(bob, 10*ledger.Dollar)
	w.reserve(bob, 0, 1).Release()
	var path string
	var raw []byte
	w.dies(func() {
		for range 3 {
			w.spend(bob, 100, "b")
		}
	})
	paths, err := segmentPaths(w.logs)
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	path = paths[0]
	if raw, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	w.swap(late)
	w.open()
	if len(w.found.Aside) != 1 || w.found.Records != 0 {
		t.Fatalf("%+v", w.found)
	}
	if kept, err := os.ReadFile(w.found.Aside[0]); err != nil || !bytes.Equal(kept, raw) {
		t.Fatal("it was not kept")
	}
}

func TestLogOfTheEpochBeforeIsKeptIfItHasMoreThanWasFolded(t *testing.T) {
	w, path, raw := crashed(t, 3)
	at := ends(t, path, raw)
	w.put(path, raw[:at[2]])
	w.open()
	w.close()
	w.put(path, raw) // now with a record that was never charged
	w.open()
	if rows := w.verify(); len(rows) != 2 || len(w.found.Aside) != 1 {
		t.Fatalf("%d rows, %+v", len(rows), w.found)
	}
}

func TestCapIsReadAgainAfterAFold(t *testing.T) {
	k := &keySpend{id: 7, known: true, capped: true, cap: ledger.KeyCap{Cap: 1000}, pending: 600}
	if k.folded(600); k.known { // or what was folded would count nowhere
		t.Fatal("a cap is taken as known that does not count what was folded")
	}
}
