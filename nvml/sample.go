package nvml

import "time"

// Sample is what one GPU or MIG device does at one moment. What the driver does
// not tell of this model, or not in this mode, is absent.
type Sample struct {
	UUID string `json:"uuid"`
	// ParentUUID is the GPU that a MIG device is a slice of. Empty for a GPU.
	ParentUUID string `json:"parent_uuid,omitempty"`
	// Index is the GPU's, or for a MIG device that of its GPU.
	Index int       `json:"index"`
	Time  time.Time `json:"time"` // UTC

	// GPUPercent is the share of the last second in which anything ran on the GPU,
	// MemoryPercent that in which its memory was read or written, 0 to 100. A
	// driver tells neither in MIG mode.
	GPUPercent    Reading[uint64] `json:"gpu_percent,omitzero"`
	MemoryPercent Reading[uint64] `json:"memory_percent,omitzero"`

	MemoryUsedBytes  Reading[uint64] `json:"memory_used_bytes,omitzero"`
	MemoryTotalBytes Reading[uint64] `json:"memory_total_bytes,omitzero"`

	Celsius       Reading[uint64] `json:"celsius,omitzero"`
	MemoryCelsius Reading[uint64] `json:"memory_celsius,omitzero"`

	PowerWatts      Reading[float64] `json:"power_watts,omitzero"`
	PowerLimitWatts Reading[float64] `json:"power_limit_watts,omitzero"`

	SMClockMHz     Reading[uint64] `json:"sm_clock_mhz,omitzero"`
	MemoryClockMHz Reading[uint64] `json:"memory_clock_mhz,omitzero"`

	Throttle   Reading[Throttle] `json:"throttle,omitzero"`
	FanPercent Reading[uint64]   `json:"fan_percent,omitzero"` // of its greatest speed

	ECC ECC `json:"ecc,omitzero"`

	// What goes over PCI Express and over all NVLinks together, without overhead
	// where the driver counts that apart. NVLink's is counted from one sample to
	// the next, so the first has none.
	PCIeRxBytesPerSecond   Reading[float64] `json:"pcie_rx_bytes_per_second,omitzero"`
	PCIeTxBytesPerSecond   Reading[float64] `json:"pcie_tx_bytes_per_second,omitzero"`
	NVLinkRxBytesPerSecond Reading[float64] `json:"nvlink_rx_bytes_per_second,omitzero"`
	NVLinkTxBytesPerSecond Reading[float64] `json:"nvlink_tx_bytes_per_second,omitzero"`

	// Processes use the device now, in order of PID, 1024 at most. Nil (left out of
	// JSON): the driver does not say; empty: none. A GPU in MIG mode has those of
	// its slices too.
	Processes []ProcessUse `json:"processes,omitzero"`
}

// ECC counts memory errors: volatile since the driver was loaded, aggregate in the
// GPU's life.
type ECC struct {
	CorrectedVolatile    Reading[uint64] `json:"corrected_volatile,omitzero"`
	UncorrectedVolatile  Reading[uint64] `json:"uncorrected_volatile,omitzero"`
	CorrectedAggregate   Reading[uint64] `json:"corrected_aggregate,omitzero"`
	UncorrectedAggregate Reading[uint64] `json:"uncorrected_aggregate,omitzero"`
}

// ProcessUse is what one process has of a device.
type ProcessUse struct {
	PID uint32 `json:"pid"` // in the PID namespace of the host
	// MemoryBytes is of the device's memory.
	MemoryBytes Reading[uint64] `json:"memory_bytes,omitzero"`
	// SMPercent is of the device's multiprocessors, lately. Absent in MIG mode.
	SMPercent Reading[uint64] `json:"sm_percent,omitzero"`
}

// Samples are all devices' at one moment.
type Samples struct {
	Time time.Time `json:"time"` // UTC, when they were asked
	// Devices are the GPUs in order of Index, each before its MIG devices. Never nil.
	Devices []Sample `json:"devices"`
	// Silent are the GPUs that gave no sample, in order of Index.
	Silent []Silent `json:"silent,omitempty"`
	// Note says why there are no GPUs at all, for people.
	Note string `json:"note,omitempty"`
}

// Silent is a GPU that was asked for a sample and gave none.
type Silent struct {
	Index  int    `json:"index"`
	UUID   string `json:"uuid,omitempty"` // of its last sample; empty: it never gave one
	Detail string `json:"detail"`         // for people: what was asked and what came back
}
