package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/metering"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// events keeps what was logged.
type events struct {
	mu   sync.Mutex
	seen []string
}

func (e *events) Enabled(context.Context, slog.Level) bool { return true }
func (e *events) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e *events) WithGroup(string) slog.Handler            { return e }
func (e *events) Handle(_ context.Context, r slog.Record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, r.Message)
	return nil
}

func (e *events) count(message string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.seen {
		if m == message {
			n++
		}
	}
	return n
}

// listen has the box log into events.
func (b *box) listen() *events {
	e := &events{}
	b.log = slog.New(e)
	b.restart()
	return e
}

func TestMoneyThatIsAboutToEndIsLoggedOncePerCrossing(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		e := b.listen()
		const message = "an account's money is about to end"
		if _, err := b.serve(1); err != nil {
			t.Fatal(err)
		}
		b.pass(24 * time.Hour) // 38.5 hours are left
		if n := e.count(message); n != 0 {
			t.Fatalf("%d warnings too early", n)
		}
		b.pass(20 * time.Hour)
		if n := e.count(message); n != 1 {
			t.Fatalf("%d warnings", n)
		}
		b.topUp("100")
		b.pass(2 * outlookEvery)
		b.take("10")
		b.pass(time.Hour)
		if n := e.count(message); n != 2 {
			t.Fatalf("%d warnings", n)
		}
	})
}

func TestWhatIsOwedIsChargedOnceMoneyIsFree(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		e := b.listen()
		if err := b.addDrive(100); err != nil {
			t.Fatal(err)
		}
		i := b.launch("trainer", 40)
		b.update(func(tx *store.Tx) error {
			w, err := ledger.WalletOf(tx, alice)
			if err != nil {
				return err
			}
			return second(ledger.Charge(tx, ledger.APIUsage, ledger.Entry{At: time.Now(), Account: alice, Amount: w.Available}))
		})
		b.pass(25 * time.Hour)
		if v := b.drive(); v.Suspended || v.Owed == 0 || v.Charged != 0 || e.count("used while all money was held: it is owed") != 1 {
			t.Fatalf("%+v", v)
		}
		if _, err := b.Terminate(background, alice, i.ID); err != nil {
			t.Fatal(err)
		}
		b.pass(2 * b.pace.billing)
		var charged ledger.MicroUSD
		for _, row := range b.rows(ledger.StorageBilling) {
			charged += row.Amount
		}
		if charged != b.drive().Owed || e.count("what was owed has been charged") != 1 {
			t.Fatalf("$%s was charged: %+v", charged, b.drive())
		}
	})
}

// An instance that ends as planned with its last cent is no reason to warn.
func TestPlannedEndIsNotLoggedAsMoneyThatEnds(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		e := b.listen()
		b.take("3.20")
		b.launch("trainer", 2)
		b.pass(time.Hour)
		if n := e.count("an account's money is about to end"); n != 0 {
			t.Fatalf("%d warnings", n)
		}
	})
}

// A hold and its instance are written together, so this takes a lost record.
func TestHoldWithoutAnOwnerIsReleasedWithinTheHour(t *testing.T) {
	rule(t, 2, func(t *testing.T, b *box) {
		e := b.listen()
		kept := b.launch("kept", 10)
		if _, err := b.serve(1); err != nil {
			t.Fatal(err)
		}
		b.update(func(tx *store.Tx) error {
			for _, resource := range []string{"gpu-instance/99", "inference-instance/99", "api-lease/1", "something/else"} {
				if _, err := ledger.PlaceHold(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: usd("1"), Resource: resource}, ledger.HoldTerms{}); err != nil {
					return err
				}
			}
			return nil
		})
		b.pass(reconcileEvery)
		b.want(kept.ID, Running)
		var left []string
		b.view(func(tx *store.Tx) error {
			open, err := ledger.OpenHolds(tx, alice)
			left = nil
			for _, h := range open {
				left = append(left, h.Resource)
			}
			return err
		})
		if want := []string{kept.Resource(), llama, "something/else"}; !slices.Equal(left, want) {
			t.Errorf("open: %v, want %v", left, want)
		}
		if n := e.count("a hold without an owner was released: please report this"); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

// Who waits for GPUs for long, and runs then, has not forgotten their hold.
func TestHoldOfAnInstanceThatBeganLateIsNotOverdue(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		e := b.listen()
		b.launch("runs", 9.5)
		late := b.launch("late", 1)
		b.pass(9 * time.Hour)
		b.want(late.ID, Pending)
		b.pass(80 * time.Minute)
		b.want(late.ID, Running)
		if n := e.count("a hold is open long after its deadline"); n != 0 {
			t.Fatalf("%d events", n)
		}
	})
}

