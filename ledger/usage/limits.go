package usage

import "time"

// Limits.
const (
	// stepRows, stepRecords and stepNames bound what one step of folding does:
	// the rows that it reads, the records that it writes, and the names in them.
	stepRows    = 5000
	stepRecords = 3000
	stepNames   = 250_000
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
	// first looked. Those beyond cost another reading of the journal.
	maxPending = 10_000

	// maxNameBytes is where names are cut. Those that are the same up to there
	// are added up together.
	maxNameBytes = 64
)

// KeptInMonth is how many names a Part of a month has at most.
const KeptInMonth = 200

// kept is how many names each dimension of a record keeps: the dearest. When a
// quarter more have come, the cheapest are added to "others".
//
// A row is added to three records, which are read and written for it once in a
// step. So these numbers bound what an account costs everybody that gives each of
// its rows another name. Of hours and days only the totals are shown, so they need
// few.
func (s Step) kept(d dimension) int {
	switch {
	case s == Monthly && d == byKey: // as many as an account may have; caps ask for them
		return 500
	case s == Hourly:
		return 10
	case s == Daily:
		return 20
	default:
		return KeptInMonth
	}
}
