package health

import "time"

// Snapshot is what was learnt of all GPUs at one moment.
type Snapshot struct {
	At time.Time `json:"at"`
	// Listed says that the driver told which GPUs there are. Without it nothing is
	// known of any GPU, least of all that it is missing.
	Listed bool `json:"listed"`
	// Problem says why not, and what to do, for people. Empty when Listed.
	Problem string  `json:"problem,omitempty"`
	GPUs    []Facts `json:"gpus"`
}

// Reach says how far a GPU could be asked.
type Reach string

// The reaches.
const (
	Answers    Reach = "answers"    // it was read
	Hangs      Reach = "hangs"      // the driver's call has not returned in time
	Lost       Reach = "lost"       // NVML's ERROR_GPU_IS_LOST or ERROR_RESET_REQUIRED
	Unreadable Reach = "unreadable" // the driver refuses: no permission, unknown error
)

// Facts is one GPU at one moment. What is nil could not be read, or is not
// something that this model has; it is never taken for zero.
type Facts struct {
	// Index is NVML's number at that moment. It moves when the driver is loaded anew.
	Index int `json:"index"`
	// UUID is empty when the GPU did not answer so far; Assess then finds out whose
	// facts they are.
	UUID string `json:"uuid"`
	// PCIAddress is as Linux writes it, such as 0000:1b:00.0. Empty: unknown.
	PCIAddress string `json:"pci_address"`
	Reach      Reach  `json:"reach"`
	Detail     string `json:"detail,omitempty"` // what was asked and what came back, unless it Answers

	// UncorrectableECC counts the memory errors since the driver was loaded or the
	// GPU reset that ECC found and could not mend.
	UncorrectableECC *uint64 `json:"uncorrectable_ecc,omitempty"`
	// SRAMThresholdExceeded is the driver's own verdict that the GPU's caches have
	// had more such errors than NVIDIA allows a GPU in its life.
	SRAMThresholdExceeded *bool           `json:"sram_threshold_exceeded,omitempty"`
	RemappedRows          *RemappedRows   `json:"remapped_rows,omitempty"`
	RetiredPages          *RetiredPages   `json:"retired_pages,omitempty"`
	Slowdown              *Slowdown       `json:"slowdown,omitempty"`
	Recovery              *RecoveryAction `json:"recovery,omitempty"`
	// Links are the GPU's NVLinks in order of Link; nil: it has none, or they could
	// not be read.
	Links []Link `json:"links,omitempty"`
}

// RemappedRows is what became of worn memory rows (Ampere and later).
type RemappedRows struct {
	Correctable   int  `json:"correctable"`   // rows replaced after errors that ECC mended
	Uncorrectable int  `json:"uncorrectable"` // rows replaced after errors that it could not
	Pending       bool `json:"pending"`       // a row is replaced at the next reset of the GPU
	Failed        bool `json:"failed"`        // a row could not be replaced
}

// RetiredPages is the same on GPUs before Ampere, which set whole pages aside.
type RetiredPages struct {
	Pending bool `json:"pending"` // a page is set aside when the driver is next loaded
}

// Slowdown says why the clocks are lower than they could be, as far as it is a
// matter of health. A power limit is not: GPUs work at it all day.
type Slowdown struct {
	Thermal         bool `json:"thermal"`          // the hardware protects itself from heat
	SoftwareThermal bool `json:"software_thermal"` // the driver keeps below the temperature limit
	PowerBrake      bool `json:"power_brake"`      // the server's power supply asked for it
	Hardware        bool `json:"hardware"`         // the hardware slowed down; includes the first and third where it tells them apart
}

// Link is one NVLink. Counters run since the driver was loaded.
type Link struct {
	Link     int     `json:"link"`
	Up       bool    `json:"up"`
	Replays  *uint64 `json:"replays,omitempty"`    // packets sent again
	Retrains *uint64 `json:"retrains,omitempty"`   // the link was set up anew after errors
	CRC      *uint64 `json:"crc_errors,omitempty"` // packets that arrived damaged
}

// RecoveryAction is what the driver itself says has to be done with a GPU
// (drivers of R560 and later).
type RecoveryAction string

// The recovery actions, as NVML's nvmlDeviceGpuRecoveryAction_t has them.
const (
	NoRecovery    RecoveryAction = "none"
	ResetGPU      RecoveryAction = "reset"
	RebootNode    RecoveryAction = "reboot"
	DrainPeers    RecoveryAction = "drain_peers"
	DrainAndReset RecoveryAction = "drain_and_reset"
	OtherRecovery RecoveryAction = "other" // one that came after this was written
)

// gpu finds a GPU by its UUID.
func (r Snapshot) gpu(uuid string) (Facts, bool) {
	for _, g := range r.GPUs {
		if g.UUID == uuid && uuid != "" {
			return g, true
		}
	}
	return Facts{}, false
}

// Remember is what the next Assess compares with: the newest facts of each GPU
// that was ever seen, whether it is still there or not. Neither argument is changed.
func Remember(before, now Snapshot) Snapshot {
	if !now.Listed {
		return before
	}
	out := Snapshot{At: now.At, Listed: true, GPUs: []Facts{}}
	for _, b := range before.GPUs {
		n, there := now.gpu(b.UUID)
		switch {
		case !there:
			out.GPUs = append(out.GPUs, b)
		case n.Reach == Answers:
			out.GPUs = append(out.GPUs, n)
		default: // what it said last is worth more than that it says nothing
			b.Index = n.Index
			out.GPUs = append(out.GPUs, b)
		}
	}
	for _, n := range now.GPUs {
		if _, known := before.gpu(n.UUID); !known && n.UUID != "" {
			out.GPUs = append(out.GPUs, n)
		}
	}
	return out
}

// Forget is a reading without one GPU: the operator took it out for good.
func Forget(r Snapshot, uuid string) Snapshot {
	kept := make([]Facts, 0, len(r.GPUs))
	for _, g := range r.GPUs {
		if g.UUID != uuid {
			kept = append(kept, g)
		}
	}
	r.GPUs = kept
	return r
}
