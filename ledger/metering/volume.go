package metering

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// Volume is storage that an account pays for by the day.
//
//	AddVolume → billed (of one that is added for later: from BeginVolume on)
//
//	            billed ── a day that no money covers, SuspendVolume ─────────────→ suspended
//	              ▲                                                                    │
//	              └───────────────────────────── Restore ──────────────────────────────┘
type Volume struct {
	ID       int64              `json:"id"` // of the record
	Account  identity.AccountID `json:"account"`
	Resource string             `json:"resource"` // "drive/7", "shared-filesystem/3"
	Item     price.Item         `json:"item"`
	GB       int64              `json:"gb"` // of 10⁹ bytes
	Added    time.Time          `json:"added"`

	// BilledUntil is how far it has been charged: a midnight, or the instant that
	// it was added, restored or resized at.
	BilledUntil time.Time `json:"billed_until"`

	// Idle: it was added for later, and nothing accrues until BeginVolume.
	Idle bool `json:"idle,omitempty"`

	Suspended   bool      `json:"suspended,omitempty"`
	SuspendedAt time.Time `json:"suspended_at,omitzero"`

	// Of all that was ever stored. Owed was put down as the account's Debt.
	Charged ledger.MicroUSD `json:"charged"`
	Owed    ledger.MicroUSD `json:"owed,omitempty"`
	// Unbilled was stored when there was no money. Nobody is charged for it; the
	// operator sees what it cost.
	Unbilled ledger.MicroUSD `json:"unbilled,omitempty"`
}

// accrues tells whether it costs anything now.
func (v Volume) accrues() bool { return !v.Suspended && !v.Idle }

// Due is when its present day can be charged: the next midnight, UTC.
func (v Volume) Due() time.Time { return midnightAfter(v.BilledUntil) }

func midnightAfter(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC)
}

// VolumesBucket changes with every volume.
const VolumesBucket = "metering.volumes"

var (
	volumes = store.NewStringCollection[string, Volume](VolumesBucket)
	// Indexes; each has the volume's resource as its value.
	volumesOf        = store.NewPairCollection[string]("metering.volumes-of-account") // (account, volume)
	volumesDue       = store.NewPairCollection[string]("metering.volumes-due")        // (Due in Unix nanoseconds, volume), of those that accrue
	volumesSuspended = store.NewPairCollection[string]("metering.volumes-suspended")  // (account, volume)
)

// GetVolume reads the volume of a resource.
func GetVolume(tx *store.Tx, resource string) (Volume, error) {
	v, ok, err := volumes.Get(tx, resource)
	if err == nil && !ok {
		err = fail(ErrNotFound, "%q is not billed as storage: add it first", resource)
	}
	return v, err
}

// Volumes lists an account's volumes, oldest first, the suspended ones too.
func Volumes(tx *store.Tx, a identity.AccountID) ([]Volume, error) {
	return volumesIn(tx, volumesOf, a)
}

// SuspendedVolumes lists an account's suspended volumes, oldest first: what Restore
// is for when money has come.
func SuspendedVolumes(tx *store.Tx, a identity.AccountID) ([]Volume, error) {
	return volumesIn(tx, volumesSuspended, a)
}

func volumesIn(tx *store.Tx, index store.Collection[store.Pair, string], a identity.AccountID) (out []Volume, err error) {
	for rec, err := range index.Scan(tx, store.First(int64(a)), store.Last(int64(a))) {
		if err != nil {
			return nil, err
		}
		v, err := GetVolume(tx, rec.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// SuspendedAccounts lists at most limit accounts, above the given one, that have
// suspended volumes.
func SuspendedAccounts(tx *store.Tx, above identity.AccountID, limit int) (out []identity.AccountID, err error) {
	for len(out) < limit { // each leaps over an account's other volumes
		next, ok, err := nextOwner(tx, volumesSuspended, above)
		if err != nil || !ok {
			return out, err
		}
		above = next
		out = append(out, above)
	}
	return out, nil
}

const maxAccount = 1<<63 - 1

// DueVolumes lists the resources of at most limit volumes that have a day to be
// charged, the longest overdue first. It reads no others.
func DueVolumes(tx *store.Tx, now time.Time, limit int) (out []string, err error) {
	for rec, err := range volumesDue.Scan(tx, store.First(0), store.Last(now.UnixNano())) {
		if err != nil {
			return nil, err
		}
		if len(out) >= limit {
			break
		}
		out = append(out, rec.Value)
	}
	return out, nil
}

// NextDay is when the next volume is due, which may have passed; ok is false when
// none is to be charged.
func NextDay(tx *store.Tx) (t time.Time, ok bool, err error) {
	for rec, err := range volumesDue.All(tx) {
		return time.Unix(0, rec.Key.A).UTC(), err == nil, err
	}
	return t, false, nil
}

// saveVolume writes a volume and its place in the indexes; was is how it was read.
// The zero v removes it.
func saveVolume(tx *store.Tx, was, v Volume) error {
	for _, index := range []struct {
		of       store.Collection[store.Pair, string]
		was, now store.Pair // zero: not in it
	}{
		{volumesOf, was.owned(was.ID != 0), v.owned(v.ID != 0)},
		{volumesSuspended, was.owned(was.Suspended), v.owned(v.Suspended)},
		{volumesDue, was.dueKey(), v.dueKey()},
	} {
		if index.was == index.now {
			continue
		}
		if index.was != (store.Pair{}) {
			if err := index.of.Delete(tx, index.was); err != nil {
				return err
			}
		}
		if index.now != (store.Pair{}) {
			if err := index.of.Put(tx, index.now, v.Resource); err != nil {
				return err
			}
		}
	}
	if v.ID == 0 {
		return volumes.Delete(tx, was.Resource)
	}
	return volumes.Put(tx, v.Resource, v)
}

func (v Volume) owned(listed bool) store.Pair {
	if !listed {
		return store.Pair{}
	}
	return store.Pair{A: int64(v.Account), B: v.ID}
}

func (v Volume) dueKey() store.Pair {
	if v.ID == 0 || !v.accrues() {
		return store.Pair{}
	}
	return store.Pair{A: v.Due().UnixNano(), B: v.ID}
}
