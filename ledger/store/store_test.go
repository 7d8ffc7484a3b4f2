package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

type note struct {
	Text string `json:"text"`
}

var notes = NewIntCollection[int64, note]("notes")

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(t testing.TB) *Store {
	s := open(t, filepath.Join(t.TempDir(), "ecolink.db"))
	t.Cleanup(func() { s.Close() })
	return s
}

func get(t testing.TB, s *Store, k int64) (n note, ok bool) {
	t.Helper()
	err := s.View(func(tx *Tx) (err error) {
		n, ok, err = notes.Get(tx, k)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, ok
}

func TestWhatWasWrittenIsThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ecolink.db")
	s := open(t, path)
	err := s.Update(context.Background(), func(tx *Tx) error { return notes.Put(tx, 7, note{"seven"}) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer s.Close()
	if n, ok := get(t, s, 7); !ok || n.Text != "seven" {
		t.Fatalf("got %+v, %v", n, ok)
	}
}

func TestFileOpenElsewhereIsRefusedByName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ecolink.db")
	s := open(t, path)
	defer s.Close()
	if _, err := Open(path); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
}

// Half of the updates fail, some after they have written: what they wrote must be
// gone and what the others wrote, in the same group, must be there.
func TestFailedUpdateLeavesNothingAndHarmsNobodyInItsGroup(t *testing.T) {
	s := newStore(t)
	boom := errors.New("boom")
	const n = 500
	errs := make([]error, n)
	var hooks sync.Map
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			errs[i] = s.Update(context.Background(), func(tx *Tx) error {
				if i%4 == 1 { // fails before it writes
					return boom
				}
				tx.OnCommit(func() { hooks.Store(i, true) })
				if err := notes.Put(tx, int64(i), note{fmt.Sprint(i)}); err != nil {
					return err
				}
				if i%4 == 3 { // fails after it has written
					return boom
				}
				return nil
			})
		})
	}
	wg.Wait()
	for i := range n {
		wantErr := i%2 == 1
		if (errs[i] != nil) != wantErr {
			t.Errorf("update %d: error %v", i, errs[i])
		}
		if _, ok := get(t, s, int64(i)); ok == wantErr {
			t.Errorf("update %d: written %v", i, ok)
		}
		if _, ran := hooks.Load(i); ran == wantErr {
			t.Errorf("update %d: hook ran %v", i, ran)
		}
	}
}

func TestPanicReachesItsCallerAndSparesTheOthers(t *testing.T) {
	s := newStore(t)
	func() {
		defer func() {
			p, ok := recover().(*Panic)
			if !ok || p.Value != "ouch" || !strings.Contains(p.Error(), "TestPanicReachesItsCaller") {
				t.Errorf("recovered %v", p)
			}
		}()
		s.Update(context.Background(), func(tx *Tx) error {
			notes.Put(tx, 1, note{"x"})
			panic("ouch")
		})
	}()
	if _, ok := get(t, s, 1); ok {
		t.Error("the panicking update left its write")
	}
	if err := s.Update(context.Background(), func(tx *Tx) error { return notes.Put(tx, 2, note{"y"}) }); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateAfterCloseSaysSo(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "ecolink.db"))
	s.Close()
	if err := s.Update(context.Background(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestWatchFoldsRepeatedChangesAndSeesOnlyItsBuckets(t *testing.T) {
	s := newStore(t)
	others := NewIntCollection[int64, note]("others")
	w := s.Watch(notes.Name())
	defer w.Close()
	for range 3 {
		err := s.Update(context.Background(), func(tx *Tx) error {
			if err := others.Put(tx, 9, note{}); err != nil {
				return err
			}
			return notes.Put(tx, 4, note{})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	<-w.Ready()
	got := w.Take()
	if len(got) != 1 || notes.KeyOf(got[0]) != 4 {
		t.Fatalf("got %v", got)
	}
}

func TestFileOfANewerVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ecolink.db")
	s := open(t, path)
	future := append([]migration{}, migrations...)
	future = append(future, migration{schema: 99, why: "test", apply: migrations[0].apply})
	if err := migrate(s.db, future); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err := Open(path); err == nil {
		s.Close()
		t.Fatal("opened a file from the future")
	}
}

func TestKeysKeepTheOrderOfTheirNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		if got, want := string(encodeInt64(a)) < string(encodeInt64(b)), a < b; got != want {
			t.Fatalf("%d < %d is %v in bytes", a, b, got)
		}
		if decodeInt64(encodeInt64(a)) != a {
			t.Fatalf("%d does not survive", a)
		}
	})
}

// A collection behaves as a sorted map does, scans in both directions included.
func TestCollectionIsASortedMap(t *testing.T) {
	s := newStore(t)
	run := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		run++
		coll := NewPairCollection[int]("pairs")
		model := map[int64]int{}
		steps := rapid.IntRange(1, 20).Draw(t, "steps")
		err := s.Update(context.Background(), func(tx *Tx) error {
			clear(model)
			for range steps {
				k, v := rapid.Int64Range(-5, 5).Draw(t, "k"), rapid.Int().Draw(t, "v")
				if rapid.Bool().Draw(t, "delete") {
					delete(model, k)
					if err := coll.Delete(tx, Pair{run, k}); err != nil {
						return err
					}
					continue
				}
				model[k] = v
				if err := coll.Put(tx, Pair{run, k}, v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(func(tx *Tx) error {
			last, n := int64(math.MinInt64), 0
			for rec, err := range coll.Scan(tx, First(run), Last(run)) {
				if err != nil {
					return err
				}
				if v, ok := model[rec.Key.B]; !ok || v != rec.Value || rec.Key.B <= last {
					t.Fatalf("scan up: %v after %d, model %v", rec, last, model)
				}
				last, n = rec.Key.B, n+1
			}
			if n != len(model) {
				t.Fatalf("scan up saw %d of %d", n, len(model))
			}
			last, n = math.MaxInt64, 0
			for rec, err := range coll.ScanDown(tx, Last(run), First(run)) {
				if err != nil {
					return err
				}
				if rec.Key.B >= last {
					t.Fatalf("scan down: %v after %d", rec, last)
				}
				last, n = rec.Key.B, n+1
			}
			if n != len(model) {
				t.Fatalf("scan down saw %d of %d", n, len(model))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
