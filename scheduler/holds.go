package scheduler

import (
	"context"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/lease"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

const (
	resourcePrefix  = "gpu-instance/"
	inferencePrefix = "inference-instance/"
	// overdueGrace is how long after its deadline a hold may be open before the
	// operator hears of it.
	overdueGrace = time.Hour
)

// reconcileHolds releases holds whose owner is gone. There should be none, so it
// looks without holding up anybody, and writes only if it found one.
func (b *biller) reconcileHolds(ctx context.Context, now time.Time) {
	gone := false
	var found ledger.Reconciled
	err := b.store.View(func(tx *store.Tx) (err error) {
		found, err = ledger.Reconcile(tx, now, overdueGrace, func(tx *store.Tx, resource string) (ledger.Owner, error) {
			o, err := owner(tx, resource)
			if o == ledger.OwnerGone {
				gone, o = true, ledger.OwnerUnknown // nothing is written in here
			}
			return o, err
		})
		return err
	})
	if err == nil && gone {
		err = b.store.Update(ctx, func(tx *store.Tx) (err error) {
			found, err = ledger.Reconcile(tx, now, overdueGrace, owner)
			return err
		})
	}
	if err != nil {
		b.log.Error("holds could not be reconciled; will be tried again", "err", err)
		return
	}
	b.reconciled = now
	for _, h := range found.Released {
		b.log.Error("a hold without an owner was released: please report this", "hold", h.ID, "account", h.Account, "resource", h.Resource, "refunded", h.Settled.Refunded)
	}
	for _, h := range found.Overdue {
		if b.forgotten(h, now) {
			b.log.Warn("a hold is open long after its deadline", "hold", h.ID, "account", h.Account, "resource", h.Resource, "deadline", h.Deadline)
		}
	}
}

// owner tells what became of the resource of a hold, as far as we run it.
func owner(tx *store.Tx, resource string) (ledger.Owner, error) {
	if id, ours := instanceOf(resource); ours {
		i, ok, err := instances.Get(tx, id)
		return lives(ok && i.billable()), err
	}
	if o, err := lease.Owner(tx, resource); err != nil || o != ledger.OwnerUnknown {
		return o, err
	}
	_, ok, err := metering.CycleOf(tx, resource)
	if ok || strings.HasPrefix(resource, inferencePrefix) {
		return lives(ok), err
	}
	return ledger.OwnerUnknown, err
}

func lives(it bool) ledger.Owner {
	if it {
		return ledger.OwnerLives
	}
	return ledger.OwnerGone
}

func instanceOf(resource string) (InstanceID, bool) {
	digits, ours := strings.CutPrefix(resource, resourcePrefix)
	n, err := strconv.ParseInt(digits, 10, 64)
	return InstanceID(n), ours && err == nil
}

// forgotten tells whether a hold that is overdue is a reason to worry. One of ours is
// not while its instance waits for GPUs, is brought up, or began to run so late that
// its time is not up: the deadline was reckoned from the launch on.
func (b *biller) forgotten(h ledger.Hold, now time.Time) (forgotten bool) {
	id, ours := instanceOf(h.Resource)
	if !ours {
		return true
	}
	err := b.store.View(func(tx *store.Tx) error {
		i, err := get(tx, id)
		forgotten = i.State == Running && now.Sub(i.Deadline()) > overdueGrace
		return err
	})
	return err != nil || forgotten
}
