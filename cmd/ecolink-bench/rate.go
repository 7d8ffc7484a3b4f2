package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// load is how a contender is asked to work: that many callers at once, each of
// them waiting for its charge before it makes the next, on accounts at random or
// all on one.
type load struct {
	callers int
	hot     bool
}

func (l load) String() string {
	if l.hot {
		return plural(l.callers, "caller") + ", one account"
	}
	return plural(l.callers, "caller") + ", spread"
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// payer takes charges that are on the disk when they are acknowledged.
type payer interface {
	name() string
	// pay works under the load for about so long.
	pay(ctx context.Context, l load, during time.Duration) (rate, error)
}

// cell is one contender under one load.
type cell struct {
	who payer
	load
}

// rate is how fast charges were.
type rate struct {
	perSecond float64
	p50, p99  time.Duration
}

// newRate sorts the latencies in place.
func newRate(latencies []time.Duration, elapsed time.Duration) (rate, error) {
	if len(latencies) == 0 {
		return rate{}, fmt.Errorf("nothing was done in %s: run it with more -seconds", elapsed)
	}
	slices.Sort(latencies)
	return rate{
		perSecond: float64(len(latencies)) / elapsed.Seconds(),
		p50:       ofSorted(latencies, 0.50),
		p99:       ofSorted(latencies, 0.99),
	}, nil
}

// oneAtATime is the rate of something that is done again and again.
func oneAtATime(ctx context.Context, during time.Duration, do func() error) (rate, error) {
	var latencies []time.Duration
	began := time.Now()
	for last := began; last.Sub(began) < during; {
		if err := ctx.Err(); err != nil {
			return rate{}, err
		}
		if err := do(); err != nil {
			return rate{}, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(last))
		last = now
	}
	return newRate(latencies, time.Since(began))
}

// cellName finds the rates of a cell.
type cellName struct {
	who string
	load
}

// rates are what each cell did, round by round.
type rates map[cellName][]rate

func (r rates) add(c cell, got rate) {
	name := cellName{c.who.name(), c.load}
	r[name] = append(r[name], got)
}

func (r rates) has(who string, l load) bool { return len(r[cellName{who, l}]) > 0 }

func (r rates) rounds(who string, l load) []float64 {
	var each []float64
	for _, got := range r[cellName{who, l}] {
		each = append(each, got.perSecond)
	}
	return each
}

// perSecond and latency are medians over the rounds.
func (r rates) perSecond(who string, l load) float64 { return quantile(r.rounds(who, l), 0.5) }

func (r rates) latency(who string, l load, of func(rate) time.Duration) time.Duration {
	var each timings
	for _, got := range r[cellName{who, l}] {
		each = append(each, of(got))
	}
	return each.median()
}

func (r rates) spread(c cell) string { return spread(r.rounds(c.who.name(), c.load), "/s") }
