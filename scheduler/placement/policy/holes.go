package policy

import (
	"cmp"
	"slices"
)

// Steps of the tables that tell what a hole is worth, and the most CPU of one GPU
// that they tell apart.
const (
	shareStep = 10  // thousandths of a GPU
	cpuStep   = 500 // thousandths of a core
	maxCPU    = 65_000

	sizes = WholeGPU/shareStep + 1
	rows  = maxCPU/cpuStep + 1
)

// haste is the chance, each time that a task comes, that a hole which some tasks would
// fill gets none any more. Without it every hole would wait for the task that fits
// best. It was chosen with draws of the openb trace that are not those we report;
// from 0.0015 to 0.003 the result differs by less than 0.1 points.
const haste = 0.002

// holes tells how much of a hole (what is free of one GPU, with a part of the node's
// CPU) the workload will come to use, in thousandths of thousandths of a GPU.
//
// Tasks come at random, as often as in the workload. A hole takes one that fits when
// that leaves it worth more than waiting, or waits, and may wait in vain. Tasks that
// nobody wants, since they leave holes that too few others fit in, can't be waited
// past: each GPU must take its part of them.
type holes struct{ worth [rows][sizes]int32 }

// row is the worths for the CPU that one whole GPU of a node gets, when all that is
// free is divided by all GPUs that are.
func (h *holes) row(cpu int64, free int) *[sizes]int32 {
	each := cpu
	if free > WholeGPU {
		each = cpu * WholeGPU / int64(free)
	}
	return &h.worth[min(each/cpuStep, rows-1)]
}

// filler is tasks that take the same of a hole.
type filler struct {
	size, row int     // in steps, rounded up
	chance    float64 // that the next task is one
}

func newHoles(w Workload, total int) *holes {
	all := fillers(w, total)
	end, unwanted := scarcity(all)
	h := &holes{}
	var worth [rows][sizes]float64
	offers := make([]offer, 0, len(all))
	for size := 1; size < sizes; size++ {
		for row := range rows {
			offers = offers[:0]
			for _, f := range all {
				if f.size > size {
					break
				}
				if f.row <= row {
					offers = append(offers, offer{
						worth:  float64(f.size*shareStep) + worth[row-f.row][size-f.size],
						chance: f.chance, forced: f.size >= unwanted,
					})
				}
			}
			worth[row][size] = wait(offers, end[size])
			h.worth[row][size] = int32(worth[row][size] * WholeGPU)
		}
	}
	return h
}

// fillers are the tasks with one GPU, the smallest first.
func fillers(w Workload, total int) []filler {
	var all []filler
	for _, f := range w {
		if t := f.Task; t.GPUs == 1 && t.CPU <= maxCPU {
			all = append(all, filler{
				size: (t.Share + shareStep - 1) / shareStep, row: int((t.CPU + cpuStep - 1) / cpuStep),
				chance: float64(f.Count) / float64(total),
			})
		}
	}
	slices.SortFunc(all, func(a, b filler) int { return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.row, b.row)) })
	return all
}

// offer is a task that fits in a hole.
type offer struct {
	worth  float64 // what it uses, and what the rest is worth then
	chance float64
	forced bool // it can't be waited past
}

// enough is the difference of worths, in thousandths of a GPU, that is not worth
// another round.
const enough = 1e-6

// wait is what a hole is worth that takes the best of the offers and may come to its
// end at any time: that worth is what an offer must exceed to be taken, so it is
// raised until it holds.
func wait(offers []offer, end float64) float64 {
	worth := 0.0
	for {
		sum, chance := 0.0, end
		for _, o := range offers {
			if o.forced || o.worth > worth {
				sum += o.worth * o.chance
				chance += o.chance
			}
		}
		raised := sum / chance
		if !(raised > worth+enough) { // nor when there is neither an offer nor an end
			return worth
		}
		worth = raised
	}
}

// scarcity is the chance at each task that a hole of a size comes to its end, and
// the size from which on tasks leave holes that too few others fit in.
//
// Every task that takes a part of an idle GPU leaves a hole. Tasks are matched with
// them, the smallest holes first since the fewest fit in: the part of the holes that
// gets a task gives the chance. A smaller hole is never better off than a larger one.
func scarcity(all []filler) (end [sizes]float64, unwanted int) {
	var left, come [sizes]float64 // holes and tasks of each size
	for _, f := range all {
		come[f.size] += f.chance
		if f.size < sizes-1 {
			left[sizes-1-f.size] += f.chance
		}
	}
	unwanted = sizes
	spare, fit := 0.0, 0.0 // tasks that are no smaller, not matched and all
	for size := range sizes {
		spare += come[size]
		fit += come[size]
		end[size] = haste
		matched := min(spare, left[size])
		spare -= matched
		if matched < left[size] {
			unwanted = min(unwanted, sizes-1-size)
			end[size] = max(haste, neverFilled)
			if matched > 0 {
				end[size] = min(end[size], max(haste, fit*(left[size]-matched)/matched))
			}
		}
	}
	for size := sizes - 2; size >= 0; size-- {
		end[size] = max(end[size], end[size+1])
	}
	return end, unwanted
}

// neverFilled is the chance of an end for holes that hardly any task fills.
const neverFilled = 1
