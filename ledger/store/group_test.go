package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// inOneGroup has the writer find the updates waiting, in this order, and gives what
// each of their callers gets, and how many commits it took.
func inOneGroup(t *testing.T, s *Store, fns ...func(*Tx) error) (out []outcome, commits int) {
	t.Helper()
	before := s.lastCommit()
	s.writing.Lock()
	var waiting []*update
	for _, fn := range fns {
		u := &update{fn: fn, result: make(chan outcome, 1)}
		waiting = append(waiting, u)
		if err := s.queue.add(context.Background(), u); err != nil {
			t.Error(err)
		}
	}
	s.writing.Unlock()
	for n, u := range waiting {
		select {
		case o := <-u.result:
			out = append(out, o)
		case <-time.After(20 * time.Second):
			t.Fatalf("update %d has no answer", n)
		}
	}
	return out, s.lastCommit() - before
}

func write(k int64, text string) func(*Tx) error {
	return func(tx *Tx) error { return notes.Put(tx, k, note{text}) }
}

var errBoom = errors.New("boom")

func TestUpdatesThatWaitShareACommitInTheOrderTheyCameIn(t *testing.T) {
	s := newStore(t)
	var order []int
	var fns []func(*Tx) error
	for n := range 50 {
		fns = append(fns, func(tx *Tx) error {
			order = append(order, n)
			return notes.Put(tx, 1, note{fmt.Sprint(n)})
		})
	}
	out, commits := inOneGroup(t, s, fns...)
	if commits != 1 || !slices.IsSorted(order) || len(order) != 50 {
		t.Fatalf("%d commits, order %v", commits, order)
	}
	for n, o := range out {
		if o.err != nil || o.panicked != nil {
			t.Errorf("update %d: %+v", n, o)
		}
	}
	if n, _ := get(t, s, 1); n.Text != "49" {
		t.Fatalf("the last one did not win: %+v", n)
	}
}

func TestGroupHasAtMostItsLimitOfUpdates(t *testing.T) {
	s := newStore(t)
	fns := make([]func(*Tx) error, maxGroup+1)
	for n := range fns {
		fns[n] = write(int64(n), "x")
	}
	if _, commits := inOneGroup(t, s, fns...); commits != 2 {
		t.Fatalf("%d commits", commits)
	}
}

// What a refusal was based on must be on the disk: nobody is refused for what an
// update did that was then undone.
func TestRefusalRestsOnlyOnWhatIsCommitted(t *testing.T) {
	s := newStore(t)
	taken := errors.New("taken")
	take := func(text string) func(*Tx) error {
		return func(tx *Tx) error {
			if _, ok, err := notes.Get(tx, 1); err != nil || ok {
				return errors.Join(err, taken)
			}
			return notes.Put(tx, 1, note{text})
		}
	}
	undone := func(tx *Tx) error { return errors.Join(take("first")(tx), errBoom) }
	out, commits := inOneGroup(t, s, undone, take("second"), take("third"))
	if !errors.Is(out[0].err, errBoom) || out[1].err != nil || !errors.Is(out[2].err, taken) || commits != 1 {
		t.Fatalf("%v, %d commits", out, commits)
	}
	if n, _ := get(t, s, 1); n.Text != "second" {
		t.Fatalf("%+v", n)
	}
}

func TestOneUpdateOfAGroupThatPanicsSparesTheOthers(t *testing.T) {
	s := newStore(t)
	out, _ := inOneGroup(t, s, write(1, "a"), func(tx *Tx) error { _ = write(2, "b")(tx); panic("ouch") }, write(3, "c"))
	if out[0].err != nil || out[1].panicked == nil || out[1].panicked.Value != "ouch" || out[2].err != nil {
		t.Fatalf("%v", out)
	}
	for k, want := range map[int64]bool{1: true, 2: false, 3: true} {
		if _, ok := get(t, s, k); ok != want {
			t.Errorf("record %d: %v", k, ok)
		}
	}
}

func TestGroupThatWroteNothingIsNotCommitted(t *testing.T) {
	s := newStore(t)
	ran := false
	out, commits := inOneGroup(t, s, func(tx *Tx) error { tx.OnCommit(func() { ran = true }); return nil }, func(*Tx) error { return errBoom })
	if commits != 0 || !ran || out[0].err != nil || !errors.Is(out[1].err, errBoom) {
		t.Fatalf("%d commits, hook %v, %v", commits, ran, out)
	}
}

