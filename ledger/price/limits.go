package price

import "ecolink/ledger"

// Limits. The longest Item fits into an audit event's resource.
const (
	maxItems     = 2000 // that have or had a price
	maxAnnounced = 100  // changes ahead of one item
	maxHistory   = 1000 // changes in one answer of History

	maxGPUTypeBytes = 64
	maxModelBytes   = 160
	maxNoteBytes    = 500

	maxAmount     = 1_000_000 * ledger.Dollar
	maxYearsAhead = 10
)
