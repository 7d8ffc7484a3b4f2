package mig

import (
	"fmt"
	"slices"
	"strings"
)

// UnknownProfileError is a layout with a profile that the GPU does not offer.
type UnknownProfileError struct {
	Profile string
	Known   []string // largest first
}

func (e *UnknownProfileError) Error() string {
	return fmt.Sprintf("this GPU has no MIG profile %q: choose from %s", e.Profile, strings.Join(e.Known, ", "))
}

// NoFitError is a layout of known profiles that are too much for the GPU.
type NoFitError struct {
	Wanted  []string
	Profile string   // the first of Wanted that no longer fits beside those before it
	Fitting []string // what could be there instead of it, largest first
}

func (e *NoFitError) Error() string {
	instead := "leave it out"
	if len(e.Fitting) > 0 {
		instead = "there could be " + strings.Join(e.Fitting, " or ") + " instead"
	}
	return fmt.Sprintf("MIG slices %s do not fit on one GPU: there is no room for %s: %s", strings.Join(e.Wanted, " + "), e.Profile, instead)
}

// Fit finds places for all the profiles of a layout beside the slices that are
// there already, one for each of wanted in its order. Of several ways it takes
// the one after which the most can still be added, by the measure of Rank. The
// error is an UnknownProfileError or a
// NoFitError.
func Fit(m *Model, taken []Place, wanted []string) ([]Place, error) {
	for _, name := range wanted {
		if m.index(name) < 0 {
			return nil, &UnknownProfileError{Profile: name, Known: m.Profiles()}
		}
	}
	begin := m.stateOf(taken)
	for n := range wanted {
		if _, ok := m.arrange(begin, wanted[:n+1]); !ok {
			before, _ := m.arrange(begin, wanted[:n])
			return nil, &NoFitError{Wanted: wanted, Profile: wanted[n], Fitting: m.Fitting(append(slices.Clone(taken), before...))}
		}
	}
	places, _ := m.arrange(begin, wanted)
	return places, nil
}

// arrange tries every way to place the profiles. Slices of one profile are alike,
// so of those only rising places are tried.
func (m *Model) arrange(begin state, wanted []string) (best []Place, ok bool) {
	var bestOutlook outlook
	current := make([]Place, 0, len(wanted))
	var next func(s state)
	next = func(s state) {
		if len(current) == len(wanted) {
			if o := m.outlook(s); !ok || o.compare(bestOutlook) > 0 {
				best, bestOutlook, ok = slices.Clone(current), o, true
			}
			return
		}
		name := wanted[len(current)]
		i, above := m.index(name), -1
		for _, p := range current {
			if p.Profile == name {
				above = p.Start
			}
		}
		for _, start := range m.profiles[i].Starts {
			if start > above && m.fits(s, i, start) {
				current = append(current, m.place(i, start))
				next(m.with(s, i, start))
				current = current[:len(current)-1]
			}
		}
	}
	next(begin)
	return best, ok
}
