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
	// sampleLimit is less than the second from one sample to the next, so that a
	// GPU that hangs costs the others not one.
	sampleLimit = 800 * time.Millisecond
	// factsLimit is for the health of one GPU, some hundred counters.
	factsLimit = 2 * time.Second
)

// Limits of a sample.
const (
	// maxProcesses is of one device; a GPU has a few, and hundreds when many share it.
	maxProcesses = 1024
	// maxSlices is far above the 7 that a GPU can be cut into.
	maxSlices = 64
	// sliceListEvery is how many samples go by until MIG devices are looked up again.
	sliceListEvery = 5
	// linkTryEvery is how many go by until a GPU without NVLink is asked for it again.
	linkTryEvery = 60
)

// maxNUMANodes is how many NUMA nodes are looked at; Linux on x86 and Arm
// servers is built for up to 1024, and real ones have 32 at most.
const maxNUMANodes = 64

// Limits of watching events.
const (
	// maxEvents is how many wait for a reader; a GPU that goes bad sends some dozen.
	maxEvents = 256
	// eventWait is how long the driver waits for an event before it lets Close be
	// noticed; an event ends the wait.
	eventWait = 500 * time.Millisecond
	// eventGrace is how much longer it may take before it is said to hang.
	eventGrace = 2 * time.Second
	// eventRetry is the pause after the driver failed, so that it is not asked in a
	// loop what it cannot answer.
	eventRetry = time.Second
	// eventScan is how often GPUs are looked up that came, went or were replaced.
	eventScan = 10 * time.Second
)
