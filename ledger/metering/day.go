package metering

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// Here is all of storage that moves money.

// billDays reads a volume and charges its days that are over by now, maxCatchUp of
// them at most. It writes no volume.
func billDays(tx *store.Tx, resource string, now time.Time) (was Volume, b Bill, err error) {
	if was, err = GetVolume(tx, resource); err != nil {
		return was, b, err
	}
	b.Volume = was
	if b.Debts, err = PayDebts(tx, was.Account, now); err != nil {
		return was, b, err
	}
	for b.Volume.accrues() && !b.Volume.Due().After(now) {
		if len(b.Days) == maxCatchUp {
			b.Due = true
			break
		}
		if err := b.charge(tx, b.Volume.Due(), now); err != nil {
			return was, b, err
		}
	}
	return was, b, nil
}

// billAllDays is billDays for what can't be done before all of them are charged.
func billAllDays(tx *store.Tx, resource string, now time.Time) (was Volume, b Bill, err error) {
	if was, err = GetVolume(tx, resource); err != nil {
		return was, b, err
	}
	if was.accrues() && now.Sub(was.Due()) >= maxCatchUp*24*time.Hour { // before anything is written
		return was, b, fail(ErrBehind, "%s is more than %d days behind: bill those first", resource, maxCatchUp)
	}
	return billDays(tx, resource, now)
}

// cost is what the volume costs from BilledUntil to an instant of the same day.
func (v Volume) cost(tx *store.Tx, until time.Time) (ledger.MicroUSD, error) {
	p, priced, err := price.At(tx, v.Item, v.BilledUntil)
	if err != nil || !priced {
		return 0, err
	}
	return p.CostOfStorage(v.GB, v.BilledUntil, until)
}

// accrued is what the volume has cost up to an instant and has not been charged
// for: what charge will take if nothing changes. It looks at maxCatchUp days.
func (v Volume) accrued(tx *store.Tx, until time.Time) (all ledger.MicroUSD, err error) {
	for n := 0; v.accrues() && n < maxCatchUp && v.BilledUntil.Before(until); n++ {
		end := v.Due()
		if end.After(until) {
			end = until
		}
		cost, err := v.cost(tx, end)
		if err != nil {
			return 0, err
		}
		if all, err = all.Add(cost); err != nil {
			return 0, err
		}
		v.BilledUntil = end
	}
	return all, nil
}

// charge takes what the volume has cost since it was last charged, up to an
// instant of the same day. All of that had one size and one price.
func (b *Bill) charge(tx *store.Tx, until, now time.Time) error {
	v := &b.Volume
	if !v.accrues() || !until.After(v.BilledUntil) {
		return nil
	}
	cost, err := v.cost(tx, until)
	if err != nil {
		return err
	}
	w, err := ledger.WalletOf(tx, v.Account)
	if err != nil {
		return err
	}
	d := Day{From: v.BilledUntil, To: until, Cost: cost, Charged: min(cost, max(0, w.Available))}
	if d.Owed, err = split(tx, v.Account, d.Cost-d.Charged, w.Held); err != nil {
		return err
	}
	d.Unbilled = d.Cost - d.Charged - d.Owed
	if d.Charged > 0 {
		if _, err := ledger.Charge(tx, ledger.StorageBilling, v.entry(d, now)); err != nil {
			return err
		}
	}
	if err := owe(tx, Debt{Account: v.Account, Resource: v.Resource, Type: ledger.StorageBilling, From: d.From, To: d.To, Amount: d.Owed}); err != nil {
		return err
	}
	v.Charged += d.Charged
	v.Owed += d.Owed
	v.Unbilled += d.Unbilled
	v.BilledUntil = until
	b.Days = append(b.Days, d)
	if d.Unbilled > 0 {
		b.suspend()
	}
	return nil
}

func (b *Bill) suspend() {
	if v := &b.Volume; !v.Suspended {
		v.Suspended, v.SuspendedAt, b.Suspended = true, v.BilledUntil, true
	}
}

func (v Volume) entry(d Day, now time.Time) ledger.Entry {
	return ledger.Entry{
		At: now, Account: v.Account, Amount: d.Charged, Resource: v.Resource, Description: v.describe(d),
		Usage: ledger.Usage{Bytes: v.GB * 1_000_000_000, Seconds: int64(d.To.Sub(d.From) / time.Second)},
	}
}
