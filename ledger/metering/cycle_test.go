package metering

import (
	"errors"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

func TestStartHoldsTwentyFourHoursOrCreatesNothing(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("76.79"))
	if _, err := b.start("1.60", 2); !insufficient(err) {
		t.Fatalf("$76.79 for a hold of $76.80: %v", err)
	}
	b.money("76.79", "0.00")
	if _, ok := b.cycleOf(llama); ok {
		t.Fatal("a cycle without its hold")
	}
	b.topUp(usd("0.01"))
	c := b.mustStart("1.60", 2)
	b.money("0.00", "76.80")
	if c.State != Active || !c.End.Equal(noon.Add(24*time.Hour)) || c.Partial() {
		t.Fatalf("%+v", c)
	}
	b.wantRows("hold -76.80 llama: hold until 2 Mar 2026 12:00 UTC for 2 GPUs at $1.60 an hour")
	if _, err := b.start("1.60", 2); !errors.Is(err, ErrConflict) {
		t.Fatalf("a second cycle: %v", err)
	}
}

func (b *box) cycleOf(resource string) (c Cycle, ok bool) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { c, ok, err = CycleOf(tx, resource); return err })
	return c, ok
}

func TestNothingHappensBeforeTheBoundary(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	c := b.mustStart("1.00", 1)
	b.now = c.End.Add(-1)
	if o := b.advance(c.ID); len(o.Settled) != 0 || o.Stopped || len(b.due()) != 0 {
		t.Fatalf("%+v", o)
	}
	b.money("76", "24")
}

func TestBoundarySettlesThePastCycleAndHoldsTheNext(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	c := b.mustStart("1.00", 1)
	b.now = noon.Add(6 * time.Hour)
	b.setUnits(c.ID, 0) // scaled to zero: accrual stops
	b.now = noon.Add(24 * time.Hour)
	if due := b.due(); len(due) != 1 || due[0] != c.ID {
		t.Fatalf("due: %v", due)
	}
	o := b.advance(c.ID)
	if o.Stopped || o.Partial || o.Covers != 24*time.Hour || len(o.Settled) != 1 || o.Settled[0].UnitTime != 6*time.Hour {
		t.Fatalf("%+v", o)
	}
	b.wantRows(
		"inference_usage -6.00 llama: 1 Mar 2026 12:00 UTC to 2 Mar 2026 12:00 UTC: 6.00 GPU-hours at $1.00",
		"refund 18.00 unused part of the hold",
		"hold -24.00 llama: hold until 3 Mar 2026 12:00 UTC for 1 GPUs at $1.00 an hour",
	)
	b.money("70", "24")
	if o := b.advance(c.ID); len(o.Settled) != 0 || len(b.due()) != 0 {
		t.Fatalf("the boundary a second time: %+v", o)
	}
}

func TestBoundariesThatPassedWhileTheBoxWasOffAreEachSettledOnce(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("240"))
	c := b.mustStart("1.00", 1)
	b.now = noon.Add(75 * time.Hour)
	// The box knows when the replica was last seen to run.
	b.outcome(func(tx *store.Tx) (Outcome, error) { return SetUnits(tx, c.ID, 0, noon.Add(30*time.Hour), b.now) })
	o := b.advance(c.ID)
	if len(o.Settled) != 2 || o.Cycle.Charged != usd("30") || !o.Cycle.Begun.Equal(noon.Add(72*time.Hour)) {
		t.Fatalf("%+v", o)
	}
	b.money("186", "24")
}

func TestPartialHoldRunsToItsBoundaryAndChargesWhatIsThere(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("34"))
	c := b.mustStart("1.00", 1)
	b.now = noon.Add(24 * time.Hour)
	o := b.advance(c.ID)
	if !o.Partial || o.Covers != 10*time.Hour || o.Stopped || !o.Cycle.Covered.Equal(b.now.Add(10*time.Hour)) {
		t.Fatalf("%+v", o)
	}
	b.money("0", "10")
	b.wantRows("hold -10.00 llama: hold until 3 Mar 2026 12:00 UTC for 1 GPUs at $1.00 an hour; the balance covers $10.00 of $24.00")

	b.now = noon.Add(40 * time.Hour) // beyond the hold, before the boundary
	if o := b.advance(c.ID); o.Stopped {
		t.Fatal("stopped before its boundary")
	}
	b.topUp(usd("3"))
	b.now = noon.Add(48 * time.Hour)
	o = b.advance(c.ID)
	if !o.Stopped || o.Cycle.Reason != CreditDepleted || !o.Cycle.Ended.Equal(b.now) || o.Settled[0].Charged != usd("13") || o.Settled[0].Unbilled != usd("11") {
		t.Fatalf("%+v", o)
	}
	b.money("0", "0")
	b.view(func(tx *store.Tx) error { // the hold shows it too
		h, err := ledger.GetHold(tx, o.Cycle.Hold)
		if err == nil && (h.Settled.Over != usd("3") || h.Settled.Unbilled != usd("11")) {
			t.Errorf("%+v", h.Settled)
		}
		return err
	})
	if _, ok := b.cycleOf(llama); ok || len(b.due()) != 0 {
		t.Fatal("still active")
	}
}

