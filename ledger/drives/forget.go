package drives

import (
	"time"

	"ecolink/ledger/store"
)

// Outdated finds drives that were deleted before the given time. It looks at so many
// records from a number on; next is where to go on, 0 when there are no more. Bills
// and statements are made of the ledger's rows, and need no drive's record.
func Outdated(tx *store.Tx, from ID, before time.Time, limit int) (ids []ID, next ID, err error) {
	last, ok, err := all.Last(tx)
	if err != nil || !ok {
		return nil, 0, err
	}
	for rec, err := range all.Scan(tx, from, last.Key) {
		if err != nil {
			return nil, 0, err
		}
		if limit == 0 {
			return ids, rec.Key, nil
		}
		limit--
		if rec.Value.outdated(before) {
			ids = append(ids, rec.Key)
		}
	}
	return ids, 0, nil
}

// Forget removes the records of drives that were deleted before the given time, with
// those of their snapshots. It leaves the others as they are. Numbers never come
// again.
func Forget(tx *store.Tx, ids []ID, before time.Time) error {
	for _, id := range ids {
		d, ok, err := all.Get(tx, id)
		if err != nil {
			return err
		}
		if ok && d.outdated(before) {
			if err := all.Delete(tx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// outdated tells whether it was deleted before a time. Nothing changes in it then:
// nothing of it is on the machine or in a list, and another may have its name.
func (d Drive) outdated(before time.Time) bool {
	return d.State == Deleted && d.History[len(d.History)-1].At.Before(before)
}
