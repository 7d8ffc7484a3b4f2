package metering

import (
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// NewVolume is what a volume is added with.
type NewVolume struct {
	Account  identity.AccountID
	Resource string
	Item     price.Item // price.Drive or price.SharedFilesystem
	GB       int64
	Later    bool // it is not there yet: nothing is billed until BeginVolume
}

// Bill is what a call did to a volume.
type Bill struct {
	Volume Volume // as it is now; as it was last when it was removed
	// Days are the days, or parts of one, that were charged, oldest first. Whoever
	// shows or logs Unbilled finds it here.
	Days []Day
	// Debts is what the account owed and has paid first.
	Debts Payment
	// Suspended: this call suspended it. It must not be mounted any more.
	Suspended bool
	// Due: one call's limit was reached, and the volume is still due.
	Due bool
}

// Day is the charge for a day, or a part of it. Cost = Charged + Owed + Unbilled. A
// cost of zero has no row.
type Day struct {
	From, To time.Time
	Cost     ledger.MicroUSD
	Charged  ledger.MicroUSD
	Owed     ledger.MicroUSD
	Unbilled ledger.MicroUSD
}

// AddVolume bills a resource as storage from now on. An item without a price is
// ErrNotPriced, and a balance that does not cover its first 24 hours is an
// *ledger.InsufficientError: it would be suspended before they are over. A resource
// that is billed already is ErrConflict. Nothing is charged yet.
func AddVolume(tx *store.Tx, n NewVolume, now time.Time) (Volume, error) {
	if err := checkResource(n.Resource); err != nil {
		return Volume{}, err
	}
	if n.Item != price.Drive && n.Item != price.SharedFilesystem {
		return Volume{}, invalid("item", "%q is no storage: it is %s or %s", n.Item, price.Drive, price.SharedFilesystem)
	}
	if err := checkGB(n.GB); err != nil {
		return Volume{}, err
	}
	if _, err := identity.AccountByID(tx, n.Account); err != nil {
		return Volume{}, err
	}
	if _, taken, err := volumes.Get(tx, n.Resource); err != nil {
		return Volume{}, err
	} else if taken {
		return Volume{}, fail(ErrConflict, "%s is billed as storage already: resize it, or remove it first", n.Resource)
	}
	now = instant(now)
	p, priced, err := price.At(tx, n.Item, now)
	if err != nil {
		return Volume{}, err
	}
	if !priced {
		return Volume{}, fail(ErrNotPriced, "%s has no price: the operator sets one with `ecolink admin price set`", n.Item)
	}
	v := Volume{Account: n.Account, Resource: n.Resource, Item: n.Item, GB: n.GB, Added: now, BilledUntil: now, Idle: n.Later}
	if err := v.affordable(tx, p, now); err != nil {
		return Volume{}, err
	}
	if v.ID, err = tx.NextID(VolumesBucket); err != nil {
		return Volume{}, err
	}
	return v, saveVolume(tx, Volume{}, v)
}

// BeginVolume bills a volume from now on that was added for later. One that is
// billed already stays as it is; one that is suspended stays suspended.
func BeginVolume(tx *store.Tx, resource string, now time.Time) (Volume, error) {
	was, err := GetVolume(tx, resource)
	if err != nil || !was.Idle {
		return was, err
	}
	v := was
	v.Idle, v.BilledUntil = false, instant(now)
	return v, saveVolume(tx, was, v)
}

func checkGB(gb int64) error {
	if gb < 1 || gb > maxGB {
		return invalid("gb", "a size of %d GB can't be: it is 1 to %d", gb, maxGB)
	}
	return nil
}

// affordable refuses what the available balance does not cover for a day, together
// with what the account owes.
func (v Volume) affordable(tx *store.Tx, p price.Price, now time.Time) error {
	day, err := p.CostOfStorage(v.GB, now, now.Add(24*time.Hour))
	if err != nil || day == 0 {
		return err
	}
	return enough(tx, v.Account, day)
}

// ResizeVolume changes a volume's size from now on. What it cost until now at the
// old size is charged, in a row of its own: each row tells one size. Days before
// are charged first. Growing needs what AddVolume needs, for the new size: else it
// is an *ledger.InsufficientError, and the caller's update has to be given up.
func ResizeVolume(tx *store.Tx, resource string, gb int64, now time.Time) (Bill, error) {
	if err := checkGB(gb); err != nil {
		return Bill{}, err
	}
	was, b, err := billAllDays(tx, resource, now)
	if err != nil {
		return Bill{}, err
	}
	if err := b.charge(tx, instant(now), now); err != nil {
		return Bill{}, err
	}
	b.Volume.GB = gb
	if gb > was.GB {
		if err := b.Volume.affordableNow(tx, now); err != nil {
			return Bill{}, err
		}
	}
	return b, saveVolume(tx, was, b.Volume)
}

// affordableNow is affordable at the price of now, if there is one.
func (v Volume) affordableNow(tx *store.Tx, now time.Time) error {
	p, priced, err := price.At(tx, v.Item, now)
	if err != nil || !priced {
		return err
	}
	return v.affordable(tx, p, now)
}

// RemoveVolume charges a volume up to now and forgets it. What it owes stays the
// account's Debt.
func RemoveVolume(tx *store.Tx, resource string, now time.Time) (Bill, error) {
	was, b, err := billAllDays(tx, resource, now)
	if err != nil {
		return Bill{}, err
	}
	if err := b.charge(tx, instant(now), now); err != nil {
		return Bill{}, err
	}
	return b, saveVolume(tx, was, Volume{})
}

// SuspendVolume charges a volume up to now and suspends it, for when an account's
// money has come to its end within a day. One that is suspended stays as it is.
func SuspendVolume(tx *store.Tx, resource string, now time.Time) (Bill, error) {
	was, b, err := billAllDays(tx, resource, now)
	if err != nil {
		return Bill{}, err
	}
	if err := b.charge(tx, instant(now), now); err != nil {
		return Bill{}, err
	}
	b.suspend()
	return b, saveVolume(tx, was, b.Volume)
}

// Restore ends a suspension: billing goes on from now. First what the account owes
// is charged. A balance that does not cover that and the next 24 hours is an
// *ledger.InsufficientError, and it stays suspended. One that is not suspended
// stays as it is.
func Restore(tx *store.Tx, resource string, now time.Time) (Volume, error) {
	was, err := GetVolume(tx, resource)
	if err != nil || !was.Suspended {
		return was, err
	}
	if err := was.affordableNow(tx, now); err != nil {
		return was, err
	}
	if _, err := PayDebts(tx, was.Account, now); err != nil {
		return was, err
	}
	v := was
	v.Suspended, v.SuspendedAt = false, time.Time{}
	if now = instant(now); now.After(v.BilledUntil) { // else the clock went back
		v.BilledUntil = now
	}
	return v, saveVolume(tx, was, v)
}

// BillStorage charges each day, UTC, that is over and has not been charged: one row
// a day, at the price that held when the day began, or that held when the volume
// was added, restored or last resized on it. The days that the box was off are
// caught up like that, each once. A withdrawn price charges nothing.
//
// A day that the available balance does not cover takes what there is. While other
// money is held, the rest becomes a Debt as far as that reaches, and the volume
// stays in use. Beyond that there is no money: the rest is Unbilled, and the volume
// is suspended as of that day's end. Nothing accrues until Restore.
func BillStorage(tx *store.Tx, resource string, now time.Time) (Bill, error) {
	was, b, err := billDays(tx, resource, now)
	if err != nil || len(b.Days) == 0 { // a debt may have been paid all the same
		return b, err
	}
	return b, saveVolume(tx, was, b.Volume)
}

// describe is the text of a day's row: "200 GB on 3 Mar 2026 from 09:30".
func (v Volume) describe(d Day) string {
	text := fmt.Sprintf("%d GB on %s", v.GB, d.From.Format("2 Jan 2006"))
	whole := d.To.Sub(d.From) == 24*time.Hour
	switch midnight := d.To.Equal(midnightAfter(d.From)); {
	case whole:
	case midnight:
		text += d.From.Format(" from 15:04 UTC")
	default:
		text += d.From.Format(" from 15:04") + d.To.Format(" to 15:04 UTC")
	}
	if d.Charged < d.Cost {
		text += fmt.Sprintf("; the balance covered $%s of $%s", d.Charged, d.Cost)
	}
	return text
}