func TestStopSettlesAndRefundsAtOnceAndOnlyOnce(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("24"))
	c := b.mustStart("1.00", 1)
	b.now = noon.Add(90 * time.Minute)
	if o := b.stop(c.ID); !o.Stopped || o.Cycle.Reason != "terminated" || o.Settled[0].Charged != usd("1.50") {
		t.Fatalf("%+v", o)
	}
	b.money("22.50", "0")
	b.now = noon.Add(48 * time.Hour)
	if o := b.stop(c.ID); o.Stopped || o.Cycle.Charged != usd("1.50") {
		t.Fatalf("%+v", o)
	}
	b.advance(c.ID)
	b.money("22.50", "0")
	err := b.update(func(tx *store.Tx) error { _, err := SetUnits(tx, c.ID, 1, b.now, b.now); return err })
	if !errors.Is(err, ErrConflict) {
		t.Fatalf("units of a stopped cycle: %v", err)
	}
}

func TestGrowthExtendsTheHoldAsFarAsTheBalanceReaches(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("48"))
	c := b.mustStart("1.00", 1)
	b.now = noon.Add(12 * time.Hour)
	if o := b.setUnits(c.ID, 2); o.Partial || o.Covers != 12*time.Hour { // 12 + 24 of 24
		t.Fatalf("%+v", o)
	}
	b.money("12", "36")
	o := b.setUnits(c.ID, 4) // 12 + 48, and 48 is all there is
	if !o.Partial || o.Covers != 9*time.Hour {
		t.Fatalf("%+v", o)
	}
	b.money("0", "48")
	if o := b.setUnits(c.ID, 1); o.Partial { // 12 + 12
		t.Fatalf("%+v", o)
	}
	b.money("0", "48")
	b.now = noon.Add(24 * time.Hour)
	b.advance(c.ID)
	b.money("0", "24")
}

func TestUseThatGrewWithoutMoneyIsChargedFromWhatComes(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("24"))
	c := b.mustStart("1.00", 1)
	if o := b.setUnits(c.ID, 3); !o.Partial || o.Covers != 8*time.Hour {
		t.Fatalf("%+v", o)
	}
	b.now = noon.Add(23 * time.Hour)
	b.topUp(usd("100"))
	b.now = noon.Add(24 * time.Hour)
	if o := b.advance(c.ID); o.Settled[0].Charged != usd("72") || o.Settled[0].Unbilled != 0 {
		t.Fatalf("%+v", o)
	}
	b.money("0", "52")
}

func TestAReplicaThatStartsWhereNothingWasHeldGetsAHold(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("30"))
	c := b.mustStart("1.00", 0)
	b.money("30", "0")
	b.now = noon.Add(4 * time.Hour)
	if o := b.setUnits(c.ID, 1); o.Partial || o.Covers != 20*time.Hour {
		t.Fatalf("%+v", o)
	}
	b.money("10", "20")
}

func TestACorrectionThatTookTheHoldStopsNothingBeforeTheBoundary(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("24"))
	c := b.mustStart("1.00", 1)
	if err := b.correct(-usd("20")); err != nil {
		t.Fatal(err)
	}
	if c, _ := b.cycleOf(llama); !c.Covered.Equal(noon.Add(4 * time.Hour)) {
		t.Fatalf("covered until %s", c.Covered)
	}
	b.now = noon.Add(24 * time.Hour)
	b.topUp(usd("5"))
	if o := b.advance(c.ID); !o.Stopped || o.Settled[0].Charged != usd("9") || o.Settled[0].Unbilled != usd("15") {
		t.Fatalf("%+v", o)
	}
	b.money("0", "0")
}