// A cycle's hold is overdue when nothing takes the cycle over its boundary.
func TestHoldThatNobodySettlesIsReported(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		e := b.listen()
		b.update(func(tx *store.Tx) error {
			hold := ledger.HoldTerms{Deadline: time.Now().Add(time.Hour)}
			if _, err := metering.StartCycle(tx, metering.NewCycle{Account: alice, Resource: llama, Rate: 1, Units: 1, Reserve: 1}, time.Now()); err != nil {
				return err
			}
			return second(ledger.PlaceHold(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: 1, Resource: llama}, hold))
		})
		b.pass(4 * time.Hour)
		if n := e.count("a hold is open long after its deadline"); n == 0 {
			t.Fatal("nobody is told")
		}
	})
}

// One volume whose record can't be billed holds up no other, nor the cycles.
func TestWhatCannotBeBilledHoldsUpNobody(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		e := b.listen()
		b.topUp("1000")
		resources := map[string]int64{}
		b.update(func(tx *store.Tx) error {
			for n := range 2*billingBatch + 5 {
				v, err := metering.AddVolume(tx, metering.NewVolume{Account: alice, Resource: "drive/" + string(rune('a'+n%26)) + string(rune('a'+n/26)), Item: price.Drive, GB: 1}, time.Now())
				if err != nil {
					return err
				}
				resources[v.Resource] = v.ID
			}
			return nil
		})
		var calls int
		d := dues[string]{"volume", metering.DueVolumes, func(tx *store.Tx, resource string, now time.Time) (func(), error) {
			calls++
			if resources[resource]%50 == 0 {
				return nil, errTest
			}
			return nil, second(metering.BillStorage(tx, resource, now))
		}}
		b.stop()
		time.Sleep(25 * time.Hour)
		w := newBiller(b.Scheduler)
		defer w.close()
		bill(background, w, d, time.Now())
		var left []string
		b.view(func(tx *store.Tx) (err error) { left, err = metering.DueVolumes(tx, time.Now(), 1000); return err })
		if len(left) != 2 || e.count("billing failed and will be tried again") != 2 {
			t.Fatalf("left: %v; %d events", left, e.count("billing failed and will be tried again"))
		}
		if calls > 6*billingBatch {
			t.Errorf("%d calls", calls)
		}
		b.start()
		b.settle()
		b.view(func(tx *store.Tx) (err error) { left, err = metering.DueVolumes(tx, time.Now(), 1000); return err })
		if len(left) != 0 {
			t.Fatalf("left: %v", left)
		}
		if rows := b.rows(ledger.StorageBilling); len(rows) != len(resources) {
			t.Errorf("%d rows for %d volumes", len(rows), len(resources))
		}
	})
}

// A clock that was put back stops all billing, until somebody has said that it is
// right.
func TestNothingIsBilledByAClockThatIsWrong(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		if err := b.addDrive(100); err != nil {
			t.Fatal(err)
		}
		b.update(func(tx *store.Tx) error {
			return second(ledger.Credit(tx, ledger.Entry{At: time.Now().Add(30 * time.Hour), Account: bob, Amount: 1}))
		})
		_, err := b.Launch(background, request("trainer", 1))
		var clock *ledger.ClockError
		if !errors.As(err, &clock) {
			t.Fatal(err)
		}
		b.pass(25 * time.Hour)
		b.wantWallet(alice, "100", "0")
		b.update(func(tx *store.Tx) error { return second(ledger.AcceptClock(tx, time.Now())) })
		b.pass(b.pace.billing)
		b.wantWallet(alice, "99", "0")
	})
}

func TestMoneyThatIsAboutToEndIsForeseen(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		if _, err := b.serve(1); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		b.settle()
		o, err := b.Forecast(alice)
		if err != nil || o.BurnPerHour != usd("1.60") || o.LastsUntil.Sub(begun.Add(62*time.Hour+30*time.Minute)).Abs() > time.Second || o.Low() {
			t.Fatalf("%+v, %v", o, err)
		}
		b.pass(39 * time.Hour)
		if o, err = b.Forecast(alice); err != nil || !o.Low() {
			t.Fatalf("%+v, %v", o, err)
		}
	})
}

// Between the news that the money is gone and the end of an instance, money may come.
func TestAnInstanceWhoseAccountHasMoneyAgainIsNotEnded(t *testing.T) {
	rule(t, 1, func(t *testing.T, b *box) {
		i := b.launch("trainer", 1)
		w := newBiller(b.Scheduler)
		defer w.close()
		if err := w.endDepleted(background, i.ID); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.want(i.ID, Running)
	})
}
