package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// smallDisk mounts a file system of a few pages.
func smallDisk(t *testing.T, path string, bytes int) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a tmpfs: %v", err)
		}
		t.Skipf("mount a tmpfs (as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestFullDiskUnderTheLogMakesChargesWaitForTheDatabase(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.close()
	smallDisk(t, w.logs, 64<<10)
	w.open()
	inJournal := func(request string) bool { return requests(w.verify())[request] == 1 }

	ballast := filepath.Join(w.logs, "ballast")
	fill := func() {
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	fill() // before there is a segment
	for n := range 5 {
		id := fmt.Sprint("none-", n)
		w.spend(alice, 100, id)
		if !inJournal(id) {
			t.Fatalf("%s is not in the journal, and not in the log", id)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.spend(alice, 100, "logged")
	if w.log.file == nil {
		t.Fatal("there is room, and no segment")
	}
	fill()               // the segment has a page, partly filled
	for n := range 100 { // a record may be cut in the middle
		id := fmt.Sprint("some-", n)
		w.spend(alice, 100, id)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		w.spend(alice, 100, fmt.Sprint("again-", n))
	}
	s, err := readSegment(w.log.file.Name(), tornEnd)
	if err != nil || s.torn || s.gap || len(s.records) < 51 || len(s.records) > 150 {
		t.Fatalf("the segment has %d records, torn %v, %v", len(s.records), s.torn, err)
	}
	w.flush()
	for id, n := range requests(w.verify()) {
		if n != 1 {
			t.Fatalf("%s has %d rows", id, n)
		}
	}
	if m := w.wallet(alice); m.Out != 156*100 {
		t.Fatalf("%+v", m)
	}
	w.close()
}

func TestChargeThatIsNowhereOnDiskSaysSoAndIsMadeLater(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	one, two := w.reserve(alice, 0, 100), w.reserve(alice, 0, 100)
	// The log can't be written, and the database refuses what is folded.
	w.log.writing.Lock()
	w.log.dead = unix.EIO
	w.log.writing.Unlock()
	var epoch logID
	setEpoch := func(id logID) {
		w.update(func(tx *store.Tx) error {
			state, _, err := states.Get(tx, stateKey)
			if err != nil {
				return err
			}
			epoch, state.Epoch = state.Epoch, id
			return states.Put(tx, stateKey, state)
		})
	}
	setEpoch(newID())
	was := epoch
	var unsure *UnsureError
	if err := one.Charge(charge(100, "one")); !errors.As(err, &unsure) || unsure.Request != "one" {
		t.Fatalf("%v", err)
	}
	var late *BacklogError
	if _, err := w.Reserve(context.Background(), alice, 0, 100); !errors.As(err, &late) || late.Cause == nil {
		t.Fatalf("%v", err)
	}
	if err := two.Charge(charge(100, "two")); !errors.As(err, &unsure) { // it was admitted before
		t.Fatalf("%v", err)
	}
	setEpoch(was)
	w.flush()
	w.spend(alice, 100, "three")
	w.flush()
	if rows := requests(w.verify()); len(rows) != 3 || rows["one"] != 1 || rows["two"] != 1 {
		t.Fatalf("%v", rows)
	}
}

func TestNothingIsAdmittedWhileTheDatabaseDoesNotKeepUp(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 100).Release()
	hold, busy := make(chan struct{}), make(chan struct{})
	go w.store.Update(context.Background(), func(*store.Tx) error { close(busy); <-hold; return nil })
	<-busy
	var late *BacklogError
	n := 0
	for ; n < 2*MaxBacklog; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		r, err := w.Reserve(ctx, alice, 0, 1)
		cancel()
		if errors.As(err, &late) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Charge(charge(1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 || n > MaxBacklog || late.Records > MaxBacklog {
		t.Fatalf("%d were admitted, %+v", n, late)
	}
	close(hold)
	w.spend(alice, 1, "x") // waits for the others
	w.flush()
	if rows := w.verify(); len(rows) != n+1 {
		t.Fatalf("%d rows of %d", len(rows), n+1)
	}
}
