package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// crashed is a world without a Spender, as the death of the process leaves it: the
// log has n records of 100 that the journal does not have. raw is the only segment.
func crashed(t testing.TB, n int) (w *world, path string, raw []byte) {
	t.Helper()
	w = newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 1).Release()
	path, raw = w.dies(func() {
		for i := range n {
			w.spend(alice, 100, fmt.Sprint("r", i))
		}
	})
	return w, path, raw
}

// dies ends the process, as it were, after some charges that are in the log only.
func (w *world) dies(after func()) (path string, raw []byte) {
	w.Helper()
	before := w.backup()
	after()
	paths, err := segmentPaths(w.logs)
	if err != nil || len(paths) != 1 {
		w.Fatal(paths, err)
	}
	if raw, err = os.ReadFile(paths[0]); err != nil {
		w.Fatal(err)
	}
	w.close()
	w.swap(before)
	w.put(paths[0], raw)
	return paths[0], raw
}

// swap puts another database in place of the world's.
func (w *world) swap(db []byte) {
	w.Helper()
	if err := w.store.Close(); err != nil {
		w.Fatal(err)
	}
	w.put(filepath.Join(w.folder, "ecolink.db"), db)
	w.openStore()
}

func (w *world) backup() []byte {
	w.Helper()
	var out bytes.Buffer
	if _, err := w.store.Backup(&out); err != nil {
		w.Fatal(err)
	}
	return out.Bytes()
}

func (w *world) put(path string, raw []byte) {
	w.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		w.Fatal(err)
	}
}

// ends are the offsets at which the segment's records begin and end.
func ends(t testing.TB, path string, raw []byte) (out []int) {
	t.Helper()
	_, epoch, ok := parseName(path)
	if !ok {
		t.Fatal(path)
	}
	out = []int{0}
	for at := 0; at < len(raw); {
		size, _, whole, good := frame(raw[at:], epoch.seed())
		if !whole || !good {
			t.Fatalf("no record at %d", at)
		}
		at += size
		out = append(out, at)
	}
	return out
}

func TestTornEndOfTheLogIsDroppedAndTheRestCharged(t *testing.T) {
	w, path, raw := crashed(t, 3)
	db, at := w.backup(), ends(t, path, raw)
	for _, size := range []int{0, 1, at[1] - 1, at[1], at[2], at[2] + 1, at[2] + frameBytes, at[2] + frameBytes + 1, at[3] - 1, at[3]} {
		whole := 0
		for whole+1 < len(at) && at[whole+1] <= size {
			whole++
		}
		w.swap(db)
		w.put(path, raw[:size])
		w.open()
		if w.found.Records != whole || w.found.Charged != ledger.MicroUSD(whole)*100 || w.found.Leases != 1 {
			t.Fatalf("cut to %d bytes: %+v, want %d records", size, w.found, whole)
		}
		if rows := w.verify(); len(rows) != whole {
			t.Fatalf("cut to %d bytes: %d rows", size, len(rows))
		}
		if m := w.wallet(alice); m.Held != 0 || m.Available != 10*ledger.Dollar-m.Out {
			t.Fatalf("cut to %d bytes: %+v", size, m)
		}
		w.spend(alice, 7, "goes on")
		w.close()
		if left, err := segmentPaths(w.logs); err != nil || len(left) != 0 {
			t.Fatal(left, err)
		}
	}
}

func TestDamagedLogIsRefusedAndSaysWhatToDo(t *testing.T) {
	w, path, raw := crashed(t, 4)
	at := ends(t, path, raw)
	for _, offset := range []int{at[0], at[0] + 3, at[0] + 5, at[1] + 9, at[1] + 20, at[2] - 1, at[3] + 5, at[4] - 1} {
		damaged := bytes.Clone(raw)
		damaged[offset] ^= 0x40
		w.put(path, damaged)
		_, _, err := Open(context.Background(), w.store, w.logs, w.config)
		var said *DamagedError
		if !errors.As(err, &said) || said.Path != path {
			t.Fatalf("damage at %d: %v", offset, err)
		}
	}
	if rows := w.verify(); len(rows) != 0 {
		t.Fatalf("%d rows were made of a damaged log", len(rows))
	}
	w.put(path, raw)
	w.open() // nothing was lost by trying
	if w.found.Records != 4 {
		t.Fatalf("%+v", w.found)
	}
}

