package metering

import (
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// NewCycle is what a cycle is started with.
type NewCycle struct {
	Account  identity.AccountID
	Resource string
	Label    string          // at the front of the descriptions of its rows; may be empty
	Rate     ledger.MicroUSD // per unit and hour: the price that was agreed on
	// Reserve is how many units the hold is for: GPUs × replicas as asked for.
	// Units run already; at a launch none do, and pulling and starting are free.
	Reserve, Units int
	APIKey         identity.KeyID // that it was asked for with; 0: none
}

// Outcome is what a call did to a cycle.
type Outcome struct {
	Cycle Cycle // as it is now
	// Settled are the cycles that were settled, oldest first. Whoever shows or
	// logs Unbilled finds it here.
	Settled []Settled
	// Debts is what the account owed and has paid, from what came back of holds.
	Debts Payment
	// Stopped: this call stopped it, for Cycle.Reason. The resource must end.
	Stopped bool
	// Partial is a warning: the hold that this call renewed or extended does not
	// last to the boundary, at the units that run or, at a renewal, are reserved.
	// The resource runs on to it all the same. Partial with Covers 0 says that
	// there is no hold: all money is held for something else.
	Partial bool
	// Covers is how long the hold lasts from the cycle's begin, or from the change
	// of units on: 24 hours or what is left of them when it is not partial. It is 0
	// too when the call had nothing to do.
	Covers time.Duration
	// Due: one call's limit was reached, and the cycle is still due.
	Due bool
}

// Settled is one settlement. Used = Charged + Owed + Unbilled.
type Settled struct {
	From, To time.Time
	UnitTime time.Duration // units × time, all together
	Used     ledger.MicroUSD
	Charged  ledger.MicroUSD
	Refunded ledger.MicroUSD
	Owed     ledger.MicroUSD
	Unbilled ledger.MicroUSD
}

// StartCycle holds 24 hours of a resource's reserve and begins its first cycle at
// now. Without the money for all of it, and for what the account owes, it is an
// *ledger.InsufficientError; where the API key's cap forbids it, a *ledger.CapError; a resource that has an active
// cycle is ErrConflict. Then nothing is created.
func StartCycle(tx *store.Tx, n NewCycle, now time.Time) (Cycle, error) {
	if err := n.check(tx); err != nil {
		return Cycle{}, err
	}
	now = instant(now)
	c := Cycle{
		Account: n.Account, Resource: n.Resource, Label: n.Label, Rate: n.Rate, APIKey: n.APIKey, Units: n.Units, Reserve: n.Reserve,
		Begun: now, End: now.Add(CycleLength), Counted: now, State: Active,
	}
	full, err := c.full()
	if err != nil {
		return Cycle{}, err
	}
	if err := enough(tx, c.Account, max(1, full)); err != nil {
		return Cycle{}, err
	}
	if full > 0 { // before the first write, which a refusal then leaves undone
		if err := c.place(tx, full, full, max(n.Units, n.Reserve), now); err != nil {
			return Cycle{}, err
		}
	}
	id, err := tx.NextID(cycles.Name())
	if err != nil {
		return Cycle{}, err
	}
	c.ID = CycleID(id)
	if err := saveCycle(tx, Cycle{}, c); err != nil {
		return Cycle{}, err
	}
	return c, c.findCovered(tx)
}

func (n NewCycle) check(tx *store.Tx) error {
	if err := checkResource(n.Resource); err != nil {
		return err
	}
	if n.Rate <= 0 || n.Rate > maxRate {
		return invalid("rate", "a rate of $%s per hour can't be: it is above 0.00 and at most %s", n.Rate, maxRate)
	}
	if len(n.Label) > maxLabelBytes {
		return invalid("label", "a label has %d bytes at most: shorten it", maxLabelBytes)
	}
	if err := checkUnits("reserve", n.Reserve); err != nil {
		return err
	}
	if err := checkUnits("units", n.Units); err != nil {
		return err
	}
	id, taken, err := cycleFor.Get(tx, n.Resource)
	if err == nil && taken {
		err = fail(ErrConflict, "%s is billed already, by cycle %d: stop that first", n.Resource, id)
	}
	return err
}

func checkUnits(field string, n int) error {
	if n < 0 || n > maxUnits {
		return invalid(field, "%d GPUs can't be: 0 to %d can run", n, maxUnits)
	}
	return nil
}

// SetUnits says that from the instant at on, units GPUs run: 0 when none does.
// What ran until then is counted at the units that were. An at before what is
// counted already, or after now, is moved there.
//
// Where the hold would no longer last to the boundary it is extended, as far as
// the balance and the API key's cap reach; Outcome says whether that was enough.
// So a call with the same units extends a hold that fell short, once there is
// money. A caller that grows by its own choice, and not because a replica is
// there already, may undo its update when the outcome is partial.
//
// After a time in which the box was off, this comes before Advance: nobody else
// knows when the replicas ended. An at beyond the boundary first does what Advance
// does, which may stop the cycle; a cycle that is stopped already is ErrConflict.
func SetUnits(tx *store.Tx, id CycleID, units int, at, now time.Time) (Outcome, error) {
	if err := checkUnits("units", units); err != nil {
		return Outcome{}, err
	}
	if at = instant(at); at.After(now) {
		at = instant(now)
	}
	was, out, err := catchUp(tx, id, at, now)
	if err != nil {
		return Outcome{}, err
	}
	c := &out.Cycle
	if c.State == Active {
		c.count(at)
		c.Units = units
		if err := c.extend(tx, now); err != nil {
			return Outcome{}, err
		}
	}
	return finish(tx, was, out, at, units)
}

// SetReserve says how many units the next hold is for, if no more run by then. It
// moves no money.
func SetReserve(tx *store.Tx, id CycleID, reserve int) (Cycle, error) {
	if err := checkUnits("reserve", reserve); err != nil {
		return Cycle{}, err
	}
	c, err := GetCycle(tx, id)
	if err != nil {
		return Cycle{}, err
	}
	if c.State != Active {
		return Cycle{}, c.gone()
	}
	was := c
	c.Reserve = reserve
	return c, saveCycle(tx, was, c)
}

// Advance does what is due at the cycle's boundaries up to now, at each of them
// once: it settles the past 24 hours at what really ran, refunds the rest, and
// holds the next 24 hours, in full or as far as the available balance reaches. At
// $0, which is available and held money together without what is owed, it stops the
// cycle, at that boundary. Before the boundary, and for a stopped cycle, it does
// nothing.
//
// A cycle with a partial hold, or with none since all money is held for something
// else, runs to its boundary. What it uses beyond the hold is then charged from
// what is available, never below zero. The rest becomes a Debt as far as other held
// money reaches; beyond that it is Unbilled. An API key's cap is no lack of money: where it does not allow what
// would be held, the cycle stops.
func Advance(tx *store.Tx, id CycleID, now time.Time) (Outcome, error) {
	c, err := GetCycle(tx, id)
	if err != nil {
		return Outcome{}, err
	}
	was, out := c, Outcome{Cycle: c}
	if err := out.advance(tx, now, now); err != nil {
		return Outcome{}, err
	}
	if len(out.Settled) == 0 {
		return out, nil
	}
	return finish(tx, was, out, out.Cycle.Begun, max(out.Cycle.Units, out.Cycle.Reserve))
}

// StopCycle ends a cycle for a reason: what has accrued up to now is charged, and
// the rest of the hold is refunded at once. Boundaries that have passed are
// settled first. A cycle that is stopped already stays as it is.
func StopCycle(tx *store.Tx, id CycleID, now time.Time, reason StopReason) (Outcome, error) {
	c, err := GetCycle(tx, id)
	if err != nil || c.State != Active {
		return Outcome{Cycle: c}, err
	}
	was, out, err := catchUp(tx, id, now, now)
	if err != nil {
		return Outcome{}, err
	}
	if end := instant(now); out.Cycle.State == Active {
		if end.Before(out.Cycle.Counted) { // the clock went back
			end = out.Cycle.Counted
		}
		if err := out.settle(tx, end, now); err != nil {
			return Outcome{}, err
		}
		out.stop(reason, end)
	}
	return finish(tx, was, out, now, 0)
}

// catchUp reads an active cycle and does what is due by the instant.
func catchUp(tx *store.Tx, id CycleID, at, now time.Time) (was Cycle, out Outcome, err error) {
	if was, err = GetCycle(tx, id); err != nil {
		return was, out, err
	}
	if was.State != Active {
		return was, out, was.gone()
	}
	if at.Sub(was.End) >= maxCatchUp*CycleLength {
		return was, out, fail(ErrBehind, "%s is more than %d cycles behind: settle those first", was.Resource, maxCatchUp)
	}
	out.Cycle = was
	return was, out, out.advance(tx, at, now)
}

func (c Cycle) gone() error {
	return fail(ErrConflict, "billing of %s stopped (%s): start a new cycle", c.Resource, c.Reason)
}

// advance passes every boundary up to an instant.
func (o *Outcome) advance(tx *store.Tx, until, now time.Time) error {
	for n := 0; o.Cycle.State == Active && !o.Cycle.End.After(until); n++ {
		if n == maxCatchUp {
			o.Due = true
			return nil
		}
		c := &o.Cycle
		if err := o.settle(tx, c.End, now); err != nil {
			return err
		}
		last := *c
		c.Begun, c.End = c.End, c.End.Add(CycleLength)
		c.Counted, c.UnitTime, c.Hold = c.Begun, 0, 0
		reason, err := c.renew(tx, now)
		if err != nil {
			return err
		}
		if reason != "" {
			*c = last
			o.stop(reason, last.End)
		}
	}
	return nil
}

// stop marks a cycle that has been settled.
func (o *Outcome) stop(reason StopReason, at time.Time) {
	o.Cycle.State, o.Cycle.Reason, o.Cycle.Ended = Stopped, reason, at
	o.Cycle.Units = 0
	o.Stopped = true
}

// finish writes the cycle and says how far the hold reaches if units run on.
func finish(tx *store.Tx, was Cycle, out Outcome, since time.Time, units int) (Outcome, error) {
	c := &out.Cycle
	if err := saveCycle(tx, was, *c); err != nil {
		return Outcome{}, err
	}
	if err := c.findCovered(tx); err != nil || c.State != Active {
		return out, err
	}
	until, err := c.coveredAt(tx, units)
	if err != nil {
		return Outcome{}, err
	}
	out.Partial, out.Covers = until.Before(c.End), max(0, until.Sub(since))
	return out, nil
}

// describe begins a row's description with the cycle's label.
func (c Cycle) describe(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if c.Label == "" {
		return text
	}
	return c.Label + ": " + text
}
