package scheduler

import (
	"context"
	"errors"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

// Here is what becomes of what an account has when its money comes to its end, and
// when there is some again. What that means for each product, ledger.Standing says.

// takeUp has every account looked at whose money came to its end before.
func (b *biller) takeUp() {
	err := b.store.View(func(tx *store.Tx) error {
		all, err := ledger.Depleted(tx, maxDepleted)
		for _, a := range all {
			b.look[a] = struct{}{}
		}
		return err
	})
	if err != nil {
		b.log.Error("accounts without money can't be read; will be tried again", "err", err)
		return
	}
	b.begun = true
}

// lookAtStandings acts on what has changed. An account with which something fails
// is looked at again in the next round.
func (b *biller) lookAtStandings(ctx context.Context) {
	if len(b.look) == 0 {
		return
	}
	live, err := b.billableOf(b.look)
	if err != nil {
		b.log.Error("instances can't be read", "err", err)
		return
	}
	for _, a := range sortedAccounts(b.look) {
		if ctx.Err() != nil {
			return
		}
		if err := b.lookAt(ctx, a, live[a]); err != nil {
			b.log.Error("what an account's standing asks for failed and will be tried again", "account", a, "err", err)
			continue
		}
		delete(b.look, a)
	}
}

// billableOf lists what the accounts have that runs or is to run. Who launches
// afterwards has money; if that ends too, the account is looked at anew.
func (b *biller) billableOf(accounts map[identity.AccountID]struct{}) (out map[identity.AccountID][]InstanceID, err error) {
	err = b.store.View(func(tx *store.Tx) error {
		out = map[identity.AccountID][]InstanceID{}
		live, err := everyLive(tx)
		for _, i := range live {
			if _, asked := accounts[i.Account]; asked && i.billable() {
				out[i.Account] = append(out[i.Account], i.ID)
			}
		}
		return err
	})
	return out, err
}

// lookAt makes an account's instances and volumes be as its standing asks. Each is
// looked at again in the transaction that changes it: money may have come meanwhile.
func (b *biller) lookAt(ctx context.Context, a identity.AccountID, live []InstanceID) error {
	var suspending []string
	err := b.store.View(func(tx *store.Tx) error {
		suspending = nil
		s, err := ledger.StandingOf(tx, a)
		if err != nil || s.Means(ledger.ProductStorage) != ledger.Suspend {
			return err
		}
		all, err := metering.Volumes(tx, a)
		for _, v := range all {
			if !v.Suspended {
				suspending = append(suspending, v.Resource)
			}
		}
		return err
	})
	for _, id := range live {
		err = errors.Join(err, b.endDepleted(ctx, id))
	}
	for _, resource := range suspending {
		err = errors.Join(err, b.suspend(ctx, resource))
	}
	return errors.Join(err, b.restoreOf(ctx, a))
}

// endDepleted ends an instance of an account that has nothing any more.
func (b *biller) endDepleted(ctx context.Context, id InstanceID) error {
	var ended bool
	var i Instance
	err := b.store.Update(ctx, func(tx *store.Tx) (err error) {
		ended = false
		if i, err = get(tx, id); err != nil || !i.billable() {
			return err
		}
		st, err := ledger.StandingOf(tx, i.Account)
		if err != nil || st.Means(ledger.ProductInstance) != ledger.EndNow {
			return err
		}
		ended = true
		i, err = b.occur(tx, i, occurrence{event: Stop, now: time.Now(), reason: ReasonDepleted})
		return err
	})
	if err == nil && ended {
		b.log.Warn("an instance was ended: its account has no money", "instance", id, "account", i.Account, "unbilled", i.Unbilled)
	}
	return err
}

func (b *biller) suspend(ctx context.Context, resource string) error {
	var out metering.Bill
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		out = metering.Bill{}
		v, err := metering.GetVolume(tx, resource)
		if err != nil {
			return err
		}
		st, err := ledger.StandingOf(tx, v.Account)
		if err != nil || st.Means(ledger.ProductStorage) != ledger.Suspend {
			return err
		}
		now := time.Now()
		if out, err = metering.SuspendVolume(tx, resource, now); err != nil {
			return err
		}
		return drives.SetPaid(tx, resource, false, now)
	})
	switch {
	case errors.Is(err, metering.ErrNotFound): // removed meanwhile
		return nil
	case err == nil:
		b.noteBill(out)
	}
	return err
}

// collectDebts charges what accounts owe that have free money by now, and forgives
// what nobody has money for any more.
func (b *biller) collectDebts(ctx context.Context) {
	var above identity.AccountID
	for ctx.Err() == nil {
		var some []identity.AccountID
		err := b.store.View(func(tx *store.Tx) (err error) {
			some, err = metering.Debtors(tx, above, billingBatch)
			return err
		})
		if err != nil {
			b.log.Error("debts can't be read", "err", err)
			return
		}
		for _, a := range some {
			var p metering.Payment
			err := b.store.Update(ctx, func(tx *store.Tx) (err error) { p, err = metering.PayDebts(tx, a, time.Now()); return err })
			if err != nil {
				b.log.Error("what is owed could not be charged; will be tried again", "account", a, "err", err)
			} else {
				b.noteDebts(a, p)
			}
			above = a
		}
		if len(some) < billingBatch {
			return
		}
	}
}

// restoreVolumes looks at all accounts with suspended volumes: one that has money,
// but not enough for a day, gets more without any change of its standing.
func (b *biller) restoreVolumes(ctx context.Context) {
	var above identity.AccountID
	for ctx.Err() == nil {
		var some []identity.AccountID
		err := b.store.View(func(tx *store.Tx) (err error) {
			some, err = metering.SuspendedAccounts(tx, above, billingBatch)
			return err
		})
		if err != nil {
			b.log.Error("suspended storage can't be read", "err", err)
			return
		}
		for _, a := range some {
			if err := b.restoreOf(ctx, a); err != nil {
				b.log.Error("storage could not be restored; will be tried again", "account", a, "err", err)
			}
			above = a
		}
		if len(some) < billingBatch {
			return
		}
	}
}

// restoreOf brings back an account's volumes that there is money for.
func (b *biller) restoreOf(ctx context.Context, a identity.AccountID) error {
	var all []metering.Volume
	err := b.store.View(func(tx *store.Tx) error {
		all = nil
		st, err := ledger.StandingOf(tx, a)
		if err != nil || st.Means(ledger.ProductStorage) != ledger.GoOn {
			return err
		}
		all, err = metering.SuspendedVolumes(tx, a)
		return err
	})
	for _, v := range all {
		err = errors.Join(err, b.restore(ctx, v.Resource))
	}
	return err
}

func (b *biller) restore(ctx context.Context, resource string) error {
	var v metering.Volume
	err := b.store.Update(ctx, func(tx *store.Tx) (err error) {
		now := time.Now()
		if v, err = metering.Restore(tx, resource, now); err != nil {
			return err
		}
		return drives.SetPaid(tx, resource, true, now)
	})
	var short *ledger.InsufficientError
	switch {
	case errors.As(err, &short), errors.Is(err, metering.ErrNotFound):
		return nil
	case err == nil:
		b.log.Info("storage is back", "resource", v.Resource, "account", v.Account)
	}
	return err
}
