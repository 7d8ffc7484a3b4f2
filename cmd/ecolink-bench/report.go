package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// better says which of two figures is the better one.
type better bool

// The directions.
const (
	less better = false
	more better = true
)

// limitPeer stands where a peer would when a figure has a limit of its own.
const limitPeer = "goal"

// row is a figure, beside a peer's where there is one.
type row struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer"` // empty: there is none
	PeerValue float64 `json:"peer_value"`
	Ratio     float64 `json:"ratio"` // of the value to the peer's
	Goal      float64 `json:"goal"`  // the ratio that just meets it; 0: none is set
	Met       bool    `json:"met"`

	better better // so the goal is the greatest ratio that meets it, or the least
}

// report is what a subject has measured.
type report struct {
	rows  []row
	noise []string // for people
}

// figure adds a row without a peer.
func (r *report) figure(name, unit string, value float64) {
	r.rows = append(r.rows, row{Name: name, Unit: unit, Value: value, Met: true})
}

// beside adds a row with a peer's figure. Without a goal (0) it is only shown.
func (r *report) beside(name, unit string, ours float64, b better, peer string, theirs, goal float64) {
	added := row{Name: name, Unit: unit, Value: ours, Peer: peer, PeerValue: theirs, Goal: goal, better: b}
	if theirs > 0 { // a peer that did nothing is no measure
		added.Ratio = ours / theirs
	}
	switch {
	case goal == 0:
		added.Met = true
	case b == more:
		added.Met = added.Ratio >= goal
	default:
		added.Met = theirs > 0 && added.Ratio <= goal
	}
	r.rows = append(r.rows, added)
}

// limit adds a row whose goal is to be at most limit, in the row's own unit.
func (r *report) limit(name, unit string, value, limit float64) {
	r.beside(name, unit, value, less, limitPeer, limit, 1)
}

// within is limit for a time.
func (r *report) within(name string, took, limit time.Duration) {
	r.limit(name, "ms", milliseconds(took), milliseconds(limit))
}

// compare adds a row of milliseconds beside a peer's.
func (r *report) compare(name string, ours time.Duration, peer string, theirs time.Duration, goal float64) {
	r.beside(name, "ms", milliseconds(ours), less, peer, milliseconds(theirs), goal)
}

func (r *report) missed() bool {
	return slices.ContainsFunc(r.rows, func(r row) bool { return !r.Met })
}

func (r *report) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, row := range r.rows {
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tOURS\tPEER\tTHEIRS\tRATIO\tGOAL\tMET")
	for _, row := range r.rows {
		fmt.Fprintln(w, row.line())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range r.noise {
		fmt.Fprintln(out, line)
	}
	return nil
}

func (r row) line() string {
	peer, theirs, ratio, goal, met := "-", "-", "-", "-", "-"
	if r.Peer != "" {
		peer, theirs, ratio = r.Peer, number(r.PeerValue)+" "+r.Unit, fmt.Sprintf("%.2f", r.Ratio)
	}
	if r.Goal > 0 {
		sign := "<="
		if r.better == more {
			sign = ">="
		}
		goal, met = fmt.Sprintf("%s %.2f", sign, r.Goal), "no"
		if r.Met {
			met = "yes"
		}
	}
	return fmt.Sprintf("%s\t%s %s\t%s\t%s\t%s\t%s\t%s", r.Name, number(r.Value), r.Unit, peer, theirs, ratio, goal, met)
}

// number shows as many decimals as a figure of its size is worth.
func number(f float64) string {
	switch {
	case f >= 1000:
		return fmt.Sprintf("%.0f", f)
	case f >= 10 || f == 0:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.3f", f)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// quantile is the value that the share q of all values lies below.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var none T
	if len(values) == 0 {
		return none
	}
	return ofSorted(slices.Sorted(slices.Values(values)), q)
}

func ofSorted[T cmp.Ordered](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// timings are the same thing measured several times.
type timings []time.Duration

func (s timings) median() time.Duration { return quantile(s, 0.5) }

// spread is how far the repeated runs lie apart, for telling a difference from noise.
func (s timings) spread() string {
	values := make([]float64, len(s))
	for n, d := range s {
		values[n] = milliseconds(d)
	}
	return spread(values, "ms")
}

func spread(values []float64, unit string) string {
	return fmt.Sprintf("median %s %s, p10 %s, p90 %s, %d runs", number(quantile(values, 0.5)), unit,
		number(quantile(values, 0.1)), number(quantile(values, 0.9)), len(values))
}
