package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// bug gives what do panics with.
func bug(t *testing.T, do func() error) (text string) {
	t.Helper()
	defer func() { text = fmt.Sprint(recover()) }()
	if err := do(); err != nil {
		t.Errorf("a bug is told as an error: %v", err)
	}
	return ""
}

func TestTransactionUsedAfterItsEndIsTheBugItIs(t *testing.T) {
	s := newStore(t)
	var read, written *Tx
	if err := s.Update(context.Background(), func(tx *Tx) error { written = tx; return write(7, "seven")(tx) }); err != nil {
		t.Fatal(err)
	}
	var next func() (Record[int64, note], error, bool)
	err := s.View(func(tx *Tx) error {
		read = tx
		next, _ = iter.Pull2(notes.All(tx))
		next()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, use := range map[string]func() error{
		"Get":     func() error { _, _, err := notes.Get(read, 7); return err },
		"Put":     func() error { return write(1, "x")(written) },
		"a scan":  func() error { next(); return nil },
		"Touch":   func() error { written.Touch(); return nil },
		"Local":   func() error { _, err := written.Local(1, nil); return err },
		"WriteTo": func() error { _, err := read.WriteTo(nil); return err },
		"Size":    func() error { read.Size(); return nil },
	} {
		text := bug(t, func() error { return s.View(func(*Tx) error { return use() }) })
		if !strings.Contains(text, "after its end") && !strings.Contains(text, "tx closed") {
			t.Errorf("%s: %q", what, text)
		}
	}
}

func TestScanOfACollectionThatIsWrittenMeanwhileIsTheBugItIs(t *testing.T) {
	s := newStore(t)
	for what, scan := range map[string]func(*Tx) iter.Seq2[Record[int64, note], error]{
		"All":      func(tx *Tx) iter.Seq2[Record[int64, note], error] { return notes.All(tx) },
		"Scan":     func(tx *Tx) iter.Seq2[Record[int64, note], error] { return notes.Scan(tx, 0, 9) },
		"ScanDown": func(tx *Tx) iter.Seq2[Record[int64, note], error] { return notes.ScanDown(tx, 9, 0) },
	} {
		text := bug(t, func() error {
			return s.Update(context.Background(), func(tx *Tx) error {
				err := errors.Join(write(1, "a")(tx), write(2, "b")(tx))
				for rec := range scan(tx) {
					err = errors.Join(err, notes.Delete(tx, rec.Key))
				}
				return err
			})
		})
		if !strings.Contains(text, "notes is written while it is scanned") {
			t.Errorf("%s: %q", what, text)
		}
	}
}

func TestPageThatBboltRefusesIsNotCalledADamageForSure(t *testing.T) {
	stack := "goroutine 1 [running]:\npanic({0x1, 0x2})\n\t/go/panic.go:1\ngo.etcd.io/bbolt.(*node).put(...)\n\t/x.go:2\n"
	err := damage("page 7 already freed", []byte(stack))
	var unreadable *UnreadableError
	if !errors.Is(err, ErrDamaged) || !errors.As(err, &unreadable) || string(unreadable.Stack) != stack {
		t.Fatalf("got %#v", err)
	}
	if text := err.Error(); !strings.Contains(text, "ecolink ledger verify") || !strings.Contains(text, "page 7") || strings.Contains(text, "goroutine") {
		t.Fatalf("it says %s", text)
	}
	if err := damage("assertion failed: tx closed", []byte(stack)); err != nil {
		t.Fatalf("misuse is told as damage: %v", err)
	}
}

type origin map[string]int

func (o origin) spoil() { o["x"] = 1 }

func TestPanicInTheWritersGoroutineKeepsItsOrigin(t *testing.T) {
	s := newStore(t)
	out, _ := inOneGroup(t, s, func(*Tx) error { origin(nil).spoil(); return nil })
	p := out[0].panicked
	if p == nil || !strings.Contains(p.Error(), "origin.spoil") || !strings.Contains(p.Error(), "nil map") {
		t.Fatalf("got %v", p)
	}
	if fault := runtime.Error(nil); !errors.As(error(p), &fault) {
		t.Error("the panic's own error is not to be had")
	}
}

// A panic in the midst of a change to a Local, before its Touch.
func TestLocalForgetsWhatAPanicLeftOfAChange(t *testing.T) {
	s := newStore(t)
	var c counter
	half := func(tx *Tx) error {
		l, _ := tx.Local(tallyKey{}, nil)
		l.(*tally).sum += 100
		panic("half done")
	}
	out, _ := inOneGroup(t, s, c.add(1, nil), half, c.add(2, nil))
	if out[0].err != nil || out[1].panicked == nil || out[2].err != nil || c.sum(t, s) != 3 {
		t.Fatalf("%v, the sum is %d", out, c.sum(t, s))
	}
}

// late is a Local whose Flush changes one that has been flushed.
type late struct{ c *counter }

func (l late) Flush(tx *Tx) error { return l.c.add(5, nil)(tx) }

func TestLocalThatIsChangedAfterItsFlushFailsTheGroup(t *testing.T) {
	s := newStore(t)
	var c counter
	out, commits := inOneGroup(t, s, c.add(1, nil), func(tx *Tx) error {
		_, err := tx.Local("late", func() (Local, error) { return late{&c}, nil })
		return err
	})
	if out[0].err == nil || !strings.Contains(out[0].err.Error(), "after its flush") || commits != 0 || c.sum(t, s) != 0 {
		t.Fatalf("%v, %d commits, the sum is %d", out, commits, c.sum(t, s))
	}
}

func TestUpdateThatEndsItsGoroutineSparesTheOthers(t *testing.T) {
	s := newStore(t)
	exit := func(tx *Tx) error { _ = write(9, "never")(tx); runtime.Goexit(); return nil }
	out, commits := inOneGroup(t, s, write(1, "a"), exit, write(2, "b"), exit, write(3, "c"))
	for n, failed := range []bool{false, true, false, true, false} {
		if (out[n].err != nil) != failed {
			t.Errorf("update %d: %v", n, out[n].err)
		}
	}
	if _, ok := get(t, s, 9); ok || commits != 1 {
		t.Errorf("%d commits, the record is there: %v", commits, ok)
	}
	out, _ = inOneGroup(t, s, exit, write(4, "d"))
	if out[1].err != nil {
		t.Errorf("the writer did not go on: %v", out[1].err)
	}
	var wg sync.WaitGroup // one that is alone ends its own caller
	wg.Go(func() { _ = s.Update(context.Background(), exit) })
	wg.Wait()
	if err := s.Update(context.Background(), write(5, "e")); err != nil {
		t.Error(err)
	}
}

// The first half is committed and told by then.
func TestUpdateOfASplitGroupThatEndsItsGoroutineSparesTheOthers(t *testing.T) {
	s := newStore(t)
	var fns []func(*Tx) error
	for k := range int64(100) {
		fns = append(fns, write(k, "x"), func(tx *Tx) error { return errors.Join(write(1000, "no")(tx), errBoom) })
	}
	exit := func(*Tx) error {
		if _, ok := get(t, s, 0); ok {
			runtime.Goexit()
		}
		return nil
	}
	fns = append(fns, exit, write(2000, "last"))
	out, commits := inOneGroup(t, s, fns...)
	for n, o := range out[:200] {
		if (o.err != nil) != (n%2 == 1) {
			t.Errorf("update %d: %v", n, o.err)
		}
	}
	if !errors.Is(out[200].err, errExited) || out[201].err != nil || commits < 2 {
		t.Errorf("%v, %v, %d commits", out[200].err, out[201].err, commits)
	}
	for k := range int64(100) {
		if _, ok := get(t, s, k); !ok {
			t.Errorf("record %d is lost", k)
		}
	}
}

func TestUpdatesThatFailAreNotRunAgainAndAgain(t *testing.T) {
	for what, fails := range map[string]func(int) bool{
		"every second": func(n int) bool { return n%2 == 1 },
		"all":          func(int) bool { return true },
		"the last 300": func(n int) bool { return n >= 700 },
	} {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			const n = 1000
			runs := 0
			var order []int
			var fns []func(*Tx) error
			for k := range n {
				fns = append(fns, func(tx *Tx) error {
					runs++
					if err := write(int64(k), "x")(tx); err != nil || fails(k) {
						return errors.Join(err, errBoom)
					}
					tx.OnCommit(func() { order = append(order, k) })
					return nil
				})
			}
			begun := time.Now()
			out, commits := inOneGroup(t, s, fns...)
			for k := range out {
				if _, ok := get(t, s, int64(k)); ok == fails(k) || (out[k].err != nil) != fails(k) {
					t.Fatalf("update %d: there %v, %v", k, ok, out[k].err)
				}
			}
			for n := 1; n < len(order); n++ {
				if order[n] < order[n-1] {
					t.Fatalf("update %d is committed before %d", order[n-1], order[n])
				}
			}
			t.Logf("%d runs, %d commits, %v", runs, commits, time.Since(begun))
			if runs > maxRuns*n*11 {
				t.Errorf("%d updates were run %d times", n, runs)
			}
		})
	}
}

