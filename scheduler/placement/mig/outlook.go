package mig

import (
	"cmp"
	"math/bits"
)

// outlook says how good a state of a GPU is for what may be wanted next.
type outlook struct {
	// largest is the size of the largest profile of which one still fits, as
	// Profile.rank gives it; 0 when nothing fits.
	largest int
	// sequences is how many sequences of wanted profiles, the empty one included,
	// can still be taken by who places each best, not knowing the next ones.
	sequences uint64
}

// compare is positive when o is better than p.
func (o outlook) compare(p outlook) int {
	return cmp.Or(cmp.Compare(o.largest, p.largest), cmp.Compare(o.sequences, p.sequences))
}

// rank grows with the share of the multiprocessors, then with the memory; it
// compares profiles of different models too.
func (p Profile) rank() int { return p.ComputeSlices*(maxPositions+1) + p.Size }

func (m *Model) outlook(s state) outlook {
	if o, known := m.outlooks[s]; known {
		return o
	}
	// Slices of a profile that the model lacks, made by hand, lead here.
	return m.explore(s, map[state]outlook{})
}

// explore fills seen with the outlook of s and of every state that it can become.
// Each profile goes where the outlook is best afterwards, which makes sequences
// the most that any rule reaches which always keeps the largest profile possible.
func (m *Model) explore(s state, seen map[state]outlook) outlook {
	if o, known := seen[s]; known {
		return o
	}
	o := outlook{sequences: 1}
	for i, p := range m.profiles {
		var best outlook
		fits := false
		for _, start := range p.Starts {
			if !m.fits(s, i, start) {
				continue
			}
			if next := m.explore(m.with(s, i, start), seen); !fits || next.compare(best) > 0 {
				best, fits = next, true
			}
		}
		if fits {
			o.largest = max(o.largest, p.rank())
			o.sequences += best.sequences
		}
	}
	seen[s] = o
	return o
}

// change is what a choice does to one GPU of several.
type change struct{ before, after outlook }

// compare is negative when c is the better of two choices for all GPUs together.
// They differ in two GPUs: one has c.after and d.before, the other way round
// c.before and d.after. Better is the larger largest profile, then the other one's,
// then the product of the sequences.
func (c change) compare(d change) int {
	highC, lowC := bits.Mul64(c.after.sequences, d.before.sequences)
	highD, lowD := bits.Mul64(d.after.sequences, c.before.sequences)
	return cmp.Or(
		cmp.Compare(max(d.after.largest, c.before.largest), max(c.after.largest, d.before.largest)),
		cmp.Compare(min(d.after.largest, c.before.largest), min(c.after.largest, d.before.largest)),
		cmp.Compare(highD, highC),
		cmp.Compare(lowD, lowC),
	)
}