func TestAKeysSpendCapStopsTheRenewal(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	b.must(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, laptop, usd("40"), 0, b.now) })
	var c Cycle
	b.must(func(tx *store.Tx) (err error) {
		c, err = StartCycle(tx, NewCycle{Account: alice, Resource: llama, Rate: usd("1"), Reserve: 1, Units: 1, APIKey: laptop}, b.now)
		return err
	})
	b.now = c.End
	if o := b.advance(c.ID); !o.Stopped || o.Cycle.Reason != SpendCapReached {
		t.Fatalf("%+v", o)
	}
	b.money("76", "0")
}

func TestABoxThatWasOffForYearsIsCaughtUpInSteps(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("1"))
	c := b.mustStart("1.00", 0)
	b.now = noon.Add(1000 * CycleLength)
	err := b.update(func(tx *store.Tx) error { _, err := StopCycle(tx, c.ID, b.now, "terminated"); return err })
	if !errors.Is(err, ErrBehind) {
		t.Fatalf("got %v", err)
	}
	settled := 0
	for len(b.due()) > 0 {
		o := b.advance(c.ID)
		settled += len(o.Settled)
		if o.Due != (len(b.due()) > 0) {
			t.Fatalf("%+v", o)
		}
	}
	if settled != 1000 {
		t.Fatalf("%d cycles settled", settled)
	}
}

func TestBadCyclesAreRefused(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("1000000"))
	good := NewCycle{Account: alice, Resource: llama, Rate: 1, Reserve: 1}
	for name, spoil := range map[string]func(*NewCycle){
		"no resource":    func(n *NewCycle) { n.Resource = "" },
		"no rate":        func(n *NewCycle) { n.Rate = 0 },
		"negative units": func(n *NewCycle) { n.Units = -1 },
		"too many":       func(n *NewCycle) { n.Reserve = maxUnits + 1 },
		"long label":     func(n *NewCycle) { n.Label = string(make([]byte, maxLabelBytes+1)) },
	} {
		bad := good
		spoil(&bad)
		err := b.update(func(tx *store.Tx) error { _, err := StartCycle(tx, bad, noon); return err })
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := b.update(func(tx *store.Tx) error { _, err := Advance(tx, 99, noon); return err })
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown cycle: %v", err)
	}
	b.money("1000000", "0")
}

func TestGrowthStaysUnderTheKeysCapAndWhatRanIsOwedAllTheSame(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	b.must(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, laptop, usd("30"), 0, b.now) })
	var c Cycle
	b.must(func(tx *store.Tx) (err error) {
		c, err = StartCycle(tx, NewCycle{Account: alice, Resource: llama, Rate: usd("1"), Reserve: 1, Units: 1, APIKey: laptop}, b.now)
		return err
	})
	if o := b.setUnits(c.ID, 2); !o.Partial || o.Covers != 15*time.Hour {
		t.Fatalf("%+v", o)
	}
	b.money("70", "30")
	b.now = c.End
	if o := b.advance(c.ID); o.Settled[0].Charged != usd("48") || o.Cycle.Reason != SpendCapReached {
		t.Fatalf("%+v", o)
	}
	b.money("52", "0")
}

func TestTheReserveIsHeldThoughNothingRuns(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("50"))
	c := b.mustStart("1.00", 1)
	b.setUnits(c.ID, 0)
	b.must(func(tx *store.Tx) error { _, err := SetReserve(tx, c.ID, 4); return err })
	var next time.Time
	b.view(func(tx *store.Tx) (err error) { next, _, err = NextBoundary(tx); return err })
	b.now = next
	if o := b.advance(c.ID); !o.Partial || o.Covers != 12*time.Hour+30*time.Minute { // $50 of $96
		t.Fatalf("%+v", o)
	}
	b.money("0", "50")
	b.stop(c.ID)
	b.money("50", "0")
	if err := b.update(func(tx *store.Tx) error { _, err := SetReserve(tx, c.ID, 1); return err }); !errors.Is(err, ErrConflict) {
		t.Fatalf("reserve of a stopped cycle: %v", err)
	}
}

func TestAReleasedHoldDoesNotBlockTheCycle(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("24"))
	c := b.mustStart("1.00", 1)
	b.must(func(tx *store.Tx) error {
		_, err := ledger.VoidHold(tx, c.Hold, ledger.Entry{At: b.now, Description: "by the operator"})
		return err
	})
	b.now = noon.Add(time.Hour)
	if o := b.setUnits(c.ID, 1); o.Partial {
		t.Fatalf("%+v", o)
	}
	b.money("0", "24")
	b.now = noon.Add(24 * time.Hour)
	if o := b.advance(c.ID); o.Settled[0].Charged != usd("24") {
		t.Fatalf("%+v", o)
	}
}
