package network

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"ecolink/agent/userns"
)

// leaveOnly lets a network choose among few ranges, which others may use as well.
func leaveOnly(n *Network, first, last int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range userns.MaxRanges {
		if r := userns.RangeAt(k); (k < first || k > last) && n.ranges[r] == "" {
			n.ranges[r] = "another"
		}
	}
}

func TestTwoBoxesOnAMachineNeverHaveIdsInCommon(t *testing.T) {
	one, two := newConfig(t), newConfig(t)
	a, b := open(t, one), open(t, two)
	leaveOnly(a, 7, 10)
	leaveOnly(b, 7, 10)
	seen := map[userns.Range]bool{}
	for k, n := range []*Network{a, b, a, b} {
		ns := acquire(t, n, []string{"first", "second", "third", "fourth"}[k])
		if seen[ns.User.Range] {
			t.Errorf("the ids from %d on are given twice", ns.User.First)
		}
		seen[ns.User.Range] = true
	}
	// A box that was killed has them still, as what it started runs on.
	crash(a)
	if ns, err := b.Acquire(t.Context(), "fifth"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %+v, %v", ns, err)
	}
	a = open(t, one)
	if ns, err := b.Acquire(t.Context(), "fifth"); !errors.Is(err, ErrExhausted) {
		t.Errorf("got %+v, %v", ns, err)
	}
	freed, _ := a.Lookup("third")
	if err := a.Release(t.Context(), "third"); err != nil {
		t.Fatal(err)
	}
	if ns := acquire(t, b, "fifth"); ns.User.Range != freed.User.Range {
		t.Errorf("the ids from %d on are free, and it has those from %d", freed.User.First, ns.User.First)
	}
	closeEmpty(t, a)
	closeEmpty(t, b)
	for k := 7; k <= 10; k++ {
		if _, err := os.Lstat((rangeLinks{rangesDir}).path(userns.RangeAt(k))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the note of range %d is left: %v", k, err)
		}
	}
}

func TestIdsBelongToWhoHasARecord(t *testing.T) {
	l := rangeLinks{filepath.Join(t.TempDir(), "ids")}
	if err := l.sweep(); err != nil {
		t.Error(err)
	}
	s := records{dir: filepath.Join(t.TempDir(), "[box]", "records")}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(filepath.Dir(s.dir), "userns")
	mine, others := filepath.Join(users, "ns-mine"), filepath.Join(users, "ns-other")
	rec, err := s.begin("ns-mine")
	if err != nil {
		t.Fatal(err)
	}
	r := userns.RangeAt(3)
	take := func(user string, want bool) {
		t.Helper()
		if err := l.sweep(); err != nil {
			t.Fatal(err)
		}
		if ok, err := l.take(r, user); ok != want || err != nil {
			t.Errorf("in the state %q, %s takes the range: %v, %v", rec.State, user, ok, err)
		}
	}
	take(mine, true)
	for _, step := range []func() (record, error){
		func() (record, error) { return rec, nil },
		func() (record, error) { return s.ready(rec) },
		func() (record, error) { return s.own(rec, "an/owner@home") },
		func() (record, error) { return s.retire(rec) },
	} {
		if rec, err = step(); err != nil {
			t.Fatal(err)
		}
		take(others, false)
		take(mine, true)
		if err := l.free(r, others); err != nil { // it isn't theirs
			t.Fatal(err)
		}
	}
	if err := s.forget(rec); err != nil {
		t.Fatal(err)
	}
	if err := l.sweep(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(l.dir); err != nil || len(left) != 1 { // the lock
		t.Errorf("left: %v, %v", left, err)
	}
	take(others, true)
	if ok, err := l.take(r, mine); !ok || err != nil { // the other never had a record
		t.Errorf("a note that counts for nothing is in the way: %v, %v", ok, err)
	}
}

func TestOfManyWhoWantTheSameIdsAtOnceOneHasThem(t *testing.T) {
	l := rangeLinks{filepath.Join(t.TempDir(), "ids")}
	s := records{dir: filepath.Join(t.TempDir(), "records")}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(filepath.Dir(s.dir), "userns")
	if ok, err := l.take(userns.RangeAt(0), filepath.Join(users, "ns-gone")); !ok || err != nil { // to be replaced
		t.Fatal(ok, err)
	}
	var have atomic.Int32
	var all sync.WaitGroup
	for _, id := range []string{"ns-a", "ns-b", "ns-c", "ns-d", "ns-e", "ns-f", "ns-g", "ns-h"} {
		all.Go(func() {
			if _, err := s.begin(id); err != nil {
				t.Error(err)
			}
			ok, err := l.take(userns.RangeAt(0), filepath.Join(users, id))
			if err != nil {
				t.Error(err)
			}
			if ok {
				have.Add(1)
			}
		})
	}
	all.Wait()
	if have.Load() != 1 {
		t.Errorf("%d have them", have.Load())
	}
}
