package mig_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ecolink/scheduler/placement/mig"
)

// fleet is some GPUs of one or two types with any slices on them.
type fleet struct {
	gpus     []mig.GPU
	profiles [][]mig.Profile // of each
}

// world has what drawing a fleet needs, read once.
type world struct {
	profiles map[string][]mig.Profile
	models   map[string]*mig.Model
	sets     map[string][][]mig.Place
}

func newWorld(t *testing.T) world {
	w := world{map[string][]mig.Profile{}, map[string]*mig.Model{}, map[string][][]mig.Place{}}
	for _, gpuType := range gpuTypes() {
		w.profiles[gpuType], w.models[gpuType] = reported(t, gpuType), modelOf(t, gpuType)
		w.sets[gpuType] = everySet(w.profiles[gpuType])
	}
	return w
}

func (w world) draw(t *rapid.T) (f fleet, wanted string) {
	for i := range rapid.IntRange(1, 4).Draw(t, "GPUs") {
		gpuType := rapid.SampledFrom([]string{"a100", "h100"}).Draw(t, "type")
		g := mig.GPU{UUID: fmt.Sprint("GPU-", i), Model: w.models[gpuType]}
		for _, p := range rapid.SampledFrom(w.sets[gpuType]).Draw(t, "slices") {
			g.Slices = append(g.Slices, mig.Slice{Place: p, Idle: rapid.Bool().Draw(t, "idle")})
		}
		f.gpus = append(f.gpus, g)
		f.profiles = append(f.profiles, w.profiles[gpuType])
	}
	// 1g.10gb is on both, in different sizes.
	return f, rapid.SampledFrom([]string{"1g.10gb", "3g.40gb", "2g.20gb", "7g.80gb", "1g.10gb+me", "2g.10gb", "4g.20gb", "1g.5gb"}).Draw(t, "wanted")
}

func (f fleet) places(i int) (out []mig.Place) {
	for _, s := range f.gpus[i].Slices {
		out = append(out, s.Place)
	}
	return out
}

// left is the largest profile that fits on each GPU after a choice, largest first.
func (f fleet) left(c mig.Choice) (out [][2]int) {
	for i, g := range f.gpus {
		taken := f.places(i)
		if g.UUID == c.GPU {
			taken = slices.DeleteFunc(taken, func(p mig.Place) bool { return slices.Contains(c.Destroy, p) })
			taken = append(taken, c.Place)
		}
		out = append(out, largest(f.profiles[i], taken))
	}
	slices.SortFunc(out, func(a, b [2]int) int { return slices.Compare(b[:], a[:]) })
	return out
}

func worse(a, b [][2]int) bool {
	return slices.CompareFunc(a, b, func(x, y [2]int) int { return slices.Compare(x[:], y[:]) }) < 0
}

// choices are all that can be done for a profile when the slices in destroyed are
// destroyed before.
func (f fleet) choices(i int, wanted string, destroyed []mig.Place) (out []mig.Choice) {
	taken := slices.DeleteFunc(f.places(i), func(p mig.Place) bool { return slices.Contains(destroyed, p) })
	for _, p := range f.profiles[i] {
		for _, start := range p.Starts {
			if p.Name == wanted && canTake(taken, p, start) {
				out = append(out, mig.Choice{GPU: f.gpus[i].UUID, Place: mig.Place{Profile: p.Name, Start: start, Size: p.Size}, Destroy: destroyed})
			}
		}
	}
	return out
}

func TestRankOffersEveryPlaceOfAllGPUsAndTheFirstLeavesTheLargestProfiles(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		f, wanted := w.draw(t)
		var all []mig.Choice
		for i := range f.gpus {
			all = append(all, f.choices(i, wanted, nil)...)
		}
		ranked := mig.Rank(f.gpus, wanted)
		if len(ranked) != len(all) {
			t.Fatalf("%d choices of %d: %v", len(ranked), len(all), ranked)
		}
		for i, c := range ranked {
			if !slices.ContainsFunc(all, func(other mig.Choice) bool { return reflect.DeepEqual(c, other) }) {
				t.Fatalf("%v is not possible", c)
			}
			if i > 0 && worse(f.left(ranked[i-1]), f.left(c)) {
				t.Fatalf("%v, which leaves %v, is before %v, which leaves %v", ranked[i-1], f.left(ranked[i-1]), c, f.left(c))
			}
		}
	})
}

