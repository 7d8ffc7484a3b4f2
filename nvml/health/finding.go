package health

import "time"

// Severity says what a finding asks for.
type Severity string

// The severities.
const (
	Watch  Severity = "watch"  // work goes on; the operator should know
	Cordon Severity = "cordon" // nothing new is placed on this GPU
)

// Kind says what was found.
type Kind string

// The kinds of finding.
const (
	KindXID             Kind = "xid"
	KindECC             Kind = "uncorrectable_ecc"
	KindSRAM            Kind = "sram_threshold"
	KindRemapFailed     Kind = "row_remap_failed"
	KindRemapPending    Kind = "row_remap_pending"
	KindPagePending     Kind = "page_retirement_pending"
	KindThermal         Kind = "thermal_slowdown"
	KindSoftwareThermal Kind = "thermal_limit"
	KindPowerBrake      Kind = "power_brake"
	KindHardwareSlow    Kind = "hardware_slowdown"
	KindLinkErrors      Kind = "nvlink_errors"
	KindLinkDown        Kind = "nvlink_down"
	KindRecovery        Kind = "recovery_action"
	KindHangs           Kind = "hangs"
	KindLost            Kind = "fallen_off_the_bus"
	KindUnreadable      Kind = "unreadable"
	KindMissing         Kind = "missing"
	KindReplaced        Kind = "replaced"
	KindOperator        Kind = "operator" // the operator's own wish, not a fault
)

// Finding is one thing that is wrong with one GPU.
type Finding struct {
	UUID     string   `json:"uuid"`
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"`
	// Key is the same each time the same thing is found on this GPU, so that it is
	// told once.
	Key string `json:"key"`
	// Count is how often it has happened, where the driver counts; otherwise 0. What
	// the operator uncordoned is found again only when it has grown.
	Count       uint64 `json:"count,omitempty"`
	Explanation string `json:"explanation"` // a sentence for people
	Do          string `json:"do"`          // the next step, for people
	// Quiet is how long it must be gone to be over by itself. 0: never, the operator
	// decides after a test.
	Quiet time.Duration `json:"quiet"`
}

// lasting says that the finding stays until the operator uncordons.
func (f Finding) lasting() bool { return f.Quiet == 0 }

// How long a finding must be gone until it is over.
const (
	// passingQuiet is for what comes from outside the GPU or ends by itself: a GPU
	// that was hot under load heats up again within minutes if nothing was done.
	passingQuiet = 10 * time.Minute
	// wearQuiet is for single signs of wear, which mean something when they come
	// again within a day.
	wearQuiet = 24 * time.Hour
)

// rule is how severe a kind is and how it ends.
type rule struct {
	severity Severity
	quiet    time.Duration
}

// rules of all kinds but KindXID, which has Class.rule. What says that memory,
// link or bus are broken lasts; heat, power and a call that came back pass.
func rules() map[Kind]rule {
	return map[Kind]rule{
		KindECC:             {Cordon, 0},
		KindSRAM:            {Cordon, 0},
		KindRemapFailed:     {Cordon, 0},
		KindRemapPending:    {Watch, passingQuiet},
		KindPagePending:     {Watch, passingQuiet},
		KindThermal:         {Cordon, passingQuiet},
		KindSoftwareThermal: {Watch, passingQuiet},
		KindPowerBrake:      {Cordon, passingQuiet},
		KindHardwareSlow:    {Cordon, passingQuiet},
		KindLinkErrors:      {Watch, wearQuiet},
		KindLinkDown:        {Cordon, 0},
		KindRecovery:        {Cordon, 0},
		KindHangs:           {Cordon, passingQuiet},
		KindLost:            {Cordon, 0},
		KindUnreadable:      {Cordon, passingQuiet},
		KindMissing:         {Cordon, 0},
		KindReplaced:        {Cordon, 0},
		KindOperator:        {Cordon, 0},
	}
}

// newFinding fills in what the kind decides.
func newFinding(uuid string, kind Kind, key, explanation, do string) Finding {
	r := rules()[kind]
	return Finding{
		UUID: uuid, Kind: kind, Severity: r.severity, Quiet: r.quiet,
		Key: key, Explanation: explanation, Do: do,
	}
}
