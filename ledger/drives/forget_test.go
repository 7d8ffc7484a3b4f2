package drives

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ecolink/ledger/store"
)

func TestOnlyDrivesThatWereDeletedLongAgoAreForgotten(t *testing.T) {
	b := newBooks(t)
	var gone []ID
	for n := range 5 {
		d := b.ready(New{Name: fmt.Sprint("old-", n), GB: 1})
		if err := b.snapshot(d.ID, "s"); err != nil {
			t.Fatal(err)
		}
		b.work(d.ID)
		if err := b.discard(d.ID); err != nil {
			t.Fatal(err)
		}
		b.work(d.ID)
		gone = append(gone, b.want(d.ID, Deleted).ID)
	}
	kept := b.ready(New{Name: "kept", GB: 1})
	failed, err := b.create(New{Name: "failed", GB: 1})
	if err != nil {
		t.Fatal(err)
	}
	w, _ := failed.Work()
	b.must(func(tx *store.Tx) error { return GiveUp(tx, failed.ID, w, errors.New("the disk is full"), b.now) })
	deleting := b.ready(New{Name: "deleting", GB: 1})
	if err := b.discard(deleting.ID); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Hour)
	young := b.ready(New{Name: "young", GB: 1})
	if err := b.discard(young.ID); err != nil {
		t.Fatal(err)
	}
	b.work(young.ID)

	find := func(before time.Time, limit int) (found []ID) {
		b.view(func(tx *store.Tx) error {
			for from, parts := ID(0), 0; ; parts++ {
				ids, next, err := Outdated(tx, from, before, limit)
				if err != nil || next == 0 {
					found = append(found, ids...)
					return err
				}
				if len(ids) > limit || next <= from || parts > 100 {
					t.Fatalf("%v, and then on from %d", ids, next)
				}
				found, from = append(found, ids...), next
			}
		})
		return found
	}
	for _, limit := range []int{1, 2, 9, 100} {
		if got := find(b.now, limit); !slices.Equal(got, gone) {
			t.Fatalf("in parts of %d, %v are outdated, want %v", limit, got, gone)
		}
	}
	every := append(slices.Clone(gone), kept.ID, failed.ID, deleting.ID, young.ID, 99)
	b.must(func(tx *store.Tx) error { return Forget(tx, every, b.now) }) // it looks for itself
	b.must(func(tx *store.Tx) error { return Forget(tx, every, b.now) }) // as after a crash
	b.view(func(tx *store.Tx) error {
		for _, id := range gone {
			if _, ok, err := Read(tx, id); ok || err != nil {
				t.Errorf("drive %d is there: %v", id, err)
			}
		}
		return nil
	})
	b.want(kept.ID, Available)
	b.want(failed.ID, Failed)
	b.want(deleting.ID, Deleting)
	b.want(young.ID, Deleted)
	b.must(func(tx *store.Tx) error { return Forget(tx, every, b.now.Add(time.Hour)) })
	if again := b.ready(New{Name: "young", GB: 1}); again.ID != young.ID+1 {
		t.Errorf("the next drive is %d, and %d was the last", again.ID, young.ID)
	}
}
