package usage

import (
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Step is the length of time that sums are made over. All steps are of UTC.
type Step string

// The steps.
const (
	Hourly  Step = "hour"
	Daily   Step = "day"
	Monthly Step = "month"
)

var steps = [...]Step{Hourly, Daily, Monthly}

// of is the beginning of the step that an instant lies in.
func (s Step) of(t time.Time) time.Time {
	t = t.UTC()
	switch s {
	case Hourly:
		return t.Truncate(time.Hour)
	case Daily:
		y, m, d := t.Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	default:
		return ledger.MonthOf(t)
	}
}

// next is the beginning of the step after the one that begins at t.
func (s Step) next(t time.Time) time.Time {
	switch s {
	case Hourly:
		return t.Add(time.Hour)
	case Daily:
		return t.AddDate(0, 0, 1)
	default:
		return t.AddDate(0, 1, 0)
	}
}

// Records lie by time and then by account: those that are written together lie
// together, and the oldest are the first.
var (
	hours  = store.NewPairCollection[tally]("usage.hours").With(tallies)
	days   = store.NewPairCollection[tally]("usage.days").With(tallies)
	months = store.NewPairCollection[tally]("usage.months").With(tallies)

	// The same records, encoded.
	hoursEncoded  = store.NewPairCollection[[]byte]("usage.hours").With(store.Raw())
	daysEncoded   = store.NewPairCollection[[]byte]("usage.days").With(store.Raw())
	monthsEncoded = store.NewPairCollection[[]byte]("usage.months").With(store.Raw())

	// The same records, of which only the totals are read.
	hourTotals  = store.NewPairCollection[Sum]("usage.hours").With(totals)
	dayTotals   = store.NewPairCollection[Sum]("usage.days").With(totals)
	monthTotals = store.NewPairCollection[Sum]("usage.months").With(totals)
)

func (s Step) encoded() store.Collection[store.Pair, []byte] {
	switch s {
	case Hourly:
		return hoursEncoded
	case Daily:
		return daysEncoded
	default:
		return monthsEncoded
	}
}

func (s Step) totals() store.Collection[store.Pair, Sum] {
	switch s {
	case Hourly:
		return hourTotals
	case Daily:
		return dayTotals
	default:
		return monthTotals
	}
}

func (s Step) records() store.Collection[store.Pair, tally] {
	switch s {
	case Hourly:
		return hours
	case Daily:
		return days
	default:
		return months
	}
}

// place is where a tally is kept.
type place struct {
	step    Step
	begin   int64 // Unix seconds
	account identity.AccountID
}

func placeOf(s Step, t time.Time, a identity.AccountID) place {
	return place{step: s, begin: s.of(t).Unix(), account: a}
}

func (p place) key() store.Pair { return store.Pair{A: p.begin, B: int64(p.account)} }

func (p place) String() string {
	return fmt.Sprintf("the usage of account %d in the %s of %s", p.account, p.step, time.Unix(p.begin, 0).UTC().Format(time.RFC3339))
}

func (p place) read(tx *store.Tx) (tally, error) {
	t, _, err := p.step.records().Get(tx, p.key())
	return t, err
}

// progress is how far the journal has been folded, and what has been thrown away.
type progress struct {
	Row       int64 `json:"row"`                // the last row that the records have
	HoursFrom int64 `json:"hours_from"`         // older hours are pruned; Unix seconds
	DaysFrom  int64 `json:"days_from"`          // older days are
	Clearing  bool  `json:"clearing,omitempty"` // the records are void and being deleted
}

var progresses = store.NewStringCollection[string, progress]("usage.progress")

const progressKey = "progress"

func readProgress(tx *store.Tx) (progress, error) {
	p, _, err := progresses.Get(tx, progressKey)
	return p, err
}

// pruned tells whether a record is too old to be kept.
func (p progress) pruned(at place) bool {
	switch at.step {
	case Hourly:
		return at.begin < p.HoursFrom
	case Daily:
		return at.begin < p.DaysFrom
	default:
		return false
	}
}
