package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func TestChargeBecomesOneRowThatSaysEverything(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	r := w.reserve(alice, 7, 1000)
	e := charge(125, "req-1")
	e.Description, e.Key, e.Account = "chat", "ignored", bob
	if err := r.Charge(e); err != nil {
		t.Fatal(err)
	}
	if err := r.Charge(e); err != ErrSpent {
		t.Fatalf("charged twice: %v", err)
	}
	r.Release()
	w.flush()
	rows := w.verify()
	if len(rows) != 1 {
		t.Fatalf("rows: %+v", rows)
	}
	got := rows[0]
	if got.Account != alice || got.Amount != 125 || got.APIKey != 7 || got.Tag != "web" || got.RequestID != "req-1" || got.Key != "" ||
		got.Resource != "model/llama" || got.Usage != e.Usage || got.Description != "chat" || got.Hold == 0 {
		t.Fatalf("row: %+v", got)
	}
	if m := w.wallet(alice); m.Available+m.Held != 10*ledger.Dollar-125 || m.Held > DefaultBlock+1000 || m.Out != 125 {
		t.Fatalf("wallet: %+v", m)
	}
	w.close()
	if m := w.wallet(alice); m.Held != 0 || m.Available != 10*ledger.Dollar-125 {
		t.Fatalf("after the stop: %+v", m)
	}
	if err := r.s.append(record{}); err != ErrClosed {
		t.Fatalf("append after the stop: %v", err)
	}
}

func TestNothingHappensAfterClose(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	r := w.reserve(alice, 0, 1000)
	s := w.Spender
	w.close()
	if err := r.Charge(charge(10, "late")); err != ErrClosed {
		t.Fatalf("charge: %v", err)
	}
	if _, err := s.Reserve(context.Background(), alice, 0, 1); err != ErrClosed {
		t.Fatalf("reserve: %v", err)
	}
	if m := w.wallet(alice); m.Held != 0 || m.Available != ledger.Dollar {
		t.Fatalf("%+v", m)
	}
}

func TestBadChargesLeaveTheReservationOpen(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	r := w.reserve(alice, 0, 1000)
	long := make([]byte, maxWordBytes+1)
	for name, e := range map[string]ledger.Entry{
		"negative": {Amount: -1}, "huge": {Amount: maxAmount + 1}, "tag": {Amount: 1, Tag: string(long)}, "request": {Amount: 1, RequestID: string(long)},
		"model": {Amount: 1, Usage: ledger.Usage{Model: string(long)}}, "resource": {Amount: 1, Resource: string(long)},
		"quantity": {Amount: 1, Usage: ledger.Usage{OutputTokens: -1}},
	} {
		if err := r.Charge(e); err == nil {
			t.Errorf("%s was charged", name)
		}
	}
	word := string(long[:maxWordBytes])
	e := ledger.Entry{Amount: 1, Tag: word, RequestID: word, Resource: word, Usage: ledger.Usage{Model: word}, Description: string(make([]byte, 2000))}
	if err := r.Charge(e); err != nil {
		t.Fatal(err)
	}
	w.flush() // the journal takes what is just not too long
	if rows := w.verify(); len(rows) != 1 {
		t.Fatal(len(rows))
	}
	for _, estimate := range []ledger.MicroUSD{-1, maxAmount + 1} {
		if _, err := w.Reserve(context.Background(), alice, 0, estimate); !errors.Is(err, ErrEstimate) {
			t.Errorf("estimate of %s: %v", estimate, err)
		}
	}
}

func TestMoneyIsSpentToTheLastMicroDollarAndRefusedThere(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 100_003)
	w.credit(bob, 1)
	for n := range 100 {
		w.spend(alice, 1000, fmt.Sprint("a", n))
	}
	var short *ledger.InsufficientError
	if _, err := w.Reserve(context.Background(), alice, 0, 4); !errors.As(err, &short) || short.Available != 3 || short.Needed != 4 {
		t.Fatalf("4 of 3: %v", err)
	}
	w.spend(alice, 3, "last")
	for _, need := range []ledger.MicroUSD{0, 1} {
		if _, err := w.Reserve(context.Background(), alice, 0, need); !errors.As(err, &short) || short.Available != 0 {
			t.Fatalf("at $0: %v", err)
		}
	}
	r := w.reserve(bob, 0, 0) // needs the one there is
	if _, err := w.Reserve(context.Background(), bob, 0, 0); !errors.As(err, &short) {
		t.Fatalf("second: %v", err)
	}
	r.Release()
	w.spend(bob, 1, "b")
	w.credit(alice, 5)
	w.spend(alice, 5, "after the top-up")
	w.flush()
	w.verify()
	if a, b := w.wallet(alice), w.wallet(bob); a.Total() != 0 || b.Total() != 0 || a.Out != 100_008 {
		t.Fatalf("%+v %+v", a, b)
	}
}

