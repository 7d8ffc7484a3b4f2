package metering

import (
	"errors"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// hold sets money aside for something else: an API lease, an instance that is pending.
func (b *box) hold(amount ledger.MicroUSD) (h ledger.Hold) {
	b.t.Helper()
	b.must(func(tx *store.Tx) (err error) {
		h, err = ledger.PlaceHold(tx, ledger.Entry{At: b.now, Account: alice, Amount: amount, Resource: "gpu-instance/1"}, ledger.HoldTerms{})
		return err
	})
	return h
}

func (b *box) free(h ledger.Hold) {
	b.t.Helper()
	b.must(func(tx *store.Tx) error {
		_, err := ledger.VoidHold(tx, h.ID, ledger.Entry{At: b.now, Description: "cancelled"})
		return err
	})
}

func (b *box) owed() (all ledger.MicroUSD) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { all, err = owed(tx, alice); return err })
	return all
}

// pay does what the billing worker does about debts.
func (b *box) pay() (p Payment) {
	b.t.Helper()
	b.must(func(tx *store.Tx) (err error) { p, err = PayDebts(tx, alice, b.now); return err })
	return p
}

func (b *box) debtors() int {
	b.t.Helper()
	n := 0
	b.view(func(tx *store.Tx) error {
		some, err := Debtors(tx, 0, 10)
		n = len(some)
		return err
	})
	return n
}

func TestStorageIsPaidByWhoHoldsTheirMoneyAtMidnight(t *testing.T) {
	for name, worker := range map[string]bool{"and nobody else collects": false, "and the worker collects": true} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.price(price.Drive, usd("0.31"))
			b.topUp(usd("100"))
			b.now = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
			b.mustAdd(100) // a dollar a day
			for day := range 29 {
				b.now = time.Date(2026, 3, 2+day, 23, 59, 0, 0, time.UTC)
				h := b.hold(b.wallet().Available)
				b.now = b.now.Add(61 * time.Second)
				if bill := b.billed(BillStorage); bill.Suspended || len(bill.Days) != 1 || bill.Days[0].Owed != usd("1") {
					t.Fatalf("day %d: %+v", day, bill)
				}
				if b.debtors() != 0 {
					t.Fatal("there is nothing to collect")
				}
				b.now = b.now.Add(time.Second)
				b.free(h)
				if worker && (b.debtors() != 1 || b.pay() != Payment{Paid: usd("1")}) {
					t.Fatal("not collected")
				}
			}
			b.now = time.Date(2026, 3, 31, 0, 1, 0, 0, time.UTC)
			b.pay()
			b.money("71", "0")
			if v := b.volume(); v.Owed != usd("29") || v.Unbilled != 0 || b.owed() != 0 {
				t.Fatalf("%+v", v)
			}
		})
	}
}

func TestADebtSaysWhatItIsForAndIsPaidInParts(t *testing.T) {
	b := newDisk(t, "10", 100)
	h := b.hold(usd("9"))
	b.hold(usd("1"))
	b.now = noon.Add(60 * time.Hour)
	b.billed(BillStorage)
	if b.owed() != usd("2.50") {
		t.Fatalf("%s is owed", b.owed())
	}
	var streams []Stream
	b.view(func(tx *store.Tx) (err error) { streams, err = Streams(tx, alice, b.now); return err })
	if len(streams) != 2 || streams[1] != (Stream{Accrued: usd("2.50")}) {
		t.Fatalf("%+v", streams)
	}
	b.topUp(usd("1"))
	b.pay()
	b.wantRows("storage_billing -1.00 owed since 1 Mar 2026 12:00 UTC to 4 Mar 2026 00:00 UTC, when all money was held; $1.00 of $2.50")
	b.free(h)
	b.billed(RemoveVolume) // pays it first
	b.wantRows("storage_billing -1.50 owed since 1 Mar 2026 12:00 UTC to 4 Mar 2026 00:00 UTC, when all money was held")
	b.money("7.50", "1")
}

func TestARemovedVolumeStillOwes(t *testing.T) {
	b := newDisk(t, "10", 100)
	h := b.hold(usd("10"))
	b.now = noon.Add(6 * time.Hour)
	if bill := b.billed(RemoveVolume); bill.Days[0].Owed != usd("0.25") {
		t.Fatalf("%+v", bill)
	}
	b.free(h)
	// It comes before anything new.
	b.spend(usd("9.50"))
	if _, err := b.add(26); !insufficient(err) { // 0.26 of 0.50 and 0.25 that is owed
		t.Fatalf("got %v", err)
	}
	if _, err := b.start("0.011", 1); !insufficient(err) {
		t.Fatalf("got %v", err)
	}
	b.mustAdd(25)
	b.pay()
	b.money("0.25", "0")
}

