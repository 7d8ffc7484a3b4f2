package files

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ecolink/ledger/store"
	"ecolink/scheduler"
)

func TestNotesOfUploadsWhoseVolumeIsGoneAreFoundAndForgotten(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	do := func(f func(*store.Tx) error) {
		t.Helper()
		if err := st.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	do(func(tx *store.Tx) error { // neither drive ever was
		if err := uploading.Put(tx, 5, mark{Account: account, Since: now.Add(-3 * time.Hour)}); err != nil {
			return err
		}
		return uploading.Put(tx, 6, mark{Account: account, Since: now.Add(-time.Hour)}) // the next sweep sees to it
	})
	orphans := func() (out []scheduler.DriveID) {
		t.Helper()
		do(func(tx *store.Tx) (err error) { out, err = Orphans(tx, now); return err })
		return out
	}
	if got := orphans(); !slices.Equal(got, []scheduler.DriveID{5}) {
		t.Errorf("got %v", got)
	}
	for range 2 {
		do(func(tx *store.Tx) error { return ForgetOrphan(tx, 5, now) })
		do(func(tx *store.Tx) error { return ForgetOrphan(tx, 6, now) })
	}
	if got := orphans(); len(got) > 0 {
		t.Errorf("afterwards %v", got)
	}
	do(func(tx *store.Tx) error {
		if _, ok, err := uploading.Get(tx, 6); err != nil || !ok {
			t.Errorf("a note that is no orphan has gone: %v", err)
		}
		return nil
	})
}
