package files

import (
	"time"

	"ecolink/ledger/drives"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

// Orphans are the volumes that are gone, and of which the box still notes that they
// have unfinished uploads although the sweeps should have found out.
func Orphans(tx *store.Tx, now time.Time) (out []scheduler.DriveID, err error) {
	for r, err := range uploading.All(tx) {
		if err != nil {
			return nil, err
		}
		d, ok, err := drives.Read(tx, r.Key)
		if err != nil {
			return nil, err
		}
		since := r.Value.Since
		if n := len(d.History); n > 0 {
			since = d.History[n-1].At
		}
		if (!ok || !d.Live()) && since.Before(now.Add(-2*sweepEvery)) {
			out = append(out, r.Key)
		}
	}
	return out, nil
}

// ForgetOrphan takes such a note away.
func ForgetOrphan(tx *store.Tx, id scheduler.DriveID, now time.Time) error {
	all, err := Orphans(tx, now)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o == id {
			return uploading.Delete(tx, id)
		}
	}
	return nil // it has gone meanwhile
}