func TestDebtsAreNeverMoreThanTheMoneyAndEndWithIt(t *testing.T) {
	b := newDisk(t, "1.25", 100)
	h := b.hold(usd("1.25"))
	b.now = noon.Add(60 * time.Hour)
	bill := b.billed(BillStorage) // 0.50, 1.00, 1.00
	if !bill.Suspended || b.owed() != usd("1.25") || bill.Volume.Unbilled != usd("0.25") || len(bill.Days) != 2 {
		t.Fatalf("%+v, %s is owed", bill, b.owed())
	}
	b.now = b.now.Add(time.Hour)
	if _, err := b.restore(); !insufficient(err) {
		t.Fatalf("restored with debts: %v", err)
	}
	b.topUp(usd("2.24"))
	if _, err := b.restore(); !insufficient(err) {
		t.Fatalf("restored for a day's money without the debts': %v", err)
	}
	b.topUp(usd("0.01"))
	if v, err := b.restore(); err != nil || v.Suspended {
		t.Fatalf("%+v, %v", v, err)
	}
	b.money("1", "1.25") // what was owed has been charged first
	b.spend(usd("1"))
	b.now = b.now.Add(24 * time.Hour)
	if bill := b.billed(BillStorage); bill.Suspended || b.owed() != usd("0.958334") {
		t.Fatalf("%+v, %s is owed", bill, b.owed())
	}
	b.must(func(tx *store.Tx) error { // the other thing has used all
		_, err := ledger.SettleHold(tx, h.ID, ledger.GPUUsage, usd("1.25"), ledger.Entry{At: b.now})
		return err
	})
	if b.debtors() != 1 {
		t.Fatal("nobody would forgive it")
	}
	if p := b.pay(); p != (Payment{Forgiven: usd("0.958334")}) || b.owed() != 0 {
		t.Fatalf("%+v", p)
	}
	b.money("0", "0")
}

func TestWhatIsLeftOfADebtIsForgivenWithTheLastMoney(t *testing.T) {
	b := newDisk(t, "2", 100)
	h := b.hold(usd("2"))
	b.now = noon.Add(36 * time.Hour)
	b.billed(BillStorage)
	b.must(func(tx *store.Tx) error {
		_, err := ledger.SettleHold(tx, h.ID, ledger.GPUUsage, usd("1.80"), ledger.Entry{At: b.now})
		return err
	})
	if p := b.pay(); p != (Payment{Paid: usd("0.20"), Forgiven: usd("1.30")}) || b.owed() != 0 {
		t.Fatalf("%+v, %s is owed", p, b.owed())
	}
	b.money("0", "0")
}

func TestACycleGoesOnWhileItsMoneyIsHeldForSomethingElse(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	c := b.mustStart("1.00", 1)
	h := b.hold(usd("76"))
	b.now = noon.Add(24 * time.Hour)
	o := b.advance(c.ID)
	if o.Stopped || !o.Partial || o.Covers != 0 || o.Cycle.Hold != 0 || !o.Cycle.Covered.Equal(b.now) {
		t.Fatalf("%+v", o)
	}
	b.now = noon.Add(48 * time.Hour)
	o = b.advance(c.ID)
	if o.Stopped || o.Settled[0].Owed != usd("24") || o.Cycle.Owed != usd("24") || b.owed() != usd("24") {
		t.Fatalf("%+v", o)
	}
	b.now = noon.Add(50 * time.Hour)
	b.free(h)
	b.now = noon.Add(72 * time.Hour)
	o = b.advance(c.ID)
	if o.Stopped || o.Partial || o.Settled[0].Charged != usd("24") || o.Debts.Paid != usd("24") {
		t.Fatalf("%+v", o)
	}
	b.wantRows(
		"inference_usage -24.00 llama: 3 Mar 2026 12:00 UTC to 4 Mar 2026 12:00 UTC: 24.00 GPU-hours at $1.00, beyond the hold",
		"inference_usage -24.00 llama: owed since 2 Mar 2026 12:00 UTC to 3 Mar 2026 12:00 UTC, when all money was held",
		"hold -24.00 llama: hold until 5 Mar 2026 12:00 UTC for 1 GPUs at $1.00 an hour",
	)
	b.money("4", "24")
}

func TestACycleStopsWhenWhatIsOwedIsAllThereIs(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("50"))
	c := b.mustStart("1.00", 1)
	h := b.hold(usd("26"))
	b.now = noon.Add(24 * 3 * time.Hour)
	o := b.advance(c.ID) // 24 of its own, 24 owed, then 2 of 24
	if !o.Stopped || o.Cycle.Reason != CreditDepleted || o.Cycle.Charged != usd("24") || o.Cycle.Owed != usd("26") || o.Cycle.Unbilled != usd("22") || len(o.Settled) != 3 {
		t.Fatalf("%+v", o)
	}
	b.free(h)
	b.pay()
	b.money("0", "0")
}

