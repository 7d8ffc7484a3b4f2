package ledger

import (
	"fmt"
	"math"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// HoldID numbers holds, from 1.
type HoldID int64

// Hold is money set aside for a resource: out of the available balance, not yet
// spent. Parts of it may be charged while it is open. It ends once: the last part
// is charged and the rest goes back.
type Hold struct {
	ID       HoldID             `json:"id"`
	Account  identity.AccountID `json:"account"`
	Resource string             `json:"resource"` // its owner
	PlacedAt time.Time          `json:"placed_at"`
	// Deadline is when it should have ended by. One that is open long after it has
	// been forgotten by its owner, and the operator is told.
	Deadline time.Time `json:"deadline,omitzero"`

	Amount MicroUSD `json:"amount"` // with all extensions
	// Overage is how much more than the hold its settlement may charge, out of the
	// available balance; Overdraft is how far below zero that may take it.
	Overage   MicroUSD `json:"overage,omitempty"`
	Overdraft MicroUSD `json:"overdraft,omitempty"`

	Used  MicroUSD `json:"used,omitempty"`  // charged so far, out of the hold
	Taken MicroUSD `json:"taken,omitempty"` // by the operator's corrections

	// APIKey placed KeyAmount of it in KeyMonth, which counts against that key's
	// cap of that month.
	APIKey    identity.KeyID `json:"api_key,omitempty"`
	KeyAmount MicroUSD       `json:"key_amount,omitempty"`
	KeyMonth  time.Time      `json:"key_month,omitzero"`

	Settled *Settlement `json:"settled,omitempty"` // nil while open

	// LastRow is the newest row that is about the hold. One that has ended is
	// forgotten when that row is archived.
	LastRow int64 `json:"last_row"`
}

// Settlement is how a hold ended: Used + Taken + Refunded = Amount.
type Settlement struct {
	At       time.Time `json:"at"`
	Refunded MicroUSD  `json:"refunded"`
	// Over was charged beyond the hold, out of what was available.
	Over MicroUSD `json:"over,omitempty"`
	// Unbilled is what was used beyond that. Nobody is charged for it; the
	// operator sees what it cost.
	Unbilled MicroUSD `json:"unbilled,omitempty"`
}

// Rest is what an open hold still has.
func (h Hold) Rest() MicroUSD {
	if h.Settled != nil {
		return 0
	}
	return h.Amount - h.Used - h.Taken
}

// Charged is what the hold's resource has cost so far, what went beyond the hold
// included.
func (h Hold) Charged() MicroUSD {
	if h.Settled == nil {
		return h.Used
	}
	return h.Used + h.Settled.Over
}

// HoldTerms are agreed on when a hold is placed.
type HoldTerms struct {
	Deadline           time.Time
	Overage, Overdraft MicroUSD
}

// MaxOverage bounds a hold's overage: far beyond any real one, and far from where
// sums of it overflow.
const MaxOverage = 1_000_000 * Dollar

// HoldsBucket changes with every hold.
const HoldsBucket = "ledger.holds"

var (
	holds     = store.NewIntCollection[HoldID, Hold](HoldsBucket)
	openHolds = store.NewPairCollection[struct{}]("ledger.holds-open") // (account, hold)
)

// PlaceHold moves e.Amount from the account's available balance into a new hold
// for e.Resource. An *InsufficientError or *CapError leaves everything as it was.
func PlaceHold(tx *store.Tx, e Entry, terms HoldTerms) (Hold, error) {
	m := movement{Entry: e, kind: HoldPlaced, from: available(e.Account), to: held(e.Account)}
	prior, ok, err := seen(tx, m)
	if err != nil {
		return Hold{}, err
	}
	if ok {
		return GetHold(tx, prior.Hold)
	}
	if terms.Overage < 0 || terms.Overage > MaxOverage || terms.Overdraft < 0 || terms.Overdraft > terms.Overage {
		return Hold{}, fmt.Errorf("hold with an overage of %s, %s of it overdrawn: %w", terms.Overage, terms.Overdraft, ErrAmount)
	}
	// Before the first write: an update that fails without having written costs
	// its neighbours in the commit nothing.
	if err := affordable(tx, m); err != nil {
		return Hold{}, err
	}
	n, err := tx.NextID(holds.Name())
	if err != nil {
		return Hold{}, err
	}
	if _, taken, err := holds.Get(tx, HoldID(n)); err != nil || taken {
		return Hold{}, fmt.Errorf("hold %d is there already (%v): %w", n, err, store.ErrDamaged)
	}
	h := Hold{
		ID: HoldID(n), Account: e.Account, Resource: e.Resource, PlacedAt: e.At.UTC(), Deadline: terms.Deadline.UTC(),
		Amount: e.Amount, Overage: terms.Overage, Overdraft: terms.Overdraft,
	}
	h.countKey(e)
	m.hold = h.ID
	if err := h.move(tx, m); err != nil {
		return Hold{}, err
	}
	if err := countSpend(tx, m, e.Amount); err != nil {
		return Hold{}, err
	}
	if err := openHolds.Put(tx, store.Pair{A: int64(h.Account), B: int64(h.ID)}, struct{}{}); err != nil {
		return Hold{}, err
	}
	return h, holds.Put(tx, h.ID, h)
}

// ExtendHold adds e.Amount to an open hold, and moves its deadline if one is
// given. On an *InsufficientError the hold is as it was. The entry's account and
// resource are taken from the hold. extended is false when the call repeats an
// earlier one.
func ExtendHold(tx *store.Tx, id HoldID, e Entry, deadline time.Time) (h Hold, extended bool, err error) {
	if h, err = GetHold(tx, id); err != nil {
		return Hold{}, false, err
	}
	e.Account, e.Resource = h.Account, h.Resource
	m := movement{Entry: e, kind: HoldPlaced, from: available(e.Account), to: held(e.Account), hold: id}
	if _, ok, err := seen(tx, m); err != nil || ok {
		return h, false, err
	}
	if h.Settled != nil {
		return h, false, fmt.Errorf("hold %d: %w", id, ErrHoldSettled)
	}
	if err := affordable(tx, m); err != nil {
		return h, false, err
	}
	if h.Amount, err = h.Amount.Add(e.Amount); err != nil {
		return Hold{}, false, err
	}
	if err := h.move(tx, m); err != nil {
		return Hold{}, false, err
	}
	if err := countSpend(tx, m, e.Amount); err != nil {
		return Hold{}, false, err
	}
	h.countKey(e)
	if !deadline.IsZero() {
		h.Deadline = deadline.UTC()
	}
	return h, true, holds.Put(tx, id, h)
}

// countKey keeps what the hold has of its API key's cap, in the newest month that
// it was spent in.
func (h *Hold) countKey(e Entry) {
	if e.APIKey == 0 || h.APIKey != 0 && h.APIKey != e.APIKey {
		return
	}
	if month := MonthOf(e.At); month.After(h.KeyMonth) {
		h.KeyMonth, h.KeyAmount = month, 0
	}
	h.APIKey, h.KeyAmount = e.APIKey, h.KeyAmount+e.Amount
}

// ChargeHold charges parts of an open hold, as usage of the given type, and leaves
// it open. Each entry is a row; one that names no resource is for the hold's. All
// of them are charged or none. What is charged with an API key counts against that
// key's cap, unless it counted when the hold was placed; it is not refused for it,
// since it has been used. An entry whose idempotency key was charged before is
// left out.
func ChargeHold(tx *store.Tx, id HoldID, kind Type, entries ...Entry) (Hold, error) {
	h, err := GetHold(tx, id)
	if err != nil {
		return Hold{}, err
	}
	left, sum, err := h.uncharged(tx, kind, entries)
	if err != nil || len(left) == 0 {
		return h, err
	}
	if h.Settled != nil {
		return h, fmt.Errorf("hold %d: %w", id, ErrHoldSettled)
	}
	if sum > h.Rest() {
		return h, &OverageError{Hold: id, Used: sum, Limit: h.Rest()}
	}
	for _, e := range left {
		if err := h.charge(tx, kind, e); err != nil {
			return Hold{}, err
		}
		if h.APIKey == 0 {
			if err := countSpend(tx, movement{Entry: e}, e.Amount); err != nil {
				return Hold{}, err
			}
		}
	}
	return h, holds.Put(tx, id, h)
}

// SettleHold ends a hold: used, which is what has not been charged yet, is charged
// as usage of the given type, and the rest is refunded. Beyond the hold, its
// overage is charged as far as the balance and the overdraft reach. More than hold
// and overage is an *OverageError, and settling twice is ErrHoldSettled: both
// change nothing. The entry's account and resource are taken from the hold.
func SettleHold(tx *store.Tx, id HoldID, kind Type, used MicroUSD, e Entry) (Hold, error) {
	h, err := GetHold(tx, id)
	if err != nil {
		return Hold{}, err
	}
	if h.Settled != nil {
		return h, fmt.Errorf("hold %d: %w", id, ErrHoldSettled)
	}
	if used < 0 {
		return h, fmt.Errorf("settle hold %d for %s: %w", id, used, ErrAmount)
	}
	if err := accountedFor(tx, h.Account); err != nil {
		return h, err
	}
	rest := h.Rest()
	if used-rest > h.Overage {
		return h, &OverageError{Hold: id, Used: used, Limit: rest + h.Overage}
	}
	e.Account, e.Resource, e.Key = h.Account, h.Resource, ""
	s := Settlement{At: e.At.UTC()}
	if s.Over, err = h.payable(tx, max(0, used-rest)); err != nil {
		return Hold{}, err
	}
	s.Unbilled = max(0, used-rest) - s.Over
	if e.Amount = min(used, rest); e.Amount > 0 {
		if err := h.charge(tx, kind, e); err != nil {
			return Hold{}, err
		}
	}
	if e.Amount = s.Over; e.Amount > 0 {
		if err := h.chargeOver(tx, kind, e); err != nil {
			return Hold{}, err
		}
	}
	e.Description, e.Usage = "unused part of the hold", Usage{}
	return h.end(tx, s, e)
}

// VoidHold ends a hold that nothing was used of: what is left of it goes back, with
// e.Description saying why.
func VoidHold(tx *store.Tx, id HoldID, e Entry) (Hold, error) {
	h, err := GetHold(tx, id)
	if err != nil {
		return Hold{}, err
	}
	if h.Settled != nil {
		return h, fmt.Errorf("hold %d: %w", id, ErrHoldSettled)
	}
	if err := accountedFor(tx, h.Account); err != nil {
		return h, err
	}
	e.Account, e.Resource, e.Key, e.Usage = h.Account, h.Resource, "", Usage{}
	return h.end(tx, Settlement{At: e.At.UTC()}, e)
}

// move writes a row that is about the hold.
func (h *Hold) move(tx *store.Tx, m movement) error {
	t, err := move(tx, m)
	h.LastRow = t.Seq
	return err
}

// charge moves e.Amount of the hold to what was earned.
func (h *Hold) charge(tx *store.Tx, kind Type, e Entry) error {
	m, err := h.usage(kind, e)
	if err != nil {
		return err
	}
	if err := h.move(tx, m); err != nil {
		return err
	}
	h.Used += e.Amount
	return nil
}

// usage is a charge of the hold as a movement.
func (h *Hold) usage(kind Type, e Entry) (movement, error) {
	to, err := revenue(kind)
	e.Account = h.Account
	if e.Resource == "" {
		e.Resource = h.Resource
	}
	if e.APIKey == 0 {
		e.APIKey = h.APIKey
	}
	return movement{Entry: e, kind: kind, from: held(h.Account), to: to, hold: h.ID}, err
}

// uncharged are the entries whose keys have not been charged yet, and their sum.
func (h *Hold) uncharged(tx *store.Tx, kind Type, entries []Entry) (left []Entry, sum MicroUSD, err error) {
	keys := map[string]bool{}
	for _, e := range entries {
		m, err := h.usage(kind, e)
		if err != nil {
			return nil, 0, err
		}
		if _, again, err := seen(tx, m); err != nil {
			return nil, 0, err
		} else if again {
			continue
		}
		if e.Amount <= 0 {
			return nil, 0, fmt.Errorf("%s of %s: %w", kind, e.Amount, ErrAmount)
		}
		if e.Key != "" && keys[e.Key] {
			return nil, 0, fmt.Errorf("%q: %w", e.Key, ErrKeyReused)
		}
		if keys[e.Key] = true; sum > math.MaxInt64-e.Amount {
			return nil, 0, ErrOverflow
		}
		left, sum = append(left, e), sum+e.Amount
	}
	return left, sum, nil
}

// payable is how much of an overage the available balance can be charged with.
func (h *Hold) payable(tx *store.Tx, over MicroUSD) (MicroUSD, error) {
	if over == 0 {
		return 0, nil
	}
	w, err := walletOf(tx, h.Account)
	return min(over, max(0, w.available+h.Overdraft)), err
}

func (h *Hold) chargeOver(tx *store.Tx, kind Type, e Entry) error {
	to, err := revenue(kind)
	if err != nil {
		return err
	}
	e.Description, e.Usage = "used beyond the hold", Usage{}
	if e.APIKey == 0 {
		e.APIKey = h.APIKey
	}
	m := movement{Entry: e, kind: kind, from: available(h.Account), to: to, hold: h.ID, overdraft: h.Overdraft}
	if err := h.move(tx, m); err != nil {
		return err
	}
	return countSpend(tx, m, e.Amount)
}

// end refunds what is left and closes the hold.
func (h Hold) end(tx *store.Tx, s Settlement, e Entry) (Hold, error) {
	if s.Refunded = h.Rest(); s.Refunded > 0 {
		e.Amount, e.APIKey = s.Refunded, h.APIKey
		m := movement{Entry: e, kind: Refund, from: held(h.Account), to: available(h.Account), hold: h.ID}
		if err := h.move(tx, m); err != nil {
			return Hold{}, err
		}
		if err := countBack(tx, m, min(s.Refunded, h.KeyAmount), h.KeyMonth); err != nil {
			return Hold{}, err
		}
	}
	h.Settled = &s
	if err := openHolds.Delete(tx, store.Pair{A: int64(h.Account), B: int64(h.ID)}); err != nil {
		return Hold{}, err
	}
	b, err := batchOf(tx)
	if err != nil {
		return Hold{}, err
	}
	if h.LastRow <= b.pruned { // nothing was left of it for long
		return h, holds.Delete(tx, h.ID)
	}
	return h, holds.Put(tx, h.ID, h)
}

// accountedFor refuses to end a hold of an account whose holds are not what is
// held: a record that the disk has put back to an older state would be settled
// twice, out of another hold's money.
func accountedFor(tx *store.Tx, a identity.AccountID) error {
	open, err := OpenHolds(tx, a)
	if err != nil {
		return err
	}
	w, err := walletOf(tx, a)
	if err != nil {
		return err
	}
	if sum := restOf(open); sum != w.held {
		return fmt.Errorf("account %d has %s held, and open holds of %s: %w", a, w.held, sum, store.ErrDamaged)
	}
	return nil
}

// forgetHold deletes the record of a hold that has ended, if the row, which is
// being archived, is its last.
func forgetHold(tx *store.Tx, t Transfer) error {
	if t.Hold == 0 {
		return nil
	}
	h, ok, err := holds.Get(tx, t.Hold)
	if err != nil || !ok || h.Settled == nil || h.LastRow != t.Seq {
		return err
	}
	return holds.Delete(tx, h.ID)
}

// GetHold reads a hold. One that has ended, and whose rows have all been archived,
// is ErrNoHold.
func GetHold(tx *store.Tx, id HoldID) (Hold, error) {
	h, ok, err := holds.Get(tx, id)
	if err != nil {
		return Hold{}, err
	}
	if !ok {
		return Hold{}, fmt.Errorf("hold %d: %w", id, ErrNoHold)
	}
	return h, nil
}

// OpenHolds lists an account's open holds, oldest first.
func OpenHolds(tx *store.Tx, a identity.AccountID) ([]Hold, error) {
	return holdsOf(tx, openHolds.Scan(tx, store.First(int64(a)), store.Last(int64(a))))
}

// affordable checks a debit from the available balance before anything is written.
func affordable(tx *store.Tx, m movement) error {
	if m.Amount <= 0 {
		return fmt.Errorf("%s of %s: %w", m.kind, m.Amount, ErrAmount)
	}
	w, err := walletOf(tx, m.Account)
	if err != nil {
		return err
	}
	b, err := batchOf(tx)
	if err != nil {
		return err
	}
	if _, err := b.check(tx, m, w); err != nil {
		return err
	}
	return underCap(tx, m)
}
