package placement

import (
	"slices"
	"time"
)

// choose picks GPUs of the type, those with the most NVLinks to the ones already
// picked first, then the lowest index. There must be enough.
func choose(free []GPU, r Request) []GPU {
	var candidates []GPU
	for _, g := range free {
		if g.Type == r.Type {
			candidates = append(candidates, g)
		}
	}
	picked := make([]GPU, 0, r.Count)
	for len(picked) < r.Count {
		best, bestLinks := 0, -1
		for i, g := range candidates {
			links := linksTo(g, picked)
			if links > bestLinks || links == bestLinks && g.Index < candidates[best].Index {
				best, bestLinks = i, links
			}
		}
		picked = append(picked, candidates[best])
		candidates = append(candidates[:best], candidates[best+1:]...)
	}
	return picked
}

func linksTo(g GPU, others []GPU) int {
	n := 0
	for _, o := range others {
		for _, p := range g.Peers {
			if p == o.Index {
				n++
			}
		}
	}
	return n
}

// reserve finds out when enough runs have ended for the request, or can be preempted for
// it, and how many GPUs are over then (EASY backfill: Lifka, "The ANL/IBM SP Scheduling
// System", 1995). Nil: not even then are there enough, and nothing need be kept for it.
func (p *planner) reserve(r Request) *reservation {
	var ends []Run
	for _, run := range p.runs {
		if run.Type != r.Type || run.Leaving {
			continue
		}
		if run.Class < r.Class {
			run.EndsIn = min(run.EndsIn, run.KeptFor)
		}
		ends = append(ends, run)
	}
	slices.SortStableFunc(ends, func(a, b Run) int { return int(min(max(a.EndsIn-b.EndsIn, -1), 1)) })
	room, at := p.pool(r.Type).spare(), time.Duration(0)
	for _, run := range ends {
		if room >= r.Count {
			break
		}
		room += run.Count
		at = max(run.EndsIn, 0)
	}
	if room < r.Count {
		return nil
	}
	return &reservation{at: at, extra: room - r.Count}
}
