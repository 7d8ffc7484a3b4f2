package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
)

func TestRefusedRequestLeavesTheBalanceAvailable(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 100*ledger.Dollar)
	var short *ledger.InsufficientError
	for range 3 {
		if _, err := w.Reserve(context.Background(), alice, 0, 150*ledger.Dollar); !errors.As(err, &short) || short.Available != 100*ledger.Dollar {
			t.Fatal(err)
		}
	}
	if m := w.wallet(alice); m.Available != 100*ledger.Dollar || m.Held != 0 {
		t.Fatalf("%+v", m)
	}
	w.spend(alice, 100, "1")
	if _, err := w.Reserve(context.Background(), alice, 0, 150*ledger.Dollar); !errors.As(err, &short) || short.Available != 100*ledger.Dollar-100 {
		t.Fatal(err)
	}
	if m := w.wallet(alice); m.Held > DefaultBlock+100 {
		t.Fatalf("%+v", m)
	}
	w.verify()
}

func TestDrawServesThoseForWhomThereIsEnough(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 100*ledger.Dollar)
	release := w.stall()
	type answer struct {
		r   *Reservation
		err error
	}
	ask := func(need ledger.MicroUSD, place int) <-chan answer {
		out := make(chan answer, 1)
		go func() {
			r, err := w.Reserve(context.Background(), alice, 0, need)
			out <- answer{r, err}
		}()
		w.inLine(place)
		return out
	}
	small, large, rest, beyond := ask(ledger.Dollar, 1), ask(150*ledger.Dollar, 2), ask(99*ledger.Dollar, 3), ask(1, 4)
	release()
	for _, served := range []<-chan answer{small, rest} {
		if got := <-served; got.err != nil {
			t.Fatal(got.err)
		}
	}
	var short *ledger.InsufficientError
	if got := <-large; !errors.As(got.err, &short) || short.Available != 99*ledger.Dollar {
		t.Fatal(got.err)
	}
	if got := <-beyond; !errors.As(got.err, &short) || short.Available != 0 {
		t.Fatal(got.err)
	}
}

