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
	for !b.Volume.Suspended && !b.Volume.Due().After(now) {
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
	if !was.Suspended && now.Sub(was.Due()) >= maxCatchUp*24*time.Hour { // before anything is written
		return was, b, fail(ErrBehind, "%s is more than %d days behind: bill those first", resource, maxCatchUp)
	}
	return billDays(tx, resource, now)
}

// count adds what the volume has cost up to an instant of the same day.
func (v *Volume) count(tx *store.Tx, until time.Time) error {
	if v.Suspended || !until.After(v.Counted) {
		return nil
	}
	p, priced, err := price.At(tx, v.Item, v.Counted)
	if err != nil {
		return err
	}
	if priced {
		cost, err := p.CostOfStorage(v.GB, v.Counted, until)
		if err != nil {
			return err
		}
		if v.Accrued, err = v.Accrued.Add(cost); err != nil {
			return err
		}
	}
	v.Counted = until
	return nil
}

// charge takes what the volume has cost since it was last charged, up to an
// instant of the same day.
func (b *Bill) charge(tx *store.Tx, until, now time.Time) error {
	v := &b.Volume
	if v.Suspended {
		return nil
	}
	if err := v.count(tx, until); err != nil {
		return err
	}
	w, err := ledger.WalletOf(tx, v.Account)
	if err != nil {
		return err
	}
	d := Day{From: v.BilledUntil, To: v.Counted, Cost: v.Accrued, Charged: min(v.Accrued, max(0, w.Available))}
	d.Unbilled = d.Cost - d.Charged
	if d.Charged > 0 {
		if _, err := ledger.Charge(tx, ledger.StorageBilling, v.entry(d, now)); err != nil {
			return err
		}
	}
	v.Charged += d.Charged
	v.Unbilled += d.Unbilled
	v.BilledUntil, v.Accrued = v.Counted, 0
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
