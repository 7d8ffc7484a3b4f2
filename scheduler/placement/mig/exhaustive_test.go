package mig_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"ecolink/scheduler/placement/mig"
)

// The tests in this file know nothing of how a Model works: they go through all
// sets of slices that a GPU can have, by the rule that two slices share no memory
// slice and that a profile has a limit, and compare each choice with the best that
// trying everything finds.

// canTake is that rule.
func canTake(taken []mig.Place, p mig.Profile, start int) bool {
	same := 0
	for _, x := range taken {
		if x.Start < start+p.Size && start < x.Start+x.Size {
			return false
		}
		if x.Profile == p.Name {
			same++
		}
	}
	return same < p.Max
}

func add(taken []mig.Place, p mig.Profile, start int) []mig.Place {
	out := append(slices.Clone(taken), mig.Place{Profile: p.Name, Start: start, Size: p.Size})
	slices.SortFunc(out, func(a, b mig.Place) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

// keyOf is the same for the same slices; they are in order of place.
func keyOf(taken []mig.Place) string {
	var b strings.Builder
	for _, p := range taken {
		b.WriteString(p.Profile)
		b.WriteByte(byte('@' + p.Start))
	}
	return b.String()
}

// everySet is every set of slices that a GPU with these profiles can have.
func everySet(profiles []mig.Profile) [][]mig.Place {
	seen := map[string]bool{}
	var out [][]mig.Place
	var walk func(taken []mig.Place)
	walk = func(taken []mig.Place) {
		if key := keyOf(taken); seen[key] {
			return
		} else {
			seen[key] = true
		}
		out = append(out, taken)
		for _, p := range profiles {
			for _, start := range p.Starts {
				if canTake(taken, p, start) {
					walk(add(taken, p, start))
				}
			}
		}
	}
	walk(nil)
	return out
}

// largest is the size of the largest profile that still fits.
func largest(profiles []mig.Profile, taken []mig.Place) (size [2]int) {
	for _, p := range profiles {
		mine := [2]int{p.ComputeSlices, p.Size}
		if slices.Compare(mine[:], size[:]) > 0 && slices.ContainsFunc(p.Starts, func(s int) bool { return canTake(taken, p, s) }) {
			size = mine
		}
	}
	return size
}

func oneGPU(m *mig.Model, taken []mig.Place) []mig.GPU {
	g := mig.GPU{UUID: "GPU-a", Model: m}
	for _, p := range taken {
		g.Slices = append(g.Slices, mig.Slice{Place: p})
	}
	return []mig.GPU{g}
}

func TestEveryChoiceLeavesTheLargestProfileThatAnyChoiceCouldLeave(t *testing.T) {
	for _, gpuType := range gpuTypes() {
		profiles, m := reported(t, gpuType), modelOf(t, gpuType)
		sets := everySet(profiles)
		choices := 0
		for _, taken := range sets {
			for _, p := range profiles {
				var possible []int
				var best [2]int
				for _, start := range p.Starts {
					if canTake(taken, p, start) {
						possible = append(possible, start)
						if left := largest(profiles, add(taken, p, start)); slices.Compare(left[:], best[:]) > 0 {
							best = left
						}
					}
				}
				var ranked []int
				for _, c := range mig.Rank(oneGPU(m, taken), p.Name) {
					ranked = append(ranked, c.Place.Start)
				}
				if sorted := slices.Sorted(slices.Values(ranked)); !slices.Equal(sorted, possible) {
					t.Fatalf("%s with %v: %s goes to %v, and could to %v", gpuType, taken, p.Name, sorted, possible)
				}
				if len(ranked) == 0 {
					continue
				}
				choices++
				if left := largest(profiles, add(taken, p, ranked[0])); left != best {
					t.Fatalf("%s with %v: %s at %d leaves %v, and could leave %v", gpuType, taken, p.Name, ranked[0], left, best)
				}
			}
		}
		t.Logf("%s: %d sets of slices, %d choices, each leaves the largest profile possible", gpuType, len(sets), choices)
	}
}

// rule says where profile p goes among the places where it can.
type rule func(taken []mig.Place, p mig.Profile, possible []int) []int

// sequences counts the sequences of wanted profiles that a GPU takes from a set of
// slices on, when of the places that rule gives the luckiest is taken each time.
func sequences(profiles []mig.Profile, by rule, known map[string]uint64) func(taken []mig.Place) uint64 {
	var count func(taken []mig.Place) uint64
	count = func(taken []mig.Place) uint64 {
		key := keyOf(taken)
		if n, ok := known[key]; ok {
			return n
		}
		total := uint64(1)
		for _, p := range profiles {
			var possible []int
			for _, start := range p.Starts {
				if canTake(taken, p, start) {
					possible = append(possible, start)
				}
			}
			var best uint64
			for _, start := range by(taken, p, possible) {
				best = max(best, count(add(taken, p, start)))
			}
			total += best
		}
		known[key] = total
		return total
	}
	return count
}

// clairvoyant counts the sequences that a GPU could take from empty on if all of a
// sequence were known before the first was placed: the orders of every set.
func clairvoyant(sets [][]mig.Place) uint64 {
	seen := map[string]bool{}
	total := uint64(0)
	for _, taken := range sets {
		names := namesOf(taken)
		slices.Sort(names)
		if key := strings.Join(names, " "); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		orders, same := uint64(1), uint64(0)
		for i, name := range names {
			same++
			if i > 0 && names[i-1] != name {
				same = 1
			}
			orders = orders * uint64(i+1) / same
		}
		total += orders
	}
	return total
}

func namesOf(taken []mig.Place) []string {
	var names []string
	for _, p := range taken {
		names = append(names, p.Profile)
	}
	return names
}

// Keeping the largest profile costs sequences: one 1g slice at the end keeps room
// for 4g, at the beginning it would keep more room for small ones. Of the rules
// that keep it none takes more sequences than ours, from any set of slices; what
// it costs against the best without that duty is written down here.
func TestNoRuleThatKeepsTheLargestProfileTakesMoreSequences(t *testing.T) {
	for _, gpuType := range gpuTypes() {
		profiles, m := reported(t, gpuType), modelOf(t, gpuType)
		ours := sequences(profiles, func(taken []mig.Place, p mig.Profile, possible []int) []int {
			if len(possible) == 0 {
				return nil
			}
			return []int{mig.Rank(oneGPU(m, taken), p.Name)[0].Place.Start}
		}, map[string]uint64{})
		dutiful := sequences(profiles, func(taken []mig.Place, p mig.Profile, possible []int) []int {
			var best []int
			var bestLeft [2]int
			for _, start := range possible {
				left := largest(profiles, add(taken, p, start))
				order := slices.Compare(left[:], bestLeft[:])
				if order > 0 {
					best, bestLeft = nil, left
				}
				if order >= 0 {
					best = append(best, start)
				}
			}
			return best
		}, map[string]uint64{})
		free := sequences(profiles, func(_ []mig.Place, _ mig.Profile, possible []int) []int { return possible }, map[string]uint64{})
		firstFit := sequences(profiles, func(_ []mig.Place, _ mig.Profile, possible []int) []int {
			return possible[:min(1, len(possible))]
		}, map[string]uint64{})

		sets := everySet(profiles)
		asFree, worst := 0, 1.0
		for _, taken := range sets {
			got, want, top := ours(taken), dutiful(taken), free(taken)
			if got != want {
				t.Fatalf("%s from %v: %d sequences, and %d are possible", gpuType, taken, got, want)
			}
			if got == top {
				asFree++
			}
			worst = min(worst, float64(got)/float64(top))
		}
		figures := [5]uint64{ours(nil), dutiful(nil), free(nil), clairvoyant(sets), firstFit(nil)}
		t.Logf("%s, sequences from empty: ours %d, best that keeps the largest profile %d, best without that duty %d, all known before %d, first fit %d;"+
			" from %d of %d sets as many as without the duty, at worst %.0f%%", gpuType,
			figures[0], figures[1], figures[2], figures[3], figures[4], asFree, len(sets), 100*worst)
		if figures != [5]uint64{1112, 1112, 1232, 1323, 883} {
			t.Errorf("%s: the figures are now %v", gpuType, figures)
		}
	}
}

// Every layout there is fits, in any order; and every other does not.
func TestLayoutFitsExactlyWhenSomeSetOfSlicesIsIt(t *testing.T) {
	for _, gpuType := range gpuTypes() {
		profiles, m := reported(t, gpuType), modelOf(t, gpuType)
		layouts := map[string][]string{}
		key := func(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), " ") }
		for _, taken := range everySet(profiles) {
			layouts[key(namesOf(taken))] = namesOf(taken)
		}
		refused := 0
		for _, wanted := range layouts {
			checkFit(t, profiles, m, wanted)
			for _, p := range profiles {
				more := append(slices.Clone(wanted), p.Name)
				if _, possible := layouts[key(more)]; possible {
					checkFit(t, profiles, m, more)
					continue
				}
				refused++
				places, err := mig.Fit(m, nil, more)
				noFit, ok := err.(*mig.NoFitError)
				if !ok || noFit.Profile != p.Name || !slices.Equal(noFit.Wanted, more) {
					t.Fatalf("%s: layout %v: %v, %v", gpuType, more, places, err)
				}
			}
		}
		t.Logf("%s: %d layouts fit, %d that are one slice larger do not", gpuType, len(layouts), refused)
	}
}

func checkFit(t *testing.T, profiles []mig.Profile, m *mig.Model, wanted []string) {
	t.Helper()
	places, err := mig.Fit(m, nil, wanted)
	if err != nil || !slices.Equal(namesOf(places), wanted) {
		t.Fatalf("layout %v: %v, %v", wanted, places, err)
	}
	var taken []mig.Place
	for _, place := range places {
		p := profiles[slices.IndexFunc(profiles, func(p mig.Profile) bool { return p.Name == place.Profile })]
		if !slices.Contains(p.Starts, place.Start) || !canTake(taken, p, place.Start) {
			t.Fatalf("layout %v: %v is not possible", wanted, places)
		}
		taken = add(taken, p, place.Start)
	}
}
