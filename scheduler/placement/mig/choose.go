package mig

import (
	"cmp"
	"math/bits"
	"slices"
)

// GPU is one GPU in MIG mode on which slices may be made.
type GPU struct {
	UUID   string
	Model  *Model
	Slices []Slice // all that it has, whoever made them
}

// Slice is a slice that exists.
type Slice struct {
	Place
	// Idle says that nobody uses it and that it may be destroyed to make room. A
	// slice that was made by hand never is.
	Idle bool
}

// Choice is what to do on one GPU to get a slice.
type Choice struct {
	GPU     string  // UUID
	Place   Place   // what to make
	Destroy []Place // what to destroy before
}

// Rank lists where a slice of profile can be made without destroying anything,
// the best choice first; empty when nowhere. A caller takes the first, and goes on
// to the next if the driver refuses it.
//
// Best is what leaves the most: on one GPU, the largest profile that still fits
// afterwards, and then the most sequences of further slices that can still be
// taken. Of several GPUs, first the largest that still fits on any, then on
// another, and so on down, and then the sequences. Between equals the fullest GPU
// wins, then the first of gpus, then the highest place, since large profiles
// begin low.
func Rank(gpus []GPU, profile string) []Choice {
	var all []candidate
	for order, g := range gpus {
		all = append(all, g.candidates(order, profile, 0)...)
	}
	slices.SortFunc(all, candidate.compare)
	var out []Choice
	for _, c := range all {
		out = append(out, c.choice)
	}
	return out
}

// MakeRoom is Rank's first choice, or, when there is none, the one that destroys
// the fewest idle slices; between equals Rank's order decides. False when even
// all idle slices do not make room.
//
// An idle slice of just this profile is not looked for: who has one uses it.
func MakeRoom(gpus []GPU, profile string) (Choice, bool) {
	var best candidate
	found := false
	for order, g := range gpus {
		for subset := range uint64(1) << len(g.idle()) {
			if found && bits.OnesCount64(subset) > len(best.choice.Destroy) {
				continue
			}
			for _, c := range g.candidates(order, profile, subset) {
				if !found || c.compare(best) < 0 {
					best, found = c, true
				}
			}
		}
	}
	return best.choice, found
}

// candidate is a choice with what it is judged by.
type candidate struct {
	choice Choice
	change change
	filled int // memory slices that were taken on the GPU before
	order  int // of the GPU in the question
}

func (c candidate) compare(d candidate) int {
	return cmp.Or(
		cmp.Compare(len(c.choice.Destroy), len(d.choice.Destroy)),
		c.change.compare(d.change),
		cmp.Compare(d.filled, c.filled),
		cmp.Compare(c.order, d.order),
		cmp.Compare(d.choice.Place.Start, c.choice.Place.Start),
	)
}

// idle are the places of the slices that may be destroyed, as many as subsets are
// looked at.
func (g GPU) idle() []Place {
	var out []Place
	for _, s := range g.Slices {
		if s.Idle && len(out) < maxPositions {
			out = append(out, s.Place)
		}
	}
	return out
}

// candidates are the choices on g once the idle slices in subset, a bit for each,
// are gone.
func (g GPU) candidates(order int, profile string, subset uint64) []candidate {
	i := g.Model.index(profile)
	if i < 0 {
		return nil
	}
	var all, kept, destroyed []Place
	n := 0
	for _, s := range g.Slices {
		all = append(all, s.Place)
		if s.Idle {
			n++
			if subset>>(n-1)&1 == 1 {
				destroyed = append(destroyed, s.Place)
				continue
			}
		}
		kept = append(kept, s.Place)
	}
	now, cleared := g.Model.stateOf(all), g.Model.stateOf(kept)
	var out []candidate
	for _, start := range g.Model.profiles[i].Starts {
		if !g.Model.fits(cleared, i, start) {
			continue
		}
		out = append(out, candidate{
			choice: Choice{GPU: g.UUID, Place: g.Model.place(i, start), Destroy: destroyed},
			change: change{g.Model.outlook(now), g.Model.outlook(g.Model.with(cleared, i, start))},
			filled: now.positions(),
			order:  order,
		})
	}
	return out
}
