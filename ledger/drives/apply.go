package drives

import (
	"strings"
	"time"

	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

// apply takes a drive through one transition with all its effects. It is the only
// place that changes a drive's state.
func apply(tx *store.Tx, d Drive, e event, reason string, now time.Time) (Drive, error) {
	st, ok := next(d.State, e)
	if !ok {
		return d, errStale{d.ID, d.State, e}
	}
	if st.effects.has(begin) {
		if _, err := metering.BeginVolume(tx, d.Resource(), now); err != nil {
			return d, err
		}
	}
	if st.effects.has(unbill) {
		if _, err := metering.RemoveVolume(tx, d.Resource(), now); err != nil {
			return d, err
		}
	}
	if st.effects.has(freeName) {
		if err := byName.Delete(tx, nameKey(d.Account, d.Name)); err != nil {
			return d, err
		}
	}
	if st.effects.has(unlist) {
		if err := byAccount.Delete(tx, store.Pair{A: int64(d.Account), B: int64(d.ID)}); err != nil {
			return d, err
		}
	}
	d.State = st.to
	d.note(Change{State: st.to, At: now.UTC(), Reason: reason})
	if d.State == Available && d.Unpaid { // it waited for that
		return apply(tx, d, lapse, reasonUnpaid, now)
	}
	return d, put(tx, d)
}

const reasonUnpaid = "the balance does not pay for it"

// note adds to the history, which is bounded.
func (d *Drive) note(c Change) {
	if d.History = append(d.History, c); len(d.History) > maxHistory {
		d.History = append(d.History[:1:1], d.History[2:]...)
	}
}

// SetPaid notes whether somebody pays for a volume of storage. It is called in the
// transaction in which metering suspends or restores it. A resource that is no
// drive is somebody else's.
func SetPaid(tx *store.Tx, resource string, paid bool, now time.Time) error {
	d, ok, err := ofResource(tx, resource)
	if err != nil || !ok || d.Unpaid == !paid {
		return err
	}
	d.Unpaid = !paid
	switch {
	case !paid && d.State == Available:
		_, err = apply(tx, d, lapse, reasonUnpaid, now)
	case paid && d.State == Suspended:
		_, err = apply(tx, d, revive, "the balance pays for it again", now)
	default:
		err = put(tx, d)
	}
	return err
}

// rebill has the account pay for the drive's present size and snapshots from now
// on; before is what it was paid for until now. Growing needs the balance.
func rebill(tx *store.Tx, d Drive, before int64, now time.Time) (Drive, error) {
	if d.BilledGB() == before {
		return d, nil
	}
	bill, err := metering.ResizeVolume(tx, d.Resource(), d.BilledGB(), now)
	if err != nil {
		return d, err
	}
	if bill.Suspended && !d.Unpaid { // a day that nobody paid for came to light
		d.Unpaid = true
		if d.State == Available {
			return apply(tx, d, lapse, reasonUnpaid, now)
		}
	}
	return d, nil
}

// tell keeps an error's words for people, within bounds.
func (d *Drive) tell(problem string) {
	d.Problem = strings.ToValidUTF8(problem[:min(len(problem), maxProblemBytes)], "")
}
