package mig

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

const (
	// maxPositions is how many memory slices a GPU can have; those of today have 4
	// or 8. Making room looks at every subset of the slices that can be in them.
	maxPositions = 16
	// maxLimited is how many profiles can have a limit that places alone do not
	// set, as 1g.10gb+me has. Such a limit is below maxPositions, so that four bits
	// hold a count.
	maxLimited = 8
	maxCount   = 15
	// maxStates is how many states a model may go through; an H100 has 512 at most.
	maxStates = 1 << 18
)

// Profile is a size of slice that a driver offers on one model of GPU.
type Profile struct {
	Name          string // such as 3g.40gb
	ComputeSlices int    // 3 in 3g.40gb
	Size          int    // how many of the GPU's memory slices it takes
	Starts        []int  // at which memory slices it can begin
	Max           int    // how many of it a GPU can have at most
}

// Place is a slice of a profile that takes Size memory slices from Start.
type Place struct {
	Profile string
	Start   int
	Size    int
}

func (p Place) mask() uint64 { return (1<<p.Size - 1) << p.Start }

// Model is what one model of GPU can be cut into, with how every state of it
// compares with every other. It does not change and is safe for concurrent use.
type Model struct {
	profiles []Profile // largest first
	limit    []int     // for each profile, the place of its count in state.used, or -1
	outlooks map[state]outlook
}

// state is what matters of the slices on a GPU for what else fits.
type state struct {
	taken uint64 // a bit for each memory slice
	used  uint64 // four bits for each limited profile: how many there are
}

// NewModel takes the profiles as the driver reports them, in any order, and
// fails when they cannot be right. It goes through every state that the GPU can
// be in, some hundreds, so keep what it returns.
func NewModel(profiles []Profile) (*Model, error) {
	m := &Model{outlooks: map[state]outlook{}}
	for _, p := range profiles {
		if err := check(p); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(m.profiles, func(q Profile) bool { return q.Name == p.Name }) {
			return nil, fmt.Errorf("MIG profile %s is reported twice", p.Name)
		}
		p.Starts = slices.Clone(p.Starts)
		slices.Sort(p.Starts)
		m.profiles = append(m.profiles, p)
	}
	slices.SortFunc(m.profiles, compareProfiles)
	limited, positions, states := 0, 0, 1
	for _, p := range m.profiles {
		positions = max(positions, p.Starts[len(p.Starts)-1]+p.Size)
		if p.Max >= disjoint(p, 0) {
			m.limit = append(m.limit, -1)
			continue
		}
		m.limit = append(m.limit, limited)
		limited++
		states = min(states*(p.Max+1), maxStates)
	}
	if states <<= positions; limited > maxLimited || states > maxStates {
		return nil, fmt.Errorf("MIG profiles %v: too many ways to cut this GPU: %d memory slices, %d profiles with a limit", m.Profiles(), positions, limited)
	}
	m.explore(state{}, m.outlooks)
	return m, nil
}

func check(p Profile) error {
	if p.Name == "" || p.ComputeSlices < 1 || p.Size < 1 || p.Max < 1 || len(p.Starts) == 0 {
		return fmt.Errorf("MIG profile %+v is incomplete: a name, slices, a limit and a place are needed", p)
	}
	for i, start := range p.Starts {
		if start < 0 || start+p.Size > maxPositions || slices.Contains(p.Starts[:i], start) {
			return fmt.Errorf("MIG profile %s cannot begin at %d: places are different and within %d memory slices", p.Name, start, maxPositions)
		}
	}
	return nil
}

// compareProfiles puts the largest first, and of equally large ones the scarcer.
func compareProfiles(a, b Profile) int {
	return cmp.Or(cmp.Compare(b.rank(), a.rank()), cmp.Compare(a.Max, b.Max), strings.Compare(a.Name, b.Name))
}

// Profiles are the names, largest first.
func (m *Model) Profiles() []string {
	var out []string
	for _, p := range m.profiles {
		out = append(out, p.Name)
	}
	return out
}

// Fitting are the profiles of which one more fits beside the slices, largest first.
func (m *Model) Fitting(taken []Place) []string {
	s := m.stateOf(taken)
	var out []string
	for i, p := range m.profiles {
		if slices.ContainsFunc(p.Starts, func(start int) bool { return m.fits(s, i, start) }) {
			out = append(out, p.Name)
		}
	}
	return out
}

func (m *Model) index(profile string) int {
	return slices.IndexFunc(m.profiles, func(p Profile) bool { return p.Name == profile })
}

// stateOf takes any slices; one of a profile that the model lacks takes room and
// counts for no limit.
func (m *Model) stateOf(taken []Place) state {
	var s state
	for _, p := range taken {
		s.taken |= p.mask()
		if i := m.index(p.Profile); i >= 0 && m.limit[i] >= 0 && m.count(s, i) < maxCount {
			s.used += 1 << (4 * m.limit[i])
		}
	}
	return s
}

func (m *Model) count(s state, i int) int { return int(s.used >> (4 * m.limit[i]) & maxCount) }

func (m *Model) fits(s state, i, start int) bool {
	if m.limit[i] >= 0 && m.count(s, i) >= m.profiles[i].Max {
		return false
	}
	return s.taken&m.place(i, start).mask() == 0
}

func (m *Model) place(i, start int) Place {
	return Place{Profile: m.profiles[i].Name, Start: start, Size: m.profiles[i].Size}
}

// with is the state after a slice that fits was made.
func (m *Model) with(s state, i, start int) state {
	s.taken |= m.place(i, start).mask()
	if m.limit[i] >= 0 {
		s.used += 1 << (4 * m.limit[i])
	}
	return s
}

// disjoint is how many slices of p fit side by side, its limit aside. All have
// one size, so taking the lowest place each time gives the most.
func disjoint(p Profile, taken uint64) int {
	n := 0
	for _, start := range p.Starts {
		mask := Place{Start: start, Size: p.Size}.mask()
		if taken&mask == 0 {
			taken |= mask
			n++
		}
	}
	return n
}

func (s state) positions() int { return bits.OnesCount64(s.taken) }
