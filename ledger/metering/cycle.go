package metering

import (
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// CycleID numbers cycles, from 1. A cycle keeps its number over all its renewals.
type CycleID int64

// CycleState is whether a cycle is renewed. The only way is from active to stopped.
type CycleState string

// The states.
const (
	Active  CycleState = "active"
	Stopped CycleState = "stopped"
)

// StopReason is why a cycle stopped. Callers of StopCycle have reasons of their
// own; these are ours.
type StopReason string

// Why Advance stops a cycle at its boundary.
const (
	CreditDepleted  StopReason = "credit_depleted"   // no money, available and held together, beyond what is owed
	SpendCapReached StopReason = "spend_cap_reached" // the API key's monthly cap does not allow the next hold
)

// Cycle is the renewing 24-hour hold of one resource.
//
//	StartCycle → active ── boundary: settle, refund, hold ──→ active
//	               │  StopCycle, or no money at a boundary
//	               ▼
//	            stopped
type Cycle struct {
	ID       CycleID            `json:"id"`
	Account  identity.AccountID `json:"account"`
	Resource string             `json:"resource"`        // "inference-instance/12"
	Label    string             `json:"label,omitempty"` // what the account's rows call it: "llama, H100"
	Rate     ledger.MicroUSD    `json:"rate"`            // per unit and hour
	APIKey   identity.KeyID     `json:"api_key,omitempty"`

	// Units are the GPUs of all replicas that really run. Reserve is how many the
	// next hold is for, if it is more.
	Units   int `json:"units"`
	Reserve int `json:"reserve"`

	// The present 24 hours. Of a stopped cycle, the last.
	Begun time.Time `json:"begun"`
	End   time.Time `json:"end"` // the boundary
	// Hold is 0 when there is none: nothing ran and nothing was reserved, or no money
	// was free when it began to run, or to be renewed.
	Hold ledger.HoldID `json:"hold,omitempty"`
	// UnitTime is what ran in these 24 hours up to Counted: units × nanoseconds.
	UnitTime int64     `json:"unit_time"`
	Counted  time.Time `json:"counted"`

	State  CycleState `json:"state"`
	Reason StopReason `json:"reason,omitempty"`
	Ended  time.Time  `json:"ended,omitzero"`

	// Of all 24 hours that were settled. Owed was put down as the account's Debt.
	Charged ledger.MicroUSD `json:"charged"`
	Owed    ledger.MicroUSD `json:"owed,omitempty"`
	// Unbilled was used when there was no money. Nobody is charged for it; the
	// operator sees what it cost.
	Unbilled ledger.MicroUSD `json:"unbilled,omitempty"`

	// Covered is until when the hold lasts at the present units: End when it lasts
	// the whole cycle. It is worked out whenever a cycle is read, since a
	// correction may take from a hold at any time.
	Covered time.Time `json:"-"`
}

// Partial tells whether the hold ends before the cycle does.
func (c Cycle) Partial() bool { return c.State == Active && c.Covered.Before(c.End) }

// Accrued is what the present 24 hours have cost up to t, at the present units.
// It is not charged before they are settled.
func (c Cycle) Accrued(t time.Time) (ledger.MicroUSD, error) {
	if c.State != Active {
		return 0, nil
	}
	return c.cost(c.unitTimeAt(t))
}

// CyclesBucket changes with every cycle.
const CyclesBucket = "metering.cycles"

var (
	cycles = store.NewIntCollection[CycleID, Cycle](CyclesBucket)
	// Indexes of the active ones.
	cyclesDue = store.NewPairCollection[struct{}]("metering.cycles-due")        // (End in Unix nanoseconds, cycle)
	cyclesOf  = store.NewPairCollection[struct{}]("metering.cycles-of-account") // (account, cycle)
	cycleFor  = store.NewStringCollection[string, CycleID]("metering.cycle-of-resource")
)

// GetCycle reads a cycle, stopped ones too.
func GetCycle(tx *store.Tx, id CycleID) (Cycle, error) {
	c, ok, err := cycles.Get(tx, id)
	if err != nil {
		return Cycle{}, err
	}
	if !ok {
		return Cycle{}, fail(ErrNotFound, "there is no billing cycle %d: start one", id)
	}
	return c, c.findCovered(tx)
}

// CycleOf reads the active cycle of a resource; ok is false when it has none.
func CycleOf(tx *store.Tx, resource string) (c Cycle, ok bool, err error) {
	id, ok, err := cycleFor.Get(tx, resource)
	if err != nil || !ok {
		return Cycle{}, false, err
	}
	c, err = GetCycle(tx, id)
	return c, err == nil, err
}

// ActiveCycles lists an account's active cycles, oldest first.
func ActiveCycles(tx *store.Tx, a identity.AccountID) (out []Cycle, err error) {
	for rec, err := range cyclesOf.Scan(tx, store.First(int64(a)), store.Last(int64(a))) {
		if err != nil {
			return nil, err
		}
		c, err := GetCycle(tx, CycleID(rec.Key.B))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// DueCycles lists at most limit active cycles whose boundary has passed, the
// longest overdue first. It reads no others.
func DueCycles(tx *store.Tx, now time.Time, limit int) (out []CycleID, err error) {
	for rec, err := range cyclesDue.Scan(tx, store.First(0), store.Last(now.UnixNano())) {
		if err != nil {
			return nil, err
		}
		if len(out) >= limit {
			break
		}
		out = append(out, CycleID(rec.Key.B))
	}
	return out, nil
}

// NextBoundary is when the next cycle is due, which may have passed; ok is false
// when there is no active one.
func NextBoundary(tx *store.Tx) (t time.Time, ok bool, err error) {
	for rec, err := range cyclesDue.All(tx) {
		return time.Unix(0, rec.Key.A).UTC(), err == nil, err
	}
	return t, false, nil
}

// saveCycle writes a cycle and its place in the indexes; was is how it was read.
func saveCycle(tx *store.Tx, was, c Cycle) error {
	if was.State == Active && (c.State != Active || !c.End.Equal(was.End)) {
		if err := cyclesDue.Delete(tx, was.dueKey()); err != nil {
			return err
		}
	}
	if c.State == Active && (was.State != Active || !c.End.Equal(was.End)) {
		if err := cyclesDue.Put(tx, c.dueKey(), struct{}{}); err != nil {
			return err
		}
	}
	owned := store.Pair{A: int64(c.Account), B: int64(c.ID)}
	switch {
	case was.State == c.State:
	case c.State == Active:
		if err := cyclesOf.Put(tx, owned, struct{}{}); err != nil {
			return err
		}
		if err := cycleFor.Put(tx, c.Resource, c.ID); err != nil {
			return err
		}
	default:
		if err := cyclesOf.Delete(tx, owned); err != nil {
			return err
		}
		if err := cycleFor.Delete(tx, c.Resource); err != nil {
			return err
		}
	}
	return cycles.Put(tx, c.ID, c)
}

func (c Cycle) dueKey() store.Pair { return store.Pair{A: c.End.UnixNano(), B: int64(c.ID)} }

// cost is what a time of units costs. A cycle's use is rounded once, when it is
// settled, however often its units changed.
func (c Cycle) cost(unitTime int64) (ledger.MicroUSD, error) {
	m, err := ledger.MulDiv(c.Rate, unitTime, int64(time.Hour))
	if err != nil {
		return 0, fmt.Errorf("cost of cycle %d: %w", c.ID, err)
	}
	return m, nil
}

// unitTimeAt is UnitTime if the present units go on until t. It never goes back.
func (c Cycle) unitTimeAt(t time.Time) int64 {
	if t.After(c.End) {
		t = c.End
	}
	return c.UnitTime + int64(c.Units)*max(0, int64(t.Sub(c.Counted)))
}

// count adds what ran until t.
func (c *Cycle) count(t time.Time) {
	c.UnitTime = c.unitTimeAt(t)
	if t.After(c.Counted) {
		c.Counted = t
	}
}

// rest is what the hold still has.
func (c Cycle) rest(tx *store.Tx) (ledger.MicroUSD, error) {
	h, _, err := c.openHold(tx)
	return h.Rest(), err
}

func (c *Cycle) findCovered(tx *store.Tx) (err error) {
	c.Covered = c.End
	if c.State == Active {
		c.Covered, err = c.coveredAt(tx, c.Units)
	}
	return err
}

// coveredAt is until when the hold lasts if units run from Counted on; End when it
// lasts the whole cycle.
func (c Cycle) coveredAt(tx *store.Tx, units int) (time.Time, error) {
	if c.Units = units; units == 0 {
		return c.End, nil
	}
	rest, err := c.rest(tx)
	if err != nil {
		return c.End, err
	}
	need, err := c.cost(c.unitTimeAt(c.End))
	if err != nil || need <= rest {
		return c.End, err
	}
	used, err := c.cost(c.UnitTime)
	if err != nil {
		return c.End, err
	}
	lasts, err := ledger.Affords(max(0, rest-used), c.Rate, units)
	if err != nil {
		return c.End, err
	}
	return c.Counted.Add(min(lasts, c.End.Sub(c.Counted))), nil
}

// instant is a time as it comes back from the store: UTC, no monotonic reading.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }
