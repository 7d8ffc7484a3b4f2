package metering

import (
	"errors"
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// Here is all of a cycle that moves money.

// full is what 24 hours of the units that run or are reserved cost.
func (c Cycle) full() (ledger.MicroUSD, error) {
	return c.cost(int64(max(c.Units, c.Reserve)) * int64(CycleLength))
}

// place holds a part of what a whole cycle, or the rest of one, costs. What it
// uses beyond that part may be charged from what is available, never below zero: as
// far as a hold's overage may go with its settlement, and chargeBeyond does the rest.
func (c *Cycle) place(tx *store.Tx, part, whole ledger.MicroUSD, units int, now time.Time) error {
	h, err := ledger.PlaceHold(tx, c.entry(part, now, c.describeHold(part, whole, units)), ledger.HoldTerms{Deadline: c.End, Overage: min(whole-part, ledger.MaxOverage)})
	c.Hold = h.ID
	return err
}

// renew holds the cycle that has just begun, as far as money is free: with nothing
// available, and money that is held for something else, it goes on without a hold,
// and pays when it is settled. A reason means that it can't go on.
func (c *Cycle) renew(tx *store.Tx, now time.Time) (StopReason, error) {
	full, err := c.full()
	if err != nil {
		return "", err
	}
	w, err := ledger.WalletOf(tx, c.Account)
	if err != nil {
		return "", err
	}
	debt, err := owed(tx, c.Account)
	if err != nil {
		return "", err
	}
	if w.Total() <= debt { // also where nothing runs: it could not begin to
		return CreditDepleted, nil
	}
	if full == 0 {
		return "", nil
	}
	part := min(full, w.Available)
	if part <= 0 {
		if left, err := c.underCap(tx, full, now); err != nil || left <= 0 {
			return SpendCapReached, err
		}
		return "", nil
	}
	var capped *ledger.CapError
	if err = c.place(tx, part, full, max(c.Units, c.Reserve), now); errors.As(err, &capped) {
		return SpendCapReached, nil
	}
	return "", err
}

// extend makes the hold last to the boundary at the present units, as far as there
// is money.
func (c *Cycle) extend(tx *store.Tx, now time.Time) error {
	need, err := c.cost(c.unitTimeAt(c.End))
	if err != nil || c.Units == 0 {
		return err
	}
	h, open, err := c.openHold(tx)
	if err != nil {
		return err
	}
	rest := h.Rest()
	money, err := c.spendable(tx, now)
	if err != nil {
		return err
	}
	part := min(need-rest, money)
	if part <= 0 {
		return nil
	}
	if !open {
		return c.place(tx, part, need, c.Units, now)
	}
	_, _, err = ledger.ExtendHold(tx, c.Hold, c.entry(part, now, c.describeHold(part, need-rest, c.Units)), time.Time{})
	return err
}

// openHold reads the hold; ok is false when there is none, or somebody has released
// it, as Reconcile may.
func (c Cycle) openHold(tx *store.Tx) (h ledger.Hold, ok bool, err error) {
	if c.Hold == 0 {
		return h, false, nil
	}
	h, err = ledger.GetHold(tx, c.Hold)
	if errors.Is(err, ledger.ErrNoHold) { // so long ago that it has been forgotten
		return h, false, nil
	}
	return h, err == nil && h.Settled == nil, err
}

// spendable is what may be held more: of the available balance, what the API key's
// cap leaves.
func (c Cycle) spendable(tx *store.Tx, now time.Time) (ledger.MicroUSD, error) {
	w, err := ledger.WalletOf(tx, c.Account)
	if err != nil {
		return 0, err
	}
	return c.underCap(tx, w.Available, now)
}

// underCap is how much of an amount the API key's cap leaves.
func (c Cycle) underCap(tx *store.Tx, amount ledger.MicroUSD, now time.Time) (ledger.MicroUSD, error) {
	if c.APIKey == 0 {
		return amount, nil
	}
	limit, capped, err := ledger.CapOf(tx, c.APIKey, now)
	if err != nil || !capped {
		return amount, err
	}
	return min(amount, limit.Cap-limit.Spent), nil
}

// settle charges what ran in the present cycle up to its end, and refunds the rest.
// What is not free for it is owed, and what there is no money for is unbilled. What
// the account owes is paid from what has come back.
func (o *Outcome) settle(tx *store.Tx, end, now time.Time) error {
	c := &o.Cycle
	c.count(end)
	used, err := c.cost(c.UnitTime)
	if err != nil {
		return err
	}
	s := Settled{From: c.Begun, To: end, UnitTime: time.Duration(c.UnitTime), Used: used}
	e := c.entry(0, now, c.describe("%s to %s: %s GPU-hours at $%s", spell(s.From), spell(s.To), hours(s.UnitTime), c.Rate))
	e.Usage.Seconds = c.UnitTime / int64(time.Second)
	h, open, err := c.openHold(tx)
	if err != nil {
		return err
	}
	if s.Owed, err = c.owes(tx, used, h.Rest()); err != nil {
		return err
	}
	payable := used - s.Owed
	if open {
		// More than hold and overage: units that grew without money, or a
		// correction that took from the hold. What is beyond comes below.
		if h, err = ledger.SettleHold(tx, c.Hold, ledger.InferenceUsage, min(payable, h.Rest()+h.Overage), e); err != nil {
			return err
		}
		s.Charged, s.Refunded = h.Charged(), h.Settled.Refunded
		e.Usage = ledger.Usage{} // it stands in the row for the hold
	}
	beyond, err := c.chargeBeyond(tx, payable-s.Charged, e)
	if err != nil {
		return err
	}
	s.Charged += beyond
	s.Unbilled = payable - s.Charged
	return o.note(tx, s, now)
}

// note keeps what a settlement came to.
func (o *Outcome) note(tx *store.Tx, s Settled, now time.Time) error {
	c := &o.Cycle
	c.Charged += s.Charged
	c.Owed += s.Owed
	c.Unbilled += s.Unbilled
	o.Settled = append(o.Settled, s)
	err := owe(tx, Debt{
		Account: c.Account, Resource: c.Resource, Type: ledger.InferenceUsage, Label: c.Label, APIKey: c.APIKey,
		From: s.From, To: s.To, Amount: s.Owed,
	})
	if err != nil {
		return err
	}
	paid, err := PayDebts(tx, c.Account, now)
	o.Debts.add(paid)
	return err
}

// owes is how much of what was used will be owed: neither the cycle's hold, of
// which rest is left, nor the available balance covers it, and what is held for
// others does.
func (c Cycle) owes(tx *store.Tx, used, rest ledger.MicroUSD) (ledger.MicroUSD, error) {
	w, err := ledger.WalletOf(tx, c.Account)
	if err != nil {
		return 0, err
	}
	return split(tx, c.Account, used-rest-max(0, w.Available), w.Held-rest)
}

// chargeBeyond charges what no hold covers, as far as the balance reaches.
func (c Cycle) chargeBeyond(tx *store.Tx, amount ledger.MicroUSD, e ledger.Entry) (ledger.MicroUSD, error) {
	w, err := ledger.WalletOf(tx, c.Account)
	if err != nil {
		return 0, err
	}
	if e.Amount = min(amount, w.Available); e.Amount <= 0 {
		return 0, nil
	}
	e.Description += ", beyond the hold"
	return e.Amount, chargeUsed(tx, ledger.InferenceUsage, e)
}

// chargeUsed charges what has been used already: whatever the API key may spend,
// the account owes it.
func chargeUsed(tx *store.Tx, kind ledger.Type, e ledger.Entry) error {
	_, err := ledger.Charge(tx, kind, e)
	var capped *ledger.CapError
	if errors.As(err, &capped) {
		e.APIKey = 0
		_, err = ledger.Charge(tx, kind, e)
	}
	return err
}

func (c Cycle) entry(amount ledger.MicroUSD, now time.Time, text string) ledger.Entry {
	return ledger.Entry{At: now, Account: c.Account, Amount: amount, Resource: c.Resource, APIKey: c.APIKey, Description: text}
}

func (c Cycle) describeHold(part, whole ledger.MicroUSD, units int) string {
	text := c.describe("hold until %s for %d GPUs at $%s an hour", spell(c.End), units, c.Rate)
	if part < whole {
		text += fmt.Sprintf("; the balance covers $%s of $%s", part, whole)
	}
	return text
}

func spell(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04 UTC") }

// hours writes a time in hours with two decimals, the rest cut off.
func hours(d time.Duration) string {
	n := int64(d / (time.Hour / 100))
	return fmt.Sprintf("%d.%02d", n/100, n%100)
}