func TestMakeRoomDestroysTheFewestIdleSlicesAndNoOther(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		f, wanted := w.draw(t)
		var fewest []mig.Choice // all choices that destroy as few as is possible
		for i, g := range f.gpus {
			var idle []mig.Place
			for _, s := range g.Slices {
				if s.Idle {
					idle = append(idle, s.Place)
				}
			}
			for subset := range 1 << len(idle) {
				var destroyed []mig.Place
				for n, p := range idle {
					if subset>>n&1 == 1 {
						destroyed = append(destroyed, p)
					}
				}
				if len(fewest) > 0 && len(destroyed) > len(fewest[0].Destroy) {
					continue
				}
				for _, c := range f.choices(i, wanted, destroyed) {
					if len(fewest) > 0 && len(destroyed) < len(fewest[0].Destroy) {
						fewest = nil
					}
					fewest = append(fewest, c)
				}
			}
		}
		got, ok := mig.MakeRoom(f.gpus, wanted)
		if ok != (len(fewest) > 0) {
			t.Fatalf("MakeRoom says %v, and there are %d ways", ok, len(fewest))
		}
		if !ok {
			return
		}
		if !slices.ContainsFunc(fewest, func(c mig.Choice) bool { return reflect.DeepEqual(c, got) }) {
			t.Fatalf("%v is not one of the ways that destroy fewest: %v", got, fewest)
		}
		for _, c := range fewest {
			if worse(f.left(got), f.left(c)) {
				t.Fatalf("%v leaves %v, and %v would leave %v", got, f.left(got), c, f.left(c))
			}
		}
		if ranked := mig.Rank(f.gpus, wanted); len(ranked) > 0 && !reflect.DeepEqual(got, ranked[0]) {
			t.Fatalf("nothing needs to be destroyed, and MakeRoom says %v instead of %v", got, ranked[0])
		}
	})
}

func TestChoiceDoesNotDependOnTheOrderOfSlicesNorOnEarlierQuestions(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		f, wanted := w.draw(t)
		before := mig.Rank(f.gpus, wanted)
		seed := rapid.Uint64().Draw(t, "seed")
		shuffled := slices.Clone(f.gpus)
		for i := range shuffled {
			shuffled[i].Slices = slices.Clone(shuffled[i].Slices)
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(shuffled[i].Slices), func(a, b int) {
				s := shuffled[i].Slices
				s[a], s[b] = s[b], s[a]
			})
		}
		if after := mig.Rank(shuffled, wanted); !reflect.DeepEqual(before, after) {
			t.Fatalf("%v became %v", before, after)
		}
	})
}

func TestSlicesGoWhereTheyKeepTheGPUUseful(t *testing.T) {
	m := modelOf(t, "h100")
	at := func(profile string, start, size int) mig.Place {
		return mig.Place{Profile: profile, Start: start, Size: size}
	}
	for _, row := range []struct {
		taken  []mig.Place
		wanted string
		start  int
		why    string
	}{
		{nil, "3g.40gb", 4, "4g.40gb can only be at 0"},
		{nil, "1g.10gb", 5, "4g.40gb keeps its place, and 1g.20gb the one at 6"},
		{[]mig.Place{at("1g.10gb", 5, 1)}, "2g.20gb", 2, "it takes 4g.40gb its place wherever it goes, and of equals the higher place wins"},
		{[]mig.Place{at("1g.10gb", 6, 1)}, "3g.40gb", 0, "there is no other place"},
		{[]mig.Place{at("3g.40gb", 4, 4)}, "4g.40gb", 0, "the GPU is full then"},
	} {
		got := mig.Rank(oneGPU(m, row.taken), row.wanted)
		if len(got) == 0 || got[0].Place.Start != row.start {
			t.Errorf("%s beside %v: %v, want %d, because %s", row.wanted, row.taken, got, row.start, row.why)
		}
	}
}

func TestSmallSliceGoesToTheGPUThatIsCutAlready(t *testing.T) {
	m := modelOf(t, "h200")
	whole := mig.GPU{UUID: "GPU-whole", Model: m}
	cut := mig.GPU{UUID: "GPU-cut", Model: m, Slices: []mig.Slice{{Place: mig.Place{Profile: "3g.71gb", Start: 4, Size: 4}}}}
	if got := mig.Rank([]mig.GPU{whole, cut}, "1g.18gb"); len(got) == 0 || got[0].GPU != "GPU-cut" {
		t.Errorf("%v", got)
	}
}

func TestSliceOfAnUnknownProfileTakesRoomAndIsNeverDestroyed(t *testing.T) {
	m := modelOf(t, "h100")
	foreign := mig.Place{Start: 3, Size: 2}
	if got := fmt.Sprint(m.Fitting([]mig.Place{foreign})); got != "[2g.20gb 1g.20gb 1g.10gb+me 1g.10gb]" {
		t.Errorf("beside it fit %s", got)
	}
	// No profile of this GPU can have the last memory slice alone.
	odd := oneGPU(m, []mig.Place{foreign, {Start: 7, Size: 1}})
	if got := mig.Rank(odd, "1g.10gb"); len(got) != 5 || got[0].Place.Start != 6 {
		t.Errorf("beside an odd one: %v", got)
	}
	gpus := oneGPU(m, []mig.Place{foreign})
	if c, ok := mig.MakeRoom(gpus, "7g.80gb"); ok {
		t.Errorf("%v", c)
	}
	if got := mig.Rank(gpus, "1g.10gb"); len(got) != 5 {
		t.Errorf("%v", got)
	}
}

func TestProfileThatNoGPUHasGoesNowhere(t *testing.T) {
	gpus := oneGPU(modelOf(t, "h100"), nil)
	if got := mig.Rank(gpus, "1g.5gb"); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if c, ok := mig.MakeRoom(gpus, "1g.5gb"); ok {
		t.Errorf("%v", c)
	}
}
