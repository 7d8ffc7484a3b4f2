package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger/store"
)

// The record of a published archive waits behind another update when its call is
// cancelled. Until it is known what became of it, no other call may begin.
func TestCancelledArchivingKeepsOthersAwayUntilItsRecordIsWritten(t *testing.T) {
	s := newStore(t)
	spend(t, s, noon, 400, alternating)
	want, folder := mustRead(t, s), filepath.Join(filepath.Dir(s.Path()), ArchiveFolder)
	busy, release := make(chan struct{}), make(chan struct{})
	written := make(chan error, 1)
	go func() {
		written <- s.Update(context.Background(), func(*store.Tx) error { close(busy); <-release; return nil })
	}()
	<-busy
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := archiveAll(ctx, s, later.Add(-MinArchiveAge))
		ended <- err
	}()
	for published := false; !published; time.Sleep(time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(folder, "journal-*.eca"))
		if err != nil {
			t.Fatal(err)
		}
		published = len(found) > 0
	}
	cancel()
	select {
	case err := <-ended:
		t.Errorf("it gave up while its record may still be written: %v", err)
		ended <- err
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := archiveAll(context.Background(), s, noon); err == nil {
		t.Error("another call swept meanwhile")
	}
	close(release)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	mustArchive(t, s, later.Add(-MinArchiveAge))
	if err := mustRead(t, s).same(want); err != nil {
		t.Error(err)
	}
}

func TestRecordOfAnArchiveThatIsGoneIsDroppedWhileAllOfItsRowsAreThere(t *testing.T) {
	s := newStore(t)
	spend(t, s, noon, 400, alternating)
	want, folder := mustRead(t, s), filepath.Join(filepath.Dir(s.Path()), ArchiveFolder)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	a := archiver{st: s, maxRows: 200, maxPages: 2, folder: folder}
	gone := func() ArchiveFile {
		t.Helper()
		f, made, err := a.next(t.Context(), later, later)
		if err != nil || !made {
			t.Fatalf("%v, %v", made, err)
		}
		if err := os.Remove(filepath.Join(folder, f.Name)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	gone()
	if r := mustArchive(t, s, later.Add(-MinArchiveAge)); len(r.Files) < 2 {
		t.Errorf("%+v", r)
	}
	if err := mustRead(t, s).same(want); err != nil {
		t.Error(err)
	}
	// With a row less it is not dropped.
	spend(t, s, noon.Add(time.Hour), 400, alternating)
	f := gone()
	update(t, s, func(tx *store.Tx) error { _, err := prunePart(tx, f.Last, 1); return err })
	var lost *ArchiveError
	if _, err := archiveAll(t.Context(), s, later.Add(-MinArchiveAge)); !errors.As(err, &lost) {
		t.Errorf("got %v", err)
	}
}
