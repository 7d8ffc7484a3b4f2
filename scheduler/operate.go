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
	"ecolink/scheduler/placement"
)

// rates is the price per GPU-hour of each GPU type.
var rates = store.NewStringCollection[string, ledger.MicroUSD]("rates")

func sortedKeys(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }

// SetRate sets the price per GPU-hour of a type for launches from now on;
// instances keep the rate that they were launched at.
func SetRate(tx *store.Tx, gpuType string, rate ledger.MicroUSD) error {
	if gpuType == "" || rate <= 0 {
		return &Problem{Kind: Unprocessable, Field: "rate", Message: "a rate has a GPU type and an amount above 0.00"}
	}
	return rates.Put(tx, gpuType, rate)
}

// Rates reads all prices.
func Rates(tx *store.Tx) (map[string]ledger.MicroUSD, error) {
	out := map[string]ledger.MicroUSD{}
	for rec, err := range rates.All(tx) {
		if err != nil {
			return nil, err
		}
		out[rec.Key] = rec.Value
	}
	return out, nil
}

// place gives free GPUs to those who wait, in the order they came. It runs in
// every transaction that adds to the queue or frees a GPU.
func (s *Scheduler) place(tx *store.Tx, now time.Time) error {
	live, err := everyLive(tx)
	if err != nil {
		return err
	}
	busy := map[string]bool{}
	var queue []placement.Request
	byID := map[int64]Instance{}
	for _, i := range live {
		for _, u := range i.GPUs {
			busy[u] = true
		}
		if i.State == Pending {
			queue = append(queue, placement.Request{ID: int64(i.ID), Type: i.GPUType, Count: i.GPUCount})
			byID[int64(i.ID)] = i
		}
	}
	var free []placement.GPU
	for _, g := range s.gpus {
		if !busy[g.UUID] {
			free = append(free, g)
		}
	}
	for _, a := range placement.Place(free, queue) {
		i := byID[a.ID]
		i.GPUs = a.UUIDs
		if _, err := apply(tx, i, occurrence{event: Assigned, now: now, reason: "GPUs assigned"}); err != nil {
			return err
		}
	}
	return nil
}

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

// Extension is the answer to Extend.
type Extension struct {
	Instance Instance
	Added    ledger.MicroUSD // the further hold
	Wallet   ledger.Wallet   // after it
}

// Extend pays for more hours with a further hold. On any error the old deadline
// stays in force.
func (s *Scheduler) Extend(ctx context.Context, a identity.AccountID, id InstanceID, hours float64, requestID, key string) (x Extension, err error) {
	more, err := ParseHours(hours, "hours")
	if err != nil {
		return x, err
	}
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		x = Extension{}
		i, err := owned(tx, a, id)
		if err != nil {
			return err
		}
		if x.Added, err = ledger.Cost(i.Rate, i.GPUCount, more); err != nil {
			return &Problem{Kind: Unprocessable, Field: "hours", Message: "the price is out of range: ask for fewer hours", Err: err}
		}
		before, err := ledger.GetHold(tx, i.Hold)
		if err != nil {
			return err
		}
		after, err := ledger.ExtendHold(tx, i.Hold, ledger.Entry{
			At: time.Now(), Amount: x.Added, RequestID: requestID, Key: key,
			Description: fmt.Sprintf("%s: %s more", i.Name, spell(more)),
		})
		if errors.Is(err, ledger.ErrHoldSettled) {
			return &Problem{Kind: Conflict, Message: fmt.Sprintf("instance %d is %s and can't be extended: launch a new one", id, i.State)}
		}
		if err != nil {
			return err
		}
		if after.Amount != before.Amount { // not the repetition of an earlier call
			i.Paid += more
			// Its time was up so long ago that this does not reach the present:
			// EcoLink was away, and the instance is about to be stopped.
			if d := i.Deadline(); !d.IsZero() && !time.Now().Before(d) {
				return &Problem{Kind: Conflict, Message: fmt.Sprintf("the time of instance %d is up and it can't be extended: launch a new one", id)}
			}
			if err := put(tx, i); err != nil {
				return err
			}
		}
		x.Instance = i
		x.Wallet, err = ledger.WalletOf(tx, a)
		return err
	})
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
	if st.effects.Has(Free) || from == Pending {
		return i, s.place(tx, o.now)
	}
	return i, nil
}

// Waiting says why a pending instance waits, in a sentence; "" for others.
func (s *Scheduler) Waiting(i Instance) (sentence string, err error) {
	if i.State != Pending {
		return "", nil
	}
	err = s.store.View(func(tx *store.Tx) error {
		live, err := everyLive(tx)
		if err != nil {
			return err
		}
		ahead, free := 0, 0
		for _, g := range s.gpus {
			if g.Type == i.GPUType {
				free++
			}
		}
		for _, other := range live {
			if other.GPUType != i.GPUType {
				continue
			}
			free -= len(other.GPUs)
			if other.State == Pending && other.ID < i.ID {
				ahead++
			}
		}
		sentence = fmt.Sprintf("waits for %d × %s, of which %d free now", i.GPUCount, i.GPUType, free)
		if ahead == 0 {
			sentence += "; first in the queue"
		} else {
			sentence += fmt.Sprintf("; %d ahead in the queue", ahead)
		}
		return nil
	})
	return sentence, err
}
