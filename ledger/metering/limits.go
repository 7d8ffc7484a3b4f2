package metering

import (
	"time"

	"ecolink/ledger"
)

// CycleLength is how long a hold lasts, and what lies between two settlements.
const CycleLength = 24 * time.Hour

// Limits. They also keep every product in here within 64 bits.
const (
	maxUnits         = 10_000 // GPUs × replicas
	maxRate          = 1_000_000 * ledger.Dollar
	maxGB            = 1_000_000
	maxResourceBytes = 255
	maxLabelBytes    = 200
	// maxCatchUp is how many cycles, or days, one call settles. What is still due
	// then stays in the index of what is due.
	maxCatchUp = 400
)