func TestNearZeroOnlyALittleIsDrawnAhead(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	w.spend(alice, 1000, "1")
	w.flush()
	if m := w.wallet(alice); m.Held > ledger.Dollar/aheadShare {
		t.Fatalf("$%s of a dollar are held", m.Held)
	}
}

func TestCostBeyondTheEstimateIsChargedAsFarAsTheMoneyGoes(t *testing.T) {
	w := newWorld(t, Config{MinBlock: 10, Block: 10, MaxBlock: 10})
	w.credit(alice, 1000)
	one, two := w.reserve(alice, 0, 100), w.reserve(alice, 0, 100)
	if err := one.Charge(charge(700, "one")); err != nil {
		t.Fatal(err)
	}
	if err := two.Charge(charge(450, "two")); err != nil {
		t.Fatal(err)
	}
	w.flush()
	rows := w.verify()
	if m := w.wallet(alice); m.Total() != 0 || m.Out != 1000 || len(rows) != 2 {
		t.Fatalf("%+v %+v", m, rows)
	}
	if u := w.unbilled(alice); u.Amount != 150 || u.Requests != 1 || u.LastRequest != "two" {
		t.Fatalf("%+v", u)
	}
	w.credit(alice, 50)
	w.spend(alice, 50, "three") // what was unbilled is not taken from new money
}

func TestCapIsNotExceededByWhatIsInFlight(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	now := time.Now()
	limit := func(m ledger.MicroUSD) {
		w.update(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, 7, m, 0, now) })
	}
	limit(1000)
	a, b := w.reserve(alice, 7, 400), w.reserve(alice, 7, 600)
	var over *ledger.CapError
	if _, err := w.Reserve(context.Background(), alice, 7, 1); !errors.As(err, &over) || over.Spent != 1000 || over.APIKey != 7 {
		t.Fatalf("in flight: %v", err)
	}
	w.reserve(alice, 8, 5000).Release() // another key
	w.reserve(alice, 0, 5000).Release() // none
	if err := a.Charge(charge(300, "a")); err != nil {
		t.Fatal(err)
	}
	b.Release()
	w.flush()
	var kc ledger.KeyCap
	err := w.store.View(func(tx *store.Tx) (err error) { kc, _, err = ledger.CapOf(tx, 7, now); return err })
	if err != nil || kc.Spent != 300 {
		t.Fatalf("%+v %v", kc, err)
	}
	if _, err := w.Reserve(context.Background(), alice, 7, 701); !errors.As(err, &over) || over.Spent != 300 {
		t.Fatalf("after the fold: %v", err)
	}
	w.reserve(alice, 7, 700).Release()
	limit(200) // acts on the next request
	if _, err := w.Reserve(context.Background(), alice, 7, 1); !errors.As(err, &over) {
		t.Fatalf("lowered: %v", err)
	}
	w.update(func(tx *store.Tx) error { return ledger.ClearKeyCap(tx, 7) })
	w.reserve(alice, 7, 5000).Release()
	w.verify()
}

func TestLeasesThatNobodyUsesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: time.Minute})
		w.credit(alice, 10*ledger.Dollar)
		w.credit(bob, 10*ledger.Dollar)
		w.spend(alice, 100, "1")
		kept := w.reserve(bob, 7, 100)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if m := w.wallet(alice); m.Held != 0 || m.Available != 10*ledger.Dollar-100 {
			t.Fatalf("idle: %+v", m)
		}
		if m := w.wallet(bob); m.Held == 0 {
			t.Fatal("a lease in use was given back")
		}
		if w.leases.peek(alice) != nil {
			t.Fatal("a lease that was given back is still in memory")
		}
		if err := kept.Charge(charge(100, "2")); err != nil {
			t.Fatal(err)
		}
		w.spend(alice, 100, "3") // and draws anew
		w.flush()
		w.verify()
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if m := w.wallet(bob); m.Held != 0 || m.Out != 100 {
			t.Fatalf("%+v", m)
		}
		w.end()
	})
}

func TestLeaseThatIsUsedForADayIsNeverOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Idle: 10 * time.Minute})
		w.credit(alice, 10*ledger.Dollar)
		for n := range 60 {
			for range 5 { // never idle, never used up
				time.Sleep(6 * time.Minute)
				w.spend(alice, 1, "x")
			}
			w.update(func(tx *store.Tx) error {
				r, err := ledger.Reconcile(tx, time.Now(), 0, Owner)
				if err == nil && len(r.Overdue)+len(r.Released)+len(r.Unowned) > 0 {
					t.Fatalf("after %d half hours: %+v", n+1, r)
				}
				return err
			})
		}
		w.end()
	})
}

func TestWhatWasReservedForNothingIsTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.credit(alice, 1000*ledger.Dollar)
		big, small := w.reserve(alice, 0, 500*ledger.Dollar), w.reserve(alice, 0, 100)
		big.Release()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if m := w.wallet(alice); m.Held > 2*DefaultMaxBlock {
			t.Fatalf("$%s are held", m.Held)
		}
		if err := small.Charge(charge(100, "1")); err != nil {
			t.Fatal(err)
		}
		w.flush()
		w.verify()
		if m := w.wallet(alice); m.Out != 100 {
			t.Fatalf("%+v", m)
		}
		w.end()
	})
}

func TestBlockGrowsWithTheRateAndStaysBounded(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 1000*ledger.Dollar)
	for n := range 400 {
		w.spend(alice, ledger.Dollar/10, fmt.Sprint(n))
		l := w.leases.peek(alice)
		l.mu.Lock()
		room, pending := l.room(), l.pending
		l.mu.Unlock()
		if room > DefaultMaxBlock || pending > DefaultMaxBlock {
			t.Fatalf("$%s are drawn ahead, and a power cut would lose $%s", room, pending)
		}
	}
	w.flush()
	if l := w.leases.peek(alice); l.block <= DefaultBlock {
		t.Fatalf("the block is still $%s", l.block)
	}
	w.verify()
}

func TestReserveGivesUpWithItsContext(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, ledger.Dollar)
	hold := make(chan struct{})
	busy := make(chan struct{})
	go w.store.Update(context.Background(), func(*store.Tx) error { close(busy); <-hold; return nil })
	<-busy
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.Reserve(ctx, alice, 0, 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	close(hold)
	w.spend(alice, 100, "1")
}

func TestManyCallersChargeExactly(t *testing.T) {
	w := newWorld(t, Config{Block: 5000, MinBlock: 500, MaxBlock: 20000, Idle: 20 * time.Millisecond})
	w.update(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, 9, 100_000, 0, time.Now()) })
	accounts := []identity.AccountID{1, 2, 3}
	const credit = 70_000
	for _, a := range accounts {
		w.credit(a, credit)
	}
	var charged [4]atomic.Int64
	var refused, capped atomic.Int64
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for n := range 60 {
				a := accounts[rand.IntN(len(accounts))]
				r, err := w.Reserve(context.Background(), a, identity.KeyID(rand.IntN(2)*9), 150)
				var short *ledger.InsufficientError
				var over *ledger.CapError
				switch {
				case errors.As(err, &short):
					refused.Add(1)
					continue
				case errors.As(err, &over):
					capped.Add(1)
					continue
				case err != nil:
					t.Error(err)
					return
				case rand.IntN(5) == 0:
					r.Release()
					continue
				}
				cost := 100 + ledger.MicroUSD(rand.IntN(51))
				if err := r.Charge(charge(cost, fmt.Sprint(g, "-", n))); err != nil {
					t.Error(err)
				}
				charged[a].Add(int64(cost))
			}
		})
	}
	wg.Wait()
	w.flush()
	rows := w.verify()
	for id, n := range requests(rows) {
		if n != 1 {
			t.Errorf("request %s has %d rows", id, n)
		}
	}
	w.close()
	var byKey ledger.MicroUSD
	for _, t := range rows {
		if t.APIKey == 9 {
			byKey += t.Amount
		}
	}
	if byKey > 100_000 {
		t.Errorf("$%s were spent with the capped key", byKey)
	}
	for _, a := range accounts {
		if m := w.wallet(a); m.Out != ledger.MicroUSD(charged[a].Load()) || m.Held != 0 || m.Available != credit-m.Out {
			t.Errorf("account %d: %+v, charged %d", a, m, charged[a].Load())
		}
	}
	w.verify()
	t.Logf("%d rows, %d refused, %d capped", len(rows), refused.Load(), capped.Load())
	if refused.Load() == 0 || capped.Load() == 0 {
		t.Error("the money or the cap did not come to its end")
	}
}

func TestOperatorTakesMoneyOutOfALease(t *testing.T) {
	w := newWorld(t, Config{})
	w.credit(alice, 10*ledger.Dollar)
	w.spend(alice, 1000, "1")
	w.flush()
	w.update(func(tx *store.Tx) error {
		_, err := ledger.Correct(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: -(10*ledger.Dollar - 1000), Description: "fraud"})
		return err
	})
	w.spend(alice, 400, "2") // the lease has not heard of it
	w.flush()
	if u, m := w.unbilled(alice), w.wallet(alice); u.Amount != 400 || m.Total() != 0 {
		t.Fatalf("%+v %+v", u, m)
	}
	var short *ledger.InsufficientError
	if _, err := w.Reserve(context.Background(), alice, 0, 1); !errors.As(err, &short) {
		t.Fatal(err)
	}
	w.verify()
}
