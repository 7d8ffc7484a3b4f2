package ledger

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"ecolink/ledger/store"
)

// Owner is what became of the resource that a hold is for.
type Owner int

// What may have become of it.
const (
	OwnerUnknown Owner = iota // nobody answers for this kind of resource: leave its holds alone
	OwnerLives
	OwnerGone
)

// Reconciled is what Reconcile did and found.
type Reconciled struct {
	Released []Hold // whose owner was gone: now back in the available balance
	Overdue  []Hold // past their deadline by more than the grace, and owned
	Unowned  []Hold // of resources that nobody answers for
}

// Reconcile goes through all open holds and releases those whose resource is
// gone, with a row that says so. A hold and its resource are written and ended in
// one transaction, so there should be none: what is found here was left by a bug,
// or by a record that was lost, and the account must not pay for it.
func Reconcile(tx *store.Tx, now time.Time, grace time.Duration, owner func(tx *store.Tx, resource string) (Owner, error)) (r Reconciled, err error) {
	open, err := holdsOf(tx, openHolds.All(tx))
	if err != nil {
		return Reconciled{}, err
	}
	for _, h := range open {
		state, err := owner(tx, h.Resource)
		if err != nil {
			return Reconciled{}, fmt.Errorf("owner of hold %d (%s): %w", h.ID, h.Resource, err)
		}
		switch {
		case state == OwnerGone:
			released, err := VoidHold(tx, h.ID, Entry{At: now, Description: fmt.Sprintf("hold %d released: %s is gone", h.ID, h.Resource)})
			if err != nil {
				return Reconciled{}, err
			}
			r.Released = append(r.Released, released)
		case state == OwnerUnknown:
			r.Unowned = append(r.Unowned, h)
		case !h.Deadline.IsZero() && now.Sub(h.Deadline) > grace:
			r.Overdue = append(r.Overdue, h)
		}
	}
	return r, nil
}

func holdsOf(tx *store.Tx, index iter.Seq2[store.Record[store.Pair, struct{}], error]) (out []Hold, err error) {
	for rec, err := range index {
		if err != nil {
			return nil, err
		}
		h, err := GetHold(tx, HoldID(rec.Key.B))
		if err == nil && int64(h.Account) != rec.Key.A {
			err = fmt.Errorf("hold %d is listed as account %d's and is account %d's: %w", h.ID, rec.Key.A, h.Account, store.ErrDamaged)
		}
		if errors.Is(err, ErrNoHold) {
			err = fmt.Errorf("hold %d is listed as open and is not there: %w", rec.Key.B, store.ErrDamaged)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}
