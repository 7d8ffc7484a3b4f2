package placement

import "slices"

// harm is what it costs to preempt some runs. The first figure counts most.
type harm struct {
	standard int   // runs of the class standard: those of spot are told that it may happen
	runs     int   // people who are interrupted
	gpus     int   // that are freed
	spell    int64 // nanoseconds of work that is interrupted: the youngest have least to lose
}

func (h harm) plus(r Run) harm {
	if r.Class >= Standard {
		h.standard++
	}
	return harm{h.standard, h.runs + 1, h.gpus + r.Count, h.spell + int64(r.Spell)}
}

func (h harm) less(o harm) bool {
	switch {
	case h.standard != o.standard:
		return h.standard < o.standard
	case h.runs != o.runs:
		return h.runs < o.runs
	case h.gpus != o.gpus:
		return h.gpus < o.gpus
	default:
		return h.spell < o.spell
	}
}

// victims chooses the runs, by their places in the list, that free so many GPUs for the
// request with the least harm. Only runs of its type, of a lower class and not
// kept are touched. enough is false, and nobody is chosen, when all of them do not suffice;
// it is true without any when none is needed.
//
// It is the knapsack problem turned around, by the number of GPUs that are freed: harm
// adds up and compares in a fixed order, so that the least for a number is made of the
// least for smaller ones.
func victims(runs []Run, r Request, needed int) (chosen []int, enough bool) {
	if needed <= 0 {
		return nil, true
	}
	type choice struct {
		harm harm
		runs []int
	}
	best := map[int]choice{0: {}}
	for n, run := range runs {
		if run.Type != r.Type || run.Class >= r.Class || run.KeptFor > 0 || run.Leaving || run.Count <= 0 {
			continue
		}
		next := make(map[int]choice, 2*len(best))
		for freed, c := range best {
			next[freed] = c
		}
		for freed, c := range best {
			with := choice{c.harm.plus(run), append(slices.Clone(c.runs), n)}
			if old, known := next[freed+run.Count]; !known || with.harm.less(old.harm) {
				next[freed+run.Count] = with
			}
		}
		best = next
	}
	var least choice
	for freed := range best {
		if c := best[freed]; freed >= needed && (!enough || c.harm.less(least.harm)) {
			least, enough = c, true
		}
	}
	return least.runs, enough
}