func TestUpdateWhoseContextEndsWhileItWaitsSaysSo(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	s.writing.Lock()
	got := make(chan error, 1)
	go func() { got <- s.Update(ctx, write(1, "late")) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.writing.Unlock()
	if err := s.Update(ctx, write(2, "never")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, ok := get(t, s, 2); ok {
		t.Error("an update ran whose context had ended before")
	}
}

func TestCloseWaitsForWhatWasAccepted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ecolink.db")
	s := open(t, path)
	s.writing.Lock()
	const n = 20
	errs := make(chan error, n)
	for k := range n {
		go func() { errs <- s.Update(context.Background(), write(int64(k), "x")) }()
	}
	for s.queue.length() < n {
		time.Sleep(100 * time.Microsecond)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	s.writing.Unlock()
	for range n {
		if err := <-errs; err != nil {
			t.Errorf("accepted, and then %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	defer s.Close()
	for k := range n {
		if _, ok := get(t, s, int64(k)); !ok {
			t.Errorf("record %d is gone", k)
		}
	}
}

// tally is a Local: it keeps a record in memory and writes it once.
type tally struct {
	sum    int64
	writes *int
	fail   error
}

type tallyKey struct{}

var tallies = NewStringCollection[string, int64]("tallies")

func (l *tally) Flush(tx *Tx) error {
	*l.writes++
	return errors.Join(tallies.Put(tx, "sum", l.sum), l.fail)
}

// counter makes updates that add to a tally in memory.
type counter struct {
	reads, writes int
	fail          error
}

func (c *counter) add(n int64, then error) func(*Tx) error {
	return func(tx *Tx) error {
		l, err := tx.Local(tallyKey{}, func() (Local, error) {
			c.reads++
			sum, _, err := tallies.Get(tx, "sum")
			return &tally{sum: sum, writes: &c.writes, fail: c.fail}, err
		})
		if err != nil {
			return err
		}
		l.(*tally).sum += n
		tx.Touch()
		return then
	}
}

func (c *counter) sum(t *testing.T, s *Store) (n int64) {
	t.Helper()
	err := s.View(func(tx *Tx) (err error) { n, _, err = tallies.Get(tx, "sum"); return err })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLocalIsReadOnceAndWrittenOnceForAGroup(t *testing.T) {
	s := newStore(t)
	var c counter
	for want := int64(6); want <= 12; want += 6 {
		if _, commits := inOneGroup(t, s, c.add(1, nil), c.add(2, nil), c.add(3, nil)); commits != 1 {
			t.Fatalf("%d commits", commits)
		}
		if got := c.sum(t, s); got != want {
			t.Fatalf("the sum is %d, want %d", got, want)
		}
	}
	if c.reads != 2 || c.writes != 2 {
		t.Fatalf("read %d times and written %d times in two groups", c.reads, c.writes)
	}
}

func TestLocalForgetsWhatAFailedUpdateDidToIt(t *testing.T) {
	s := newStore(t)
	var c counter
	out, _ := inOneGroup(t, s, c.add(1, nil), c.add(100, errBoom), c.add(2, nil), func(*Tx) error { return errBoom }, c.add(1000, errBoom))
	for n, failed := range []bool{false, true, false, true, true} {
		if (out[n].err != nil) != failed {
			t.Errorf("update %d: %v", n, out[n].err)
		}
	}
	if got := c.sum(t, s); got != 3 {
		t.Fatalf("the sum is %d, want 3", got)
	}
	// Each failure after a write begins the group anew, and the Local with it.
	if c.reads != 3 || c.writes != 1 {
		t.Fatalf("read %d times, written %d times", c.reads, c.writes)
	}
}

func TestLocalOfAnUpdateThatFailedBeforeItWroteIsDropped(t *testing.T) {
	s := newStore(t)
	var c counter
	peek := func(tx *Tx) error {
		_, err := tx.Local(tallyKey{}, func() (Local, error) { c.reads++; return &tally{sum: 50, writes: &c.writes}, nil })
		return errors.Join(err, errBoom)
	}
	out, _ := inOneGroup(t, s, peek, c.add(1, nil))
	if out[0].err == nil || out[1].err != nil || c.reads != 2 || c.sum(t, s) != 1 {
		t.Fatalf("%v, read %d times, the sum is %d", out, c.reads, c.sum(t, s))
	}
}

func TestFlushThatFailsUndoesTheWholeGroupAndTellsAll(t *testing.T) {
	s := newStore(t)
	c := counter{fail: errBoom}
	hook := false
	out, commits := inOneGroup(t, s, write(1, "a"), c.add(1, nil), func(tx *Tx) error { tx.OnCommit(func() { hook = true }); return write(2, "b")(tx) })
	for n, o := range out {
		if !errors.Is(o.err, errBoom) {
			t.Errorf("update %d: %v", n, o.err)
		}
	}
	if _, ok := get(t, s, 1); ok || commits != 0 || hook || c.sum(t, s) != 0 {
		t.Fatalf("something was left: record %v, %d commits, hook %v", ok, commits, hook)
	}
	c.fail = nil
	if err := s.Update(context.Background(), c.add(7, nil)); err != nil || c.sum(t, s) != 7 {
		t.Fatalf("afterwards: %v, the sum is %d", err, c.sum(t, s))
	}
}

// chain is a Local whose Flush makes another.
type chain struct{ c *counter }

func (l chain) Flush(tx *Tx) error { return l.c.add(5, nil)(tx) }

func TestLocalThatAFlushMakesIsFlushedToo(t *testing.T) {
	s := newStore(t)
	var c counter
	err := s.Update(context.Background(), func(tx *Tx) error {
		_, err := tx.Local("chain", func() (Local, error) { return chain{&c}, nil })
		tx.Touch()
		return err
	})
	if err != nil || c.sum(t, s) != 5 {
		t.Fatalf("%v, the sum is %d", err, c.sum(t, s))
	}
}

func TestLocalThatCannotBeMadeFailsOnlyItsUpdate(t *testing.T) {
	s := newStore(t)
	var c counter
	out, _ := inOneGroup(t, s, c.add(1, nil), func(tx *Tx) error {
		_, err := tx.Local("broken", func() (Local, error) { return nil, errBoom })
		return err
	}, c.add(2, nil))
	if out[0].err != nil || !errors.Is(out[1].err, errBoom) || out[2].err != nil || c.sum(t, s) != 3 {
		t.Fatalf("%v, the sum is %d", out, c.sum(t, s))
	}
}
