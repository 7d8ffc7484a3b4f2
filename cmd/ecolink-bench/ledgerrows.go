package main

import (
	"fmt"
	"time"
)

// measuredLoads are the loads of ours, in the order of the rows.
func measuredLoads() (all []load) {
	for _, callers := range []int{1, 16, 64, 512, 2048} {
		all = append(all, load{callers: callers}, load{callers: callers, hot: true})
	}
	return all
}

// reportRates makes the rows of charges per second.
func reportRates(rep *report, taken rates) {
	var (
		alone, shared, crowd = load{callers: 1}, load{callers: 64}, load{callers: 512}
		hot                  = load{callers: 64, hot: true}
		postgresGoals        = map[load]float64{shared: goalPostgres, hot: goalHot}
		disk                 = taken.perSecond(diskName, alone)
		plain                = taken.perSecond(plainName, alone)
	)
	rep.figure("fdatasync of 4 KiB", "/s", disk)
	for _, l := range measuredLoads() {
		name, ours, rows := "charges, "+l.String(), taken.perSecond(booksName, l), len(rep.rows)
		if l == alone {
			rep.beside(name, "/s", ours, more, "half of fdatasync", disk/2, goalDisk)
			rep.beside(name, "/s", ours, more, plainName, plain, 0)
		}
		if l == crowd {
			rep.beside(name, "/s", ours, more, plainName, plain, goalBolt)
		}
		if taken.has(postgresName, l) {
			rep.beside(name, "/s", ours, more, postgresClients(l), taken.perSecond(postgresName, l), postgresGoals[l])
		}
		if len(rep.rows) == rows {
			rep.figure(name, "/s", ours)
		}
	}
}

// reportLatencies makes the rows of what a caller waits for a charge.
func reportLatencies(rep *report, taken rates) {
	for _, q := range []struct {
		name string
		of   func(rate) time.Duration
	}{
		{"p50", func(r rate) time.Duration { return r.p50 }},
		{"p99", func(r rate) time.Duration { return r.p99 }},
	} {
		for _, l := range measuredLoads() {
			name, ours := fmt.Sprintf("a charge's %s, %s", q.name, l), taken.latency(booksName, l, q.of)
			if taken.has(postgresName, l) {
				rep.compare(name, ours, postgresClients(l), taken.latency(postgresName, l, q.of), 0)
			} else {
				rep.figure(name, "ms", milliseconds(ours))
			}
		}
	}
}

func postgresClients(l load) string {
	return postgresName + ", " + plural(l.callers, "client")
}
