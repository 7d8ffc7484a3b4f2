package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func sortedKeys(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// Get reads an instance of the account.
func (s *Scheduler) Get(a identity.AccountID, id InstanceID) (i Instance, err error) {
	err = s.store.View(func(tx *store.Tx) (err error) { i, err = owned(tx, a, id); return err })
	return i, err
}

// List reads the account's instances, newest first, with numbers below before
// (0: from the newest), at most limit of them.
func (s *Scheduler) List(a identity.AccountID, before InstanceID, limit int) (out []Instance, err error) {
	from := store.Last(int64(a))
	if before > 0 {
		from.B = int64(before) - 1
	}
	err = s.store.View(func(tx *store.Tx) error {
		out = nil
		for rec, err := range instancesByOwner.ScanDown(tx, from, store.First(int64(a))) {
			if err != nil {
				return err
			}
			i, err := get(tx, InstanceID(rec.Key.B))
			if err != nil {
				return err
			}
			if out = append(out, i); len(out) == limit {
				return nil
			}
		}
		return nil
	})
	return out, err
}

// ExtendRequest asks for more hours for an instance.
type ExtendRequest struct {
	Account   identity.AccountID
	Instance  InstanceID
	Hours     float64
	RequestID string
	Key       string // idempotency key, optional
	APIKey    identity.KeyID
	Tag       string
}

// Extension is the answer to Extend.
type Extension struct {
	Instance Instance
	Added    ledger.MicroUSD // the further hold
	Wallet   ledger.Wallet   // after it
}

// Extend pays for more hours with a further hold. On any error the old deadline
// stays in force.
func (s *Scheduler) Extend(ctx context.Context, r ExtendRequest) (x Extension, err error) {
	more, err := ParseHours(r.Hours, "hours")
	if err != nil {
		return x, err
	}
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		x, err = extend(tx, r, more, time.Now())
		return err
	})
	return x, err
}

func extend(tx *store.Tx, r ExtendRequest, more time.Duration, now time.Time) (x Extension, err error) {
	i, err := owned(tx, r.Account, r.Instance)
	if err != nil {
		return x, err
	}
	if x.Added, err = ledger.Cost(i.Rate, i.GPUCount, more); err != nil {
		return x, &Problem{Kind: Unprocessable, Field: "hours", Message: "the price is out of range: ask for fewer hours", Err: err}
	}
	longer := i
	longer.Paid += more
	_, extended, err := ledger.ExtendHold(tx, i.Hold, ledger.Entry{
		At: now, Amount: x.Added, RequestID: r.RequestID, Key: r.Key, APIKey: r.APIKey, Tag: r.Tag,
		Description: fmt.Sprintf("%s: %s more", i.Name, spell(more)),
	}, longer.holdDeadline(now))
	if errors.Is(err, ledger.ErrHoldSettled) || errors.Is(err, ledger.ErrNoHold) { // ended lately, or long ago
		return x, &Problem{Kind: Conflict, Message: fmt.Sprintf("instance %d is %s and can't be extended: launch a new one", i.ID, i.State)}
	}
	if err != nil {
		return x, err
	}
	if extended { // not the repetition of an earlier call
		i = longer
		// Its time was up so long ago that this does not reach the present:
		// EcoLink was away, and the instance is about to be stopped.
		if d := i.Deadline(); !d.IsZero() && !now.Before(d) {
			return x, &Problem{Kind: Conflict, Message: fmt.Sprintf("the time of instance %d is up and it can't be extended: launch a new one", i.ID)}
		}
		if err := put(tx, i); err != nil {
			return x, err
		}
	}
	x.Instance = i
	x.Wallet, err = ledger.WalletOf(tx, i.Account)
	return x, err
}

// Terminate ends an instance: the refund is done when it returns, the container
// goes shortly after. Ending one that is ending or over gives it as it is.
func (s *Scheduler) Terminate(ctx context.Context, a identity.AccountID, id InstanceID) (i Instance, err error) {
	err = s.store.Update(ctx, func(tx *store.Tx) (err error) {
		if i, err = owned(tx, a, id); err != nil {
			return err
		}
		i, err = s.occur(tx, i, occurrence{event: Stop, now: time.Now(), reason: ReasonUser})
		var stale errStale
		if errors.As(err, &stale) {
			return nil
		}
		return err
	})
	return i, err
}

// occur applies an event and, where it frees GPUs or leaves the queue, places
// those who wait, in the same transaction.
func (s *Scheduler) occur(tx *store.Tx, i Instance, o occurrence) (Instance, error) {
	from := i.State
	i, err := apply(tx, i, o)
	if err != nil {
		return i, err
	}
	st, _ := next(from, o.event)
	if st.effects.Has(Free) || from == Pending || from == Preempted {
		return i, s.place(tx, o.now)
	}
	return i, nil
}
