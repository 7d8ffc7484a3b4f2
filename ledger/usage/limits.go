package usage

import "time"

// Limits.
const (
	// stepRows, stepRecords and stepNames bound what one step of folding does:
	// the rows that it reads, the records that it writes, and the names in them.
	stepRows    = 5000
	stepRecords = 3000
	stepNames   = 100_000
	// deleteStep is how many records one step of pruning or clearing deletes.
	deleteStep = 5000

	// foldEvery is the least time from one round of folding to the next.
	foldEvery = time.Second
	// pruneEvery is how often records that are too old are looked for.
	pruneEvery = time.Hour

	// KeepHours and KeepDays are how long sums by the hour and by the day are
	// kept. Sums by the month are kept for ever.
	KeepHours = 60 * 24 * time.Hour
	KeepDays  = 2 * 365 * 24 * time.Hour

	// MaxPoints is how many points a Series may have.
	MaxPoints = 1500

	// maxPending is how many records Check remembers that did not agree when it
	// first looked.
	maxPending = 1000
)

// kept is how many names each dimension of a record keeps: the dearest. When a
// quarter more have come, the cheapest are added to "others".
func (s Step) kept() int {
	switch s {
	case Hourly:
		return 50
	case Daily:
		return 200
	default:
		return 1000
	}
}