// What keeps the first half of a split group from the disk keeps the second too.
func TestFailureOfAPartIsToldToTheRest(t *testing.T) {
	s := newStore(t)
	var c counter
	c.fail = errors.New("full")
	fns := []func(*Tx) error{c.add(1, nil)}
	for range 100 {
		fns = append(fns, c.add(1, errBoom), write(1, "x"))
	}
	out, commits := inOneGroup(t, s, fns...)
	for n, o := range out {
		if !errors.Is(o.err, c.fail) {
			t.Fatalf("update %d: %v", n, o.err)
		}
	}
	if commits != 0 {
		t.Errorf("%d commits", commits)
	}
}

func TestUpdateWhoseContextEndsInTheQueueNeverRuns(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	s.writing.Lock()
	ran, got := 0, make(chan error, 1)
	go func() { got <- s.Update(ctx, func(tx *Tx) error { ran++; return write(1, "late")(tx) }) }()
	for s.queue.length() == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	cancel()
	err := <-got
	s.writing.Unlock()
	if again := s.Update(context.Background(), write(2, "after")); again != nil {
		t.Fatal(again)
	}
	if _, there := get(t, s, 1); ran != 0 || there || !errors.Is(err, context.Canceled) {
		t.Fatalf("it ran %d times, there %v, %v", ran, there, err)
	}
}

func TestUpdateThatHasBegunIsWaitedFor(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	s.writing.Lock()
	ran, begun, got := 0, make(chan struct{}), make(chan error, 1)
	go func() {
		got <- s.Update(ctx, func(tx *Tx) error {
			close(begun)
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond)
			ran++ // the race detector sees a caller that did not wait
			return write(1, "in time")(tx)
		})
	}()
	for s.queue.length() == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	s.writing.Unlock()
	<-begun
	cancel()
	err := <-got
	if _, there := get(t, s, 1); ran != 1 || !there || err != nil {
		t.Fatalf("it ran %d times, there %v, %v", ran, there, err)
	}
}
