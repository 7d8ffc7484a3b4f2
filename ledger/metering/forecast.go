package metering

import (
	"math"
	"slices"
	"time"

	"ecolink/ledger"
)

// Stream is a thing that costs money as time passes.
type Stream struct {
	Rate  ledger.MicroUSD // per hour, of all its units
	Until time.Time       // when it ends by itself; zero: without end
	// Held is what has been set aside for it: it pays from that first. What is left
	// when it ends is available again.
	Held ledger.MicroUSD
	// Accrued is what it has cost already, and has not been charged for.
	Accrued ledger.MicroUSD
}

// Outlook is how an account's money will go if things go on as they are.
type Outlook struct {
	BurnPerHour ledger.MicroUSD
	// PaidAhead is the part of BurnPerHour that ends by itself before what is held
	// for it is used up: it takes nothing of what is available.
	PaidAhead ledger.MicroUSD
	// LastsUntil is from when on money is missing for something that goes on: the
	// last instant at which everything is paid for. Zero: the money does not run
	// out. What ends as planned with its last cent does not run out of money.
	LastsUntil time.Time
	Hours      int64 // whole ones until then; 0 when it does not run out
}

// LowHours is how few hours of money are a reason to warn.
const LowHours = 24

// Low tells whether the money lasts less than LowHours, and nothing that is
// planned ends the spending before.
func (o Outlook) Low() bool { return !o.LastsUntil.IsZero() && o.Hours < LowHours }

// horizon is as far as one looks ahead.
const horizon = 100 * 365 * 24 * time.Hour

// Forecast says what streams spend per hour now, and how long the wallet pays for
// them all. A stream is paid from what is held for it and then from what is
// available; what is held for one never pays for another before it is refunded.
// Held money of the wallet that no stream has counts as available. It is pure, and
// exact to the micro-dollar of each stream. Its time grows with the square of the
// number of streams that end.
func Forecast(w ledger.Wallet, streams []Stream, now time.Time) Outlook {
	var o Outlook
	plan := plan{now: now, pool: sum(w.Available, w.Held)}
	for _, s := range streams {
		s.Rate, s.Held, s.Accrued = max(0, s.Rate), max(0, s.Held), max(0, s.Accrued)
		if !s.Until.IsZero() && !s.Until.After(now) { // what is held for it comes back
			plan.pool = sum(plan.pool, -s.Accrued)
			continue
		}
		plan.streams = append(plan.streams, s)
		plan.pool = sum(plan.pool, -s.Held)
		o.BurnPerHour = sum(o.BurnPerHour, s.Rate)
		if plan.ahead(s) {
			o.PaidAhead = sum(o.PaidAhead, s.Rate)
		}
	}
	if o.BurnPerHour == 0 {
		return o
	}
	if at, runsOut := plan.runsOut(); runsOut {
		o.LastsUntil = now.Add(at).UTC()
		o.Hours = int64(at / time.Hour)
	}
	return o
}

// plan is what streams will take from the pool of what is available.
type plan struct {
	now     time.Time
	pool    ledger.MicroUSD
	streams []Stream
}

// runsOut finds the last instant at which the pool is not below zero. Between the
// ends of streams, which bring refunds, the pool only falls.
func (p plan) runsOut() (at time.Duration, ok bool) {
	ends := []time.Duration{horizon}
	for _, s := range p.streams {
		if end, ok := p.end(s); ok {
			ends = append(ends, end)
		}
	}
	slices.Sort(ends)
	if p.poolAt(0) < 0 {
		return 0, true
	}
	var begin time.Duration
	for _, end := range slices.Compact(ends) {
		if p.poolAt(end) >= 0 {
			begin = end
			continue
		}
		for end-begin > 1 { // the pool is not below zero at begin, and is at end
			if middle := begin + (end-begin)/2; p.poolAt(middle) >= 0 {
				begin = middle
			} else {
				end = middle
			}
		}
		return begin, true
	}
	return 0, false
}

func (p plan) end(s Stream) (time.Duration, bool) {
	if s.Until.IsZero() || s.Until.Sub(p.now) >= horizon {
		return 0, false
	}
	return s.Until.Sub(p.now), true
}

// ahead tells whether a stream ends before what is held for it is used up.
func (p plan) ahead(s Stream) bool {
	end, finite := p.end(s)
	if !finite {
		return false
	}
	used, err := ledger.MulDiv(s.Rate, int64(end), int64(time.Hour))
	return err == nil && sum(used, s.Accrued) <= s.Held
}

// poolAt is what is available at an instant. What is left of the hold of a stream
// that ends then is not back yet.
func (p plan) poolAt(t time.Duration) ledger.MicroUSD {
	pool := p.pool
	for _, s := range p.streams {
		ran := t
		end, finite := p.end(s)
		if finite {
			ran = min(t, end)
		}
		used, err := ledger.MulDiv(s.Rate, int64(ran), int64(time.Hour))
		if err != nil {
			used = math.MaxInt64 // more than anybody has
		}
		used = sum(used, s.Accrued)
		if used > s.Held || finite && end < t {
			pool = sum(pool, s.Held-used)
		}
	}
	return pool
}

// sum stops at what fits.
func sum(m, n ledger.MicroUSD) ledger.MicroUSD {
	out, err := m.Add(n)
	switch {
	case err == nil:
		return out
	case n > 0:
		return math.MaxInt64
	default:
		return math.MinInt64
	}
}
