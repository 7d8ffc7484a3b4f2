package usage

import (
	"fmt"
	"time"
)

// RangeError is a stretch of time that there are no sums of.
type RangeError struct {
	Field string // from, to or step
	Why   string // what is wrong with it, and what to ask for
}

func (e *RangeError) Error() string { return e.Field + ": " + e.Why }

func (p progress) tooOld(s Step) error {
	since, larger := p.HoursFrom, Daily
	if s == Daily {
		since, larger = p.DaysFrom, Monthly
	}
	return &RangeError{Field: "from", Why: fmt.Sprintf("sums by the %s are kept since %s: begin there, or ask by the %s",
		s, time.Unix(since, 0).UTC().Format(time.RFC3339), larger)}
}

// Disagreement is a record that is not what the journal makes of it.
type Disagreement struct{ What string }

func (d *Disagreement) Error() string {
	return d.What + "; no money is wrong: `ecolink ledger rebuild-usage` makes the sums anew"
}
