package lease

import (
	"context"
	"errors"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// soon fails the test if an answer does not come.
func soon(t *testing.T, answer <-chan error) error {
	t.Helper()
	select {
	case err := <-answer:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("it hangs")
		return nil
	}
}

func TestCloseAnswersThoseWhoWaitForRoom(t *testing.T) {
	w := newWorld(t, Config{Block: 1000, MinBlock: 10, MaxBlock: 1000})
	w.credit(alice, 10*ledger.Dollar)
	r := w.reserve(alice, 0, 1)
	l := r.lease
	l.mu.Lock()
	l.pending += 1000 // a Charge that is about to hear that the log is closed
	l.mu.Unlock()
	got := make(chan error, 1)
	go func() { _, err := w.Reserve(context.Background(), alice, 0, 1); got <- err }()
	w.inLine(1)
	w.close()
	if err := soon(t, got); err != ErrClosed {
		t.Fatal(err)
	}
}

func TestCloseThatCouldNotWriteAnswersEverybody(t *testing.T) {
	w := newWorld(t, Config{Block: 1000, MinBlock: 10, MaxBlock: 1000})
	w.credit(alice, 10*ledger.Dollar)
	w.credit(bob, 10*ledger.Dollar)
	r := w.reserve(alice, 0, 1000)
	w.reserve(bob, 0, 1).Release()
	release := w.stallThen(func(tx *store.Tx) error { // the database refuses what comes after it
		state, _, err := states.Get(tx, stateKey)
		state.Epoch = newID()
		return errors.Join(err, states.Put(tx, stateKey, state))
	})
	if err := r.Charge(charge(1000, "waits")); err != nil {
		t.Fatal(err)
	}
	w.queue.mu.Lock()
	w.queue.pressed.Store(true) // as with too many records
	w.queue.mu.Unlock()
	s := w.Spender
	w.Spender = nil
	flushed, admitted := make(chan error, 1), make(chan error, 1)
	go func() { flushed <- s.Flush(context.Background()) }()
	go func() { _, err := s.Reserve(context.Background(), bob, 0, 1); admitted <- err }()
	time.Sleep(10 * time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	if err := soon(t, admitted); err != ErrClosed {
		t.Fatal(err)
	}
	release()
	if err := soon(t, closed); !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
	var late *BacklogError
	if err := soon(t, flushed); !errors.As(err, &late) || late.Records != 1 || !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
}

func TestSpenderThatWasReplacedLeavesTheLeasesAlone(t *testing.T) {
	w := newWorld(t, Config{Idle: time.Hour})
	w.credit(alice, 100*ledger.Dollar)
	w.reserve(alice, 0, 50*ledger.Dollar).Release()
	old := w.Spender
	w.logs += "-other"
	w.open()
	w.reserve(alice, 0, 1).Release()
	held := w.wallet(alice).Held
	l, now := old.leases.peek(alice), time.Now()
	l.excess(now)
	if err := old.trimAll(now); !errors.Is(err, ErrReplaced) {
		t.Fatalf("trim: %v", err)
	}
	if err := old.returnIdle(now.Add(3 * time.Hour)); !errors.Is(err, ErrReplaced) {
		t.Fatalf("give back: %v", err)
	}
	if _, err := old.Reserve(context.Background(), alice, 0, 60*ledger.Dollar); !errors.Is(err, ErrReplaced) {
		t.Fatalf("draw: %v", err)
	}
	w.update(func(tx *store.Tx) error { return giveBack(tx, alice, l.id+99, now, "another lease") })
	if m := w.wallet(alice); m.Held != held {
		t.Fatalf("$%s are held, not $%s", m.Held, held)
	}
	w.spend(alice, 100, "1")
	w.flush()
	w.verify()
	if err := old.Close(); !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
}

func TestFoldThatFailsAnswersThoseWhoWaitForRoom(t *testing.T) {
	w := newWorld(t, Config{Block: 1000, MinBlock: 10, MaxBlock: 1000})
	w.credit(alice, 10*ledger.Dollar)
	r := w.reserve(alice, 0, 1000)
	setEpoch := func(id logID) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			state, _, err := states.Get(tx, stateKey)
			state.Epoch = id
			return errors.Join(err, states.Put(tx, stateKey, state))
		}
	}
	release := w.stallThen(setEpoch(newID()))
	if err := r.Charge(charge(1000, "waits")); err != nil {
		t.Fatal(err)
	}
	s, got := w.Spender, make(chan error, 1)
	go func() { _, err := s.Reserve(context.Background(), alice, 0, 1); got <- err }()
	w.inLine(1)
	release()
	var late *BacklogError
	if err := soon(t, got); !errors.As(err, &late) || !errors.Is(err, ErrReplaced) {
		t.Fatal(err)
	}
	w.update(setEpoch(w.epoch))
	w.flush()
	w.spend(alice, 1, "goes on")
}