// inLine waits until so many of alice's requests wait.
func (w *world) inLine(n int) {
	w.Helper()
	for range 5000 {
		if l := w.leases.peek(alice); l != nil {
			l.mu.Lock()
			got := len(l.line)
			l.mu.Unlock()
			if got == n {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	w.Fatalf("there are never %d in the line", n)
}

func TestLargeEstimateGetsItsTurnOnABusyAccount(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 1_000_000*ledger.Dollar)
	var stop atomic.Bool
	done := make(chan struct{}, 32)
	for g := range cap(done) {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := 0; !stop.Load(); n++ {
				r, err := w.Reserve(context.Background(), alice, 0, 2000)
				if err == nil {
					err = r.Charge(charge(1000, fmt.Sprint(g, "-", n)))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for range 3 {
		r, err := w.Reserve(ctx, alice, 0, DefaultMaxBlock+ledger.Dollar)
		if err != nil {
			t.Errorf("starved: %v", err)
			break
		}
		r.Release()
	}
	stop.Store(true)
	for range cap(done) {
		<-done
	}
}

func TestWhoeverIsFirstInTheLineIsServedFirst(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 1).Release() // there is room for small ones
	release := w.stall()
	served := make(chan string, 2)
	ask := func(need ledger.MicroUSD, name string, place int) {
		go func() {
			if _, err := w.Reserve(context.Background(), alice, 0, need); err != nil {
				t.Error(err)
			}
			served <- name
		}()
		w.inLine(place)
	}
	ask(5*ledger.Dollar, "large", 1)
	ask(1, "small", 2)
	select {
	case name := <-served:
		t.Fatalf("%s was served out of turn", name)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	<-served
	<-served
}

func TestRequestThatGivesUpMakesWayForTheNext(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 1).Release()
	release := w.stall()
	defer release()
	ctx, cancel := context.WithCancel(context.Background())
	gone, served := make(chan error, 1), make(chan error, 1)
	go func() { _, err := w.Reserve(ctx, alice, 0, 5*ledger.Dollar); gone <- err }()
	w.inLine(1)
	go func() { _, err := w.Reserve(context.Background(), alice, 0, 1); served <- err }()
	w.inLine(2)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := <-served; err != nil { // while the database is busy: there is room
		t.Fatal(err)
	}
}

func TestWhatIsNotNeededIsTrimmedWhileTheAccountIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.credit(alice, 8*ledger.Dollar)
		w.reserve(alice, 0, 5*ledger.Dollar).Release()
		for n := range 12 {
			w.spend(alice, 10, fmt.Sprint(n))
			time.Sleep(300 * time.Millisecond)
		}
		synctest.Wait()
		if m := w.wallet(alice); m.Held > 2*DefaultBlock {
			t.Fatalf("%+v", m)
		}
		w.flush()
		rows := len(w.rows())
		for n := range 12 { // estimates that are needed again and again are not trimmed
			w.reserve(alice, 0, 4*ledger.Dollar).Release()
			w.spend(alice, 10, fmt.Sprint("again-", n))
			time.Sleep(300 * time.Millisecond)
		}
		synctest.Wait()
		w.flush()
		if more := len(w.rows()) - rows; more > 12+2 {
			t.Fatalf("12 requests made %d rows", more)
		}
		w.verify()
		w.end()
	})
}

func TestNobodyGetsWhatIsBeingTrimmed(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 5*ledger.Dollar).Release()
	l, now := w.leases.peek(alice), time.Now()
	l.excess(now)
	release := w.stall()
	trimmed := make(chan error, 1)
	go func() { trimmed <- w.trimAll(now) }()
	for {
		l.mu.Lock()
		doing := l.doing
		l.mu.Unlock()
		if doing == trimming {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.reserve(alice, 0, 1000).Release() // what stays goes on
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.Reserve(ctx, alice, 0, 4*ledger.Dollar); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	release()
	if err := <-trimmed; err != nil {
		t.Fatal(err)
	}
	w.spend(alice, 4*ledger.Dollar, "drawn anew")
	w.flush()
	w.verify()
}

func TestNobodyGetsWhatIsBeingGivenBack(t *testing.T) {
	w := newWorld(t, Config{Idle: time.Hour})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 1).Release()
	l := w.leases.peek(alice)
	release := w.stall()
	returned := make(chan error, 1)
	w.unused(alice)
	go func() { returned <- w.returnIdle(time.Now()) }()
	for {
		l.mu.Lock()
		doing := l.doing
		l.mu.Unlock()
		if doing == returning {
			break
		}
		time.Sleep(time.Millisecond)
	}
	got := make(chan *Reservation, 1)
	go func() {
		defer close(got)
		got <- w.reserve(alice, 0, 100)
	}()
	w.inLine(1)
	release()
	if err := <-returned; err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r == nil {
		return
	}
	if err := r.Charge(charge(100, "after")); err != nil {
		t.Fatal(err)
	}
	w.flush()
	if rows := requests(w.verify()); rows["after"] != 1 {
		t.Fatalf("%v", rows)
	}
}

// unused lets an account's lease look as if nobody had used it for long.
func (w *world) unused(a identity.AccountID) {
	l := w.leases.peek(a)
	l.mu.Lock()
	l.usedAt = time.Now().Add(-2 * w.Spender.config.Idle)
	l.mu.Unlock()
}

func TestLongRequestKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Minute})
		w.credit(alice, 10*ledger.Dollar)
		r := w.reserve(alice, 0, 100)
		time.Sleep(50 * time.Second)
		if err := r.Charge(charge(100, "1")); err != nil {
			t.Fatal(err)
		}
		w.flush()
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if m := w.wallet(alice); m.Held == 0 {
			t.Fatal("the lease was given back 40 seconds after it was used")
		}
		w.end()
	})
}

func TestNothingIsAdmittedWhileARecordWaitsForLong(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.reserve(alice, 0, 1).Release()
	release := sync.OnceFunc(w.stall())
	defer release()
	w.spend(alice, 1, "waits")
	w.reserve(alice, 0, 1).Release()
	w.queue.mu.Lock()
	w.queue.records[0].queued = time.Now().Add(-MaxLag - time.Millisecond)
	w.queue.note()
	w.queue.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	var late *BacklogError
	if _, err := w.Reserve(ctx, alice, 0, 1); !errors.As(err, &late) || late.Records != 1 || late.Oldest < MaxLag {
		t.Fatalf("%v", err)
	}
	release()
	w.spend(alice, 1, "goes on")
	w.flush()
	w.verify()
}
