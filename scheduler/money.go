package scheduler

import (
	"errors"
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Here is what an instance costs, and how its hold is placed and settled.

// billedLag bounds what an instance is billed for beyond its paid time when its
// end comes late: SPEC.md 7's watchdog lag.
const billedLag = time.Minute

// lagRounding is what the costs of all extensions may fall short of the cost of
// the whole: each is rounded down by less than a micro-dollar.
const lagRounding ledger.MicroUSD = 100

// holdTerms let the settlement of the instance's hold charge for the lag.
func (i Instance) holdTerms(now time.Time) (ledger.HoldTerms, error) {
	lag, err := ledger.Cost(i.Rate, i.GPUCount, billedLag)
	lag += lagRounding
	return ledger.HoldTerms{Deadline: i.holdDeadline(now), Overage: lag, Overdraft: lag}, err
}

// holdDeadline is when its hold should have been settled by. While it waits for
// GPUs this is only a guess: forgotten tells the difference.
func (i Instance) holdDeadline(now time.Time) time.Time {
	if d := i.Deadline(); !d.IsZero() {
		return d.Add(watchdogTime)
	}
	return now.Add(i.Paid - i.Ran + watchdogTime)
}

// capped is the refusal of an amount by an API key's cap; nil when the cap allows it.
func capped(tx *store.Tx, key identity.KeyID, amount ledger.MicroUSD, now time.Time) (refusal, err error) {
	c, ok, err := ledger.CapOf(tx, key, now)
	if err != nil || !ok || amount <= c.Cap-c.Spent {
		return nil, err
	}
	return &ledger.CapError{APIKey: key, Cap: c.Cap, Spent: c.Spent, Until: c.Month.AddDate(0, 1, 0)}, nil
}

// settle charges the time that the instance ran, refunds the rest of its hold, and
// notes both, and what of that time nobody pays for.
func (i *Instance) settle(tx *store.Tx, o occurrence) error {
	used, err := ledger.Cost(i.Rate, i.GPUCount, i.Ran)
	if err != nil {
		return err
	}
	h, err := ledger.GetHold(tx, i.Hold)
	if err != nil {
		return err
	}
	e := ledger.Entry{
		At: o.now, APIKey: i.APIKey, Tag: i.Tag,
		Usage:       ledger.Usage{Seconds: int64(i.Ran * time.Duration(i.GPUCount) / time.Second)},
		Description: fmt.Sprintf("%s: %d × %s for %s", i.Name, i.GPUCount, i.GPUType, spell(i.Ran)),
	}
	within := min(used, h.Rest()+h.Overage)
	if h.Taken > 0 { // by a correction: what ran may cost more than is left, and that is no lag
		within = min(used, h.Rest())
	}
	if h, err = ledger.SettleHold(tx, i.Hold, ledger.GPUUsage, within, e); err != nil {
		return err
	}
	if h.Charged() > 0 {
		e.Usage = ledger.Usage{} // it stands in the row for the hold
	}
	beyond, err := chargeBeyond(tx, *i, used-within, e)
	i.Charged, i.Refunded = h.Charged()+beyond, h.Settled.Refunded
	i.Unbilled = used - i.Charged
	return err
}

// ShortenToHolds ends the paid time of an account's instances where their holds
// do. It is called in the transaction of a correction, which may have taken from
// them: nobody runs on for money that is gone.
func ShortenToHolds(tx *store.Tx, a identity.AccountID, now time.Time) error {
	live, err := everyLive(tx)
	if err != nil {
		return err
	}
	for _, i := range live {
		if i.Account != a || !i.billable() {
			continue
		}
		h, err := ledger.GetHold(tx, i.Hold)
		if err != nil {
			return err
		}
		paid, err := ledger.Affords(h.Amount-h.Taken, i.Rate, i.GPUCount)
		if err != nil {
			return err
		}
		// What is rounded down to a micro-dollar covers a little less than it did.
		if paid = max(paid.Round(time.Second), i.RanBy(now)); h.Taken > 0 && paid < i.Paid {
			i.Paid = paid
			if err := put(tx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// chargeBeyond charges what no hold covers, as far as the balance reaches, and
// gives what was charged.
func chargeBeyond(tx *store.Tx, i Instance, amount ledger.MicroUSD, e ledger.Entry) (ledger.MicroUSD, error) {
	w, err := ledger.WalletOf(tx, i.Account)
	if err != nil {
		return 0, err
	}
	if e.Amount = min(amount, w.Available); e.Amount <= 0 {
		return 0, nil
	}
	e.Account, e.Resource = i.Account, i.Resource()
	e.Description += ", beyond the hold"
	_, err = ledger.Charge(tx, ledger.GPUUsage, e)
	var capped *ledger.CapError
	if errors.As(err, &capped) { // it ran: the account owes it, whatever the key may spend
		e.APIKey = 0
		_, err = ledger.Charge(tx, ledger.GPUUsage, e)
	}
	return e.Amount, err
}
