package scheduler

import (
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

// Known names the workloads and the volumes that the machine may have: of
// instances and drives that are not over.
func Known(tx *store.Tx) (workloads, volumes []string, err error) {
	live, err := everyLive(tx)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range live {
		workloads = append(workloads, i.Workload())
	}
	volumes, err = drives.Volumes(tx)
	return workloads, volumes, err
}
