package mig_test

import (
	"testing"

	"pgregory.net/rapid"

	"ecolink/nvml"
	"ecolink/scheduler/placement/mig"
)

// gpuTypes are the GPUs whose every state the tests go through.
func gpuTypes() []string { return []string{"a100", "h100", "h200", "b200"} }

// reported are the profiles of a simulated GPU, as its driver reports them.
func reported(t testing.TB, gpuType string) []mig.Profile {
	t.Helper()
	l, err := nvml.Open("simulated:" + gpuType + "x1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	inv, err := l.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	s, err := nvml.NewPartitioner(l).Read(inv.GPUs[0].UUID)
	if err != nil {
		t.Fatal(err)
	}
	var out []mig.Profile
	for _, p := range s.Profiles {
		profile := mig.Profile{Name: p.Name, ComputeSlices: p.ComputeSlices, Max: p.MaxSlices}
		for _, place := range p.Placements {
			profile.Size = place.Size
			profile.Starts = append(profile.Starts, place.Start)
		}
		out = append(out, profile)
	}
	return out
}

func modelOf(t testing.TB, gpuType string) *mig.Model {
	t.Helper()
	m, err := mig.NewModel(reported(t, gpuType))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Slices come and go on a simulated GPU: where the model says that one fits the
// driver makes it, and where it says that none fits the driver refuses it at every
// place. So the model's idea of room is the driver's.
func TestDriverMakesWhatTheModelSaysAndRefusesTheRest(t *testing.T) {
	models := map[string]*mig.Model{}
	for _, gpuType := range gpuTypes() {
		models[gpuType] = modelOf(t, gpuType)
	}
	rapid.Check(t, func(t *rapid.T) {
		gpuType := rapid.SampledFrom(gpuTypes()).Draw(t, "type")
		l, err := nvml.Open("simulated:" + gpuType + "x1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		inv, err := l.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		driver, gpu, m := nvml.NewPartitioner(l), inv.GPUs[0].UUID, models[gpuType]
		if _, err := driver.SetMode(gpu, true); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			s, err := driver.Read(gpu)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Slices) > 0 && rapid.IntRange(0, 2).Draw(t, "destroy") == 0 {
				if err := driver.Destroy(gpu, rapid.SampledFrom(s.Slices).Draw(t, "slice")); err != nil {
					t.Fatal(err)
				}
				continue
			}
			g := mig.GPU{UUID: gpu, Model: m}
			for _, x := range s.Slices {
				g.Slices = append(g.Slices, mig.Slice{Place: mig.Place{Profile: x.Profile, Start: x.Placement.Start, Size: x.Placement.Size}})
			}
			wanted := rapid.SampledFrom(s.Profiles).Draw(t, "profile")
			ranked := mig.Rank([]mig.GPU{g}, wanted.Name)
			if len(ranked) > 0 {
				if _, err := driver.Create(gpu, wanted.Name, ranked[0].Place.Start); err != nil {
					t.Fatalf("%v beside %v: %v", ranked[0].Place, s.Slices, err)
				}
				continue
			}
			for _, place := range wanted.Placements {
				if _, err := driver.Create(gpu, wanted.Name, place.Start); nvml.MIGErrorKindOf(err) != nvml.MIGNoRoom {
					t.Fatalf("%s at %d beside %v: %v", wanted.Name, place.Start, s.Slices, err)
				}
			}
		}
	})
}
