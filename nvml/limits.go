package nvml

import "time"

// Limits on how long the driver is waited for. NVML's calls cannot be cancelled:
// what does not answer in time is left behind, at most one call for each GPU.
const (
	// initLimit is long because the first call wakes every GPU of a machine
	// without nvidia-persistenced, one after the other, seconds each.
	initLimit = 60 * time.Second
	// queryLimit is for all that is asked of one GPU, which takes milliseconds
	// while it is well.
	queryLimit = 10 * time.Second
)

// maxNUMANodes is how many NUMA nodes are looked at; Linux on x86 and Arm
// servers is built for up to 1024, and real ones have 32 at most.
const maxNUMANodes = 64
