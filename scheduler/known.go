package scheduler

import (
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

// Holdings names what the machine has, or may have, of instances and drives that
// are not over. What is there besides belongs to nobody.
type Holdings struct {
	Workloads []string // may be there
	Volumes   []string // are there
	Unsettled []string // volumes that are being made or deleted
}

// Known reads what the records say that there is.
func Known(tx *store.Tx) (h Holdings, err error) {
	live, err := everyLive(tx)
	if err != nil {
		return h, err
	}
	for _, i := range live {
		h.Workloads = append(h.Workloads, i.Workload())
	}
	h.Volumes, h.Unsettled, err = drives.Volumes(tx)
	return h, err
}