func TestAKeysSpendCapStopsACycleWithoutAHold(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	b.must(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, laptop, usd("24"), 0, b.now) })
	var c Cycle
	b.must(func(tx *store.Tx) (err error) {
		c, err = StartCycle(tx, NewCycle{Account: alice, Resource: llama, Rate: usd("1"), Reserve: 1, Units: 1, APIKey: laptop}, b.now)
		return err
	})
	b.hold(usd("76"))
	b.now = c.End
	if o := b.advance(c.ID); !o.Stopped || o.Cycle.Reason != SpendCapReached {
		t.Fatalf("%+v", o)
	}
}

func TestARenewalBeyondTheLargestOverageGoesThrough(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("1300000"))
	c := b.mustStart("50000", 1) // $1,200,000 a day
	b.now = c.End
	if o := b.advance(c.ID); !o.Partial || b.wallet().Held != usd("100000") {
		t.Fatalf("%+v", o)
	}
	b.topUp(usd("2000000"))
	b.now = b.now.Add(CycleLength)
	if o := b.advance(c.ID); o.Settled[0].Charged != usd("1200000") || o.Stopped {
		t.Fatalf("%+v", o)
	}
}

func TestWhatARenewalCannotHoldForAnotherReasonIsAnError(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("50"))
	c := b.mustStart("1.00", 1)
	b.setUnits(c.ID, 0)
	b.must(func(tx *store.Tx) error {
		_, err := ledger.VoidHold(tx, c.Hold, ledger.Entry{At: b.now, Description: "by the operator"})
		return err
	})
	b.now = c.End.Add(time.Hour)
	b.topUp(usd("1"))
	b.now = c.End // the clock went back: the hold is the first row that is refused
	err := b.update(func(tx *store.Tx) error { _, err := Advance(tx, c.ID, b.now); return err })
	var clock *ledger.ClockError
	if !errors.As(err, &clock) {
		t.Fatalf("got %v", err)
	}
}

func TestGrowingNeedsADaysMoneyOfTheNewSize(t *testing.T) {
	b := newDisk(t, "10", 100)
	b.now = noon.Add(6 * time.Hour)
	err := b.update(func(tx *store.Tx) error { _, err := ResizeVolume(tx, disk, 976, b.now); return err })
	if !insufficient(err) { // 9.75 is left
		t.Fatalf("got %v", err)
	}
	if v := b.volume(); v.GB != 100 || !v.BilledUntil.Equal(noon) {
		t.Fatalf("%+v", v)
	}
	b.money("10", "0")
	b.billed(resize(975))
	b.spend(usd("9.75"))
	b.billed(resize(974)) // smaller costs less
}

func TestAPriceHoldsFromItsInstantOn(t *testing.T) {
	b := newDisk(t, "100", 100)
	change := noon.Add(6 * time.Hour)
	b.must(func(tx *store.Tx) error {
		_, err := price.Set(tx, price.Drive, usd("3.10"), change, b.now, "")
		return err
	})
	stream := func() (s Stream) {
		b.view(func(tx *store.Tx) error {
			all, err := Streams(tx, alice, b.now)
			s = all[0]
			return err
		})
		return s
	}
	b.now = change.Add(-1)
	if s := stream(); s.Rate != usd("0.041666") {
		t.Fatalf("before: %+v", s)
	}
	b.spend(b.wallet().Available - usd("1.26")) // with the 6 hours, enough for a day at the old price
	b.billed(resize(101))
	b.now = change
	if s := stream(); s.Rate != usd("0.420833") || s.Accrued > 1 {
		t.Fatalf("after: %+v", s)
	}
	err := b.update(func(tx *store.Tx) error { _, err := ResizeVolume(tx, disk, 102, b.now); return err })
	if !insufficient(err) {
		t.Fatalf("grown at the old price: %v", err)
	}
}

func TestWhatAStreamHasAccruedIsWhatIsCharged(t *testing.T) {
	b := newDisk(t, "100", 100)
	b.now = noon.Add(time.Hour)
	b.price(price.Drive, usd("0.62"))
	b.now = noon.Add(12*time.Hour + 48*time.Hour + 7*time.Hour)
	var streams []Stream
	b.view(func(tx *store.Tx) (err error) { streams, err = Streams(tx, alice, b.now); return err })
	before := b.wallet().Available
	b.billed(RemoveVolume)
	if charged := before - b.wallet().Available; charged != streams[0].Accrued || charged < usd("4.50") {
		t.Fatalf("%s was charged, and %+v", charged, streams)
	}
}