// reboot makes the log one of another boot.
func (w *world) reboot() {
	w.Helper()
	w.update(func(tx *store.Tx) error {
		state, _, err := states.Get(tx, stateKey)
		if err != nil {
			return err
		}
		state.Boot = newID()
		return states.Put(tx, stateKey, state)
	})
}

func TestPowerCutLosesOnlyWhatItTookFromTheLog(t *testing.T) {
	w, path, raw := crashed(t, 5)
	w.reboot()
	db, at := w.backup(), ends(t, path, raw)
	hole := func(from, to int) []byte {
		out := bytes.Clone(raw)
		clear(out[from:to])
		return out
	}
	for name, c := range map[string]struct {
		raw  []byte
		want int
	}{
		"all there":            {raw, 5},
		"zeros at the end":     {hole(at[3]+5, at[5]), 3},
		"a hole":               {hole(at[1], at[3]), 3},
		"a hole in the middle": {hole(at[1]+7, at[2]+9), 3},
		"the first page":       {hole(0, at[2]+1), 2},
		"nothing but zeros":    {make([]byte, len(raw)), 0},
		"no file":              {nil, 0},
	} {
		w.swap(db)
		w.put(path, c.raw)
		w.open()
		if w.found.Records != c.want {
			t.Fatalf("%s: %+v", name, w.found)
		}
		if rows, m := w.verify(), w.wallet(alice); len(rows) != c.want || m.Held != 0 || m.Available+m.Out != 10*ledger.Dollar {
			t.Fatalf("%s: %d rows, %+v", name, len(rows), m)
		}
		w.close()
	}
}

