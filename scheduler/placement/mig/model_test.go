package mig_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ecolink/scheduler/placement/mig"
)

func TestReportThatCannotBeRightIsRefused(t *testing.T) {
	good := mig.Profile{Name: "1g.10gb", ComputeSlices: 1, Size: 1, Starts: []int{0, 1}, Max: 2}
	for name, change := range map[string]func(*mig.Profile){
		"no name":                func(p *mig.Profile) { p.Name = "" },
		"no compute slices":      func(p *mig.Profile) { p.ComputeSlices = 0 },
		"no memory slices":       func(p *mig.Profile) { p.Size = 0 },
		"no limit":               func(p *mig.Profile) { p.Max = 0 },
		"no place":               func(p *mig.Profile) { p.Starts = nil },
		"place below 0":          func(p *mig.Profile) { p.Starts = []int{-1} },
		"place past the end":     func(p *mig.Profile) { p.Starts = []int{16} },
		"size past the end":      func(p *mig.Profile) { p.Size = 17 },
		"place twice":            func(p *mig.Profile) { p.Starts = []int{1, 1} },
		"too far for its size":   func(p *mig.Profile) { p.Size, p.Starts = 8, []int{9} },
		"size below 0":           func(p *mig.Profile) { p.Size = -1 },
		"compute slices below 0": func(p *mig.Profile) { p.ComputeSlices = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := mig.NewModel([]mig.Profile{bad}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := mig.NewModel([]mig.Profile{good, good}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("one profile twice: %v", err)
	}
	var many []mig.Profile
	for i := range 9 {
		p := good
		p.Name, p.Max = fmt.Sprint(i), 1
		many = append(many, p)
	}
	if _, err := mig.NewModel(many); err == nil || !strings.Contains(err.Error(), "9 profiles with a limit") {
		t.Errorf("more limits than a model counts: %v", err)
	}
	wide := good
	wide.Name, wide.Starts = "wide", []int{15}
	if _, err := mig.NewModel(append(many[:3:3], wide)); err == nil || !strings.Contains(err.Error(), "16 memory slices") {
		t.Errorf("more states than a model goes through: %v", err)
	}
	if _, err := mig.NewModel(append(many[:2:2], wide)); err != nil {
		t.Errorf("as many states as a model goes through: %v", err)
	}
	if m, err := mig.NewModel(nil); err != nil || len(m.Fitting(nil)) != 0 {
		t.Errorf("a GPU that offers nothing: %v", err)
	}
}

func TestModelDoesNotKeepItsCallersSlices(t *testing.T) {
	starts := []int{1, 0}
	m, err := mig.NewModel([]mig.Profile{{Name: "a", ComputeSlices: 1, Size: 1, Starts: starts, Max: 2}})
	if err != nil {
		t.Fatal(err)
	}
	if starts[0] != 1 {
		t.Error("the caller's places were sorted")
	}
	starts[0] = 9
	if got := mig.Rank(oneGPU(m, nil), "a"); len(got) != 2 || got[0].Place.Start != 1 || got[1].Place.Start != 0 {
		t.Errorf("%v", got)
	}
}

func TestProfilesAreListedLargestFirst(t *testing.T) {
	if got := fmt.Sprint(modelOf(t, "h100").Profiles()); got != "[7g.80gb 4g.40gb 3g.40gb 2g.20gb 1g.20gb 1g.10gb+me 1g.10gb]" {
		t.Error(got)
	}
}

func TestWhatFitsIsWhatTheRuleAllows(t *testing.T) {
	profiles, m := reported(t, "a100"), modelOf(t, "a100")
	for _, taken := range everySet(profiles) {
		fitting := m.Fitting(taken)
		for _, p := range profiles {
			want := slices.ContainsFunc(p.Starts, func(start int) bool { return canTake(taken, p, start) })
			if slices.Contains(fitting, p.Name) != want {
				t.Fatalf("beside %v fit %v, and %s: %v", taken, fitting, p.Name, want)
			}
		}
	}
}

func TestLayoutIsRefusedWithWhatWouldDo(t *testing.T) {
	m := modelOf(t, "h100")
	_, err := mig.Fit(m, nil, []string{"3g.40gb", "9g.90gb"})
	unknown, ok := err.(*mig.UnknownProfileError)
	if !ok || unknown.Profile != "9g.90gb" || !slices.Equal(unknown.Known, m.Profiles()) || !strings.Contains(err.Error(), "7g.80gb, 4g.40gb") {
		t.Errorf("%v", err)
	}
	_, err = mig.Fit(m, nil, []string{"4g.40gb", "2g.20gb", "3g.40gb"})
	if want := "MIG slices 4g.40gb + 2g.20gb + 3g.40gb do not fit on one GPU: there is no room for 3g.40gb: there could be 1g.20gb or 1g.10gb+me or 1g.10gb instead"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	_, err = mig.Fit(m, nil, []string{"7g.80gb", "1g.10gb"})
	if err == nil || !strings.HasSuffix(err.Error(), "no room for 1g.10gb: leave it out") {
		t.Errorf("%v", err)
	}
}

func TestLayoutGoesBesideWhatIsThere(t *testing.T) {
	m := modelOf(t, "h100")
	taken := []mig.Place{{Profile: "1g.10gb", Start: 1, Size: 1}}
	places, err := mig.Fit(m, taken, []string{"2g.20gb", "3g.40gb"})
	if err != nil || fmt.Sprint(places) != "[{2g.20gb 2 2} {3g.40gb 4 4}]" {
		t.Errorf("%v, %v", places, err)
	}
	if places, err := mig.Fit(m, taken, []string{"4g.40gb"}); err == nil {
		t.Errorf("%v", places)
	}
	if places, err := mig.Fit(m, taken, nil); err != nil || len(places) != 0 {
		t.Errorf("an empty layout: %v, %v", places, err)
	}
}
