package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// row is a figure beside a peer's.
type row struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer"`
	PeerValue float64 `json:"peer_value"`
	Ratio     float64 `json:"ratio"`
	Goal      float64 `json:"goal"` // the greatest ratio that meets it; 0: none is set
	Met       bool    `json:"met"`
}

// report is what a subject has measured.
type report struct {
	rows  []row
	noise []string // for people
}

// compare adds a row of milliseconds in which less is better.
func (r *report) compare(name string, ours time.Duration, peer string, theirs time.Duration, goal float64) {
	ratio := float64(ours) / float64(theirs)
	r.rows = append(r.rows, row{
		Name: name, Value: milliseconds(ours), Unit: "ms", Peer: peer, PeerValue: milliseconds(theirs),
		Ratio: ratio, Goal: goal, Met: goal == 0 || ratio <= goal,
	})
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
		goal, met := "-", "-"
		if row.Goal > 0 {
			goal, met = fmt.Sprintf("<= %.2f", row.Goal), "no"
			if row.Met {
				met = "yes"
			}
		}
		fmt.Fprintf(w, "%s\t%.1f %s\t%s\t%.1f %s\t%.2f\t%s\t%s\n", row.Name, row.Value, row.Unit, row.Peer, row.PeerValue, row.Unit, row.Ratio, goal, met)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, line := range r.noise {
		fmt.Fprintln(out, line)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// timings are the same thing measured several times.
type timings []time.Duration

func (s timings) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s timings) median() time.Duration { return s.quantile(0.5) }

// spread is how far the repeated runs lie apart, for telling a difference from noise.
func (s timings) spread() string {
	return fmt.Sprintf("median %.1f ms, p10 %.1f, p90 %.1f, %d runs", milliseconds(s.median()), milliseconds(s.quantile(0.1)), milliseconds(s.quantile(0.9)), len(s))
}