func TestLogIsChargedOnceHoweverOftenItComesBack(t *testing.T) {
	w, path, raw := crashed(t, 3)
	w.open()
	w.close()
	for range 3 {
		w.put(path, raw)
		w.open()
		w.close()
	}
	if rows := w.verify(); len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestRecoveryThatDiesOnTheWayIsFinishedByTheNext(t *testing.T) {
	w, path, raw := crashed(t, 3)
	s, err := readSegment(path, tornEnd)
	if err != nil {
		t.Fatal(err)
	}
	state, err := readState(w.store)
	if err != nil {
		t.Fatal(err)
	}
	died := recovery{store: w.store, dir: w.logs, state: state}
	if err := died.foldRecords(context.Background(), s.records[:2]); err != nil {
		t.Fatal(err)
	}
	w.open() // finds two of three folded
	if w.found.Records != 1 {
		t.Fatalf("%+v", w.found)
	}
	w.put(path, raw) // as if it had died before the segment was removed
	w.close()
	w.open()
	if rows := w.verify(); len(rows) != 3 || len(w.found.Aside) != 0 {
		t.Fatalf("%d rows, %+v", len(rows), w.found)
	}
}

func TestLogOfAnotherDatabaseChargesNobody(t *testing.T) {
	_, path, raw := crashed(t, 3)
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.spend(alice, 100, "own")
	w.close()
	damaged := bytes.Clone(raw)
	damaged[len(damaged)-30] ^= 1
	for _, foreign := range [][]byte{raw, damaged} {
		w.put(filepath.Join(w.logs, filepath.Base(path)), foreign)
		w.open()
		if rows := w.verify(); len(rows) != 1 || len(w.found.Aside) != 1 || w.found.Records != 0 {
			t.Fatalf("%d rows, %+v", len(rows), w.found)
		}
		kept, err := os.ReadFile(w.found.Aside[0])
		if err != nil || !bytes.Equal(kept, foreign) {
			t.Fatal("it was not kept")
		}
		w.close()
	}
	for range maxAside + 3 {
		w.put(filepath.Join(w.logs, filepath.Base(path)), raw)
		w.open()
		w.close()
	}
	if kept, err := segmentPaths(filepath.Join(w.logs, asideFolder)); err != nil || len(kept) != maxAside {
		t.Fatalf("%d segments are kept, %v", len(kept), err)
	}
}

func TestRestoredBackupIsNotChargedForAnotherEpoch(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.spend(alice, 100, "before")
	w.close()
	old := w.backup()
	w.open() // another epoch
	w.spend(alice, 100, "after")
	paths, err := segmentPaths(w.logs)
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	raw, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	w.swap(old)
	w.put(paths[0], raw)
	w.open()
	if rows := w.verify(); len(rows) != 1 || len(w.found.Aside) != 1 {
		t.Fatalf("%d rows, %+v", len(rows), w.found)
	}
}

func TestBackupFromBeforeALeaseDoesNotPayForIt(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.credit(bob, 10*ledger.Dollar)
	w.spend(alice, 100, "a0")
	w.flush()
	old := w.backup() // in the epoch, with alice's lease and without bob's
	w.spend(alice, 100, "a1")
	w.spend(bob, 100, "b1")
	paths, err := segmentPaths(w.logs)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	w.swap(old)
	w.put(paths[0], raw)
	w.open()
	rows := requests(w.verify())
	if len(rows) != 2 || rows["a0"] != 1 || rows["a1"] != 1 || w.found.Stuck != 1 || w.found.StuckAmount != 100 || len(w.found.Aside) != 1 {
		t.Fatalf("%v, %+v", rows, w.found)
	}
	if stuck := w.stuck(); len(stuck) != 1 || stuck[0].Entry.RequestID != "b1" || stuck[0].Entry.Account != bob || stuck[0].Why == "" {
		t.Fatalf("%+v", stuck)
	}
}

func TestSecondSpenderTakesTheDatabaseOver(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.spend(alice, 100, "1")
	w.flush()
	old, logs := w.Spender, w.logs
	w.logs = filepath.Join(w.folder, "other")
	w.open()
	r, err := old.Reserve(context.Background(), alice, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Charge(charge(100, "2")); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); !errors.Is(err, ErrReplaced) {
		t.Fatalf("%v", err)
	}
	if left, err := segmentPaths(logs); err != nil || len(left) != 1 {
		t.Fatal(left, err)
	}
	if rows := w.verify(); len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
}

func TestSegmentsAreRemovedOnceFolded(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.log.writing.Lock()
	w.log.limit = 2000
	w.log.writing.Unlock()
	for n := range 200 {
		w.spend(alice, 1, fmt.Sprint(n))
	}
	w.flush()
	var left []string
	for range 1000 { // flush may be heard before the file is gone
		if left, _ = segmentPaths(w.logs); len(left) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if len(left) != 1 || filepath.Base(left[0]) == segmentName(1, w.epoch) {
		t.Fatalf("%v", left)
	}
	if rows := w.verify(); len(rows) != 200 {
		t.Fatalf("%d rows", len(rows))
	}
}

func FuzzRecord(f *testing.F) {
	r := record{lease: 3, entry: charge(125, "req")}
	r.entry.Account, r.entry.APIKey, r.entry.Description = alice, 7, "chat"
	f.Add(appendBody(nil, &r))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decodeBody(raw)
		if err != nil {
			return
		}
		again, err := decodeBody(appendBody(nil, &got))
		if err != nil || again.entry != got.entry || again.lease != got.lease {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

func FuzzSegment(f *testing.F) {
	epoch := logID{2}
	var raw []byte
	for n := range int64(3) {
		r := record{lease: 3, entry: charge(125, "req")}
		r.entry.Account, r.entry.At = alice, time.Unix(0, n)
		body := appendBody(nil, &r)
		raw = appendFramed(raw, body, sumOf(epoch, body), n+1)
	}
	f.Add(raw, true)
	f.Add(raw[:len(raw)-5], true)
	f.Add(append(bytes.Clone(raw[:20]), raw[30:]...), false)
	f.Fuzz(func(t *testing.T, raw []byte, strict bool) {
		var s segment
		m := gaps
		if strict {
			m = tornEnd
		}
		if err := s.read(raw, epoch.seed(), m); err != nil {
			return
		}
		last := int64(0)
		for _, r := range s.records {
			if r.number <= last || r.entry.Amount <= 0 || r.entry.Account <= 0 {
				t.Fatalf("record %+v after %d", r, last)
			}
			last = r.number
		}
		if s.gap && strict {
			t.Fatal("a gap was passed over")
		}
	})
}
