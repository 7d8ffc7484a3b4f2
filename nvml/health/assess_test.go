package health

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func some[T any](v T) *T { return &v }

// well is a GPU that answers everything, and has nothing wrong.
func well(index int) Facts {
	return Facts{
		Index: index, UUID: fmt.Sprintf("GPU-%c", 'a'+index), PCIAddress: fmt.Sprintf("0000:%02x:00.0", 16+index), Reach: Answers,
		UncorrectableECC: some(uint64(0)), SRAMThresholdExceeded: some(false),
		RemappedRows: &RemappedRows{}, RetiredPages: &RetiredPages{}, Slowdown: &Slowdown{}, Recovery: some(NoRecovery),
		Links: []Link{{Link: 0, Up: true, Replays: some(uint64(0)), Retrains: some(uint64(0)), CRC: some(uint64(0))}, {Link: 1}},
	}
}

func machine(gpus ...Facts) Snapshot { return Snapshot{At: noon(), Listed: true, GPUs: gpus} }

// findings of each GPU as "uuid kind severity".
func findings(all []Assessment) (out []string) {
	for _, a := range all {
		for _, f := range a.Findings {
			out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(f.UUID, "GPU-"), f.Kind, f.Severity))
		}
	}
	return out
}

func TestEachFactIsFoundWithItsSeverity(t *testing.T) {
	for _, c := range []struct {
		change func(*Facts)
		want   string
	}{
		{func(f *Facts) { f.UncorrectableECC = some(uint64(2)) }, "uncorrectable_ecc cordon"},
		{func(f *Facts) { f.SRAMThresholdExceeded = some(true) }, "sram_threshold cordon"},
		{func(f *Facts) { f.RemappedRows.Failed = true }, "row_remap_failed cordon"},
		{func(f *Facts) { f.RemappedRows.Pending = true }, "row_remap_pending watch"},
		{func(f *Facts) { f.RemappedRows.Uncorrectable = 3 }, ""},
		{func(f *Facts) { f.RetiredPages.Pending = true }, "page_retirement_pending watch"},
		{func(f *Facts) { f.Slowdown = &Slowdown{Thermal: true, SoftwareThermal: true, Hardware: true} }, "thermal_slowdown cordon"},
		{func(f *Facts) { f.Slowdown.SoftwareThermal = true }, "thermal_limit watch"},
		{func(f *Facts) { f.Slowdown = &Slowdown{PowerBrake: true, Hardware: true} }, "power_brake cordon"},
		{func(f *Facts) { f.Slowdown.Hardware = true }, "hardware_slowdown cordon"},
		{func(f *Facts) { f.Links[0].Replays = some(uint64(1)) }, "nvlink_errors watch"},
		{func(f *Facts) { f.Links[0].Retrains = some(uint64(1)) }, "nvlink_errors watch"},
		{func(f *Facts) { f.Links[0].CRC = some(uint64(1)) }, "nvlink_errors watch"},
		{func(f *Facts) { f.Links[0].Up = false }, "nvlink_down cordon"},
		{func(f *Facts) { f.Recovery = some(ResetGPU) }, "recovery_action cordon"},
		{func(f *Facts) { f.Recovery = some(OtherRecovery) }, "recovery_action cordon"},
		{func(f *Facts) { f.Reach, f.Detail = Hangs, "no answer" }, "hangs cordon"},
		{func(f *Facts) { f.Reach, f.Detail = Lost, "GPU is lost" }, "fallen_off_the_bus cordon"},
		{func(f *Facts) { f.Reach, f.Detail = Unreadable, "Insufficient Permissions" }, "unreadable cordon"},
	} {
		bad := well(1)
		c.change(&bad)
		var want []string
		if c.want != "" {
			want = []string{"b " + c.want}
		}
		all := Assess(machine(well(0), well(1)), machine(well(0), bad))
		if got := findings(all); !reflect.DeepEqual(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
		for _, f := range all[1].Findings {
			if !strings.HasSuffix(f.Explanation, ".") || !strings.HasSuffix(f.Do, ".") || f.Key == "" {
				t.Errorf("%+v", f)
			}
		}
	}
}

func TestUnknownFactsAreNoFindings(t *testing.T) {
	bare := Facts{UUID: "GPU-a", Reach: Answers, Links: []Link{{Link: 0, Up: true}}}
	if got := findings(Assess(machine(well(0)), machine(bare))); got != nil {
		t.Errorf("%q", got)
	}
	if got := findings(Assess(machine(bare), machine(well(0)))); got != nil {
		t.Errorf("%q", got)
	}
}

func TestCounterThatBeganAnewCountsFromZero(t *testing.T) {
	before, now := well(0), well(0)
	before.Links[0].CRC, now.Links[0].CRC = some(uint64(100)), some(uint64(0))
	if got := findings(Assess(machine(before), machine(now))); got != nil {
		t.Errorf("%q", got)
	}
	now.Links[0].CRC = some(uint64(7))
	all := Assess(machine(before), machine(now))
	if len(all[0].Findings) != 1 || !strings.Contains(all[0].Findings[0].Explanation, "7 damaged packets") {
		t.Errorf("%+v", all)
	}
}

func TestDriverThatFailsSaysNothingOfItsGPUs(t *testing.T) {
	before := machine(well(0), well(1))
	now := Snapshot{At: noon(), Problem: "the driver is gone"}
	all := Assess(before, now)
	if len(all) != 2 || !all[0].Blind || !all[1].Blind || findings(all) != nil {
		t.Errorf("%+v", all)
	}
	if kept := Remember(before, now); !reflect.DeepEqual(kept, before) {
		t.Errorf("%+v", kept)
	}
}

func TestIndexesThatMovedAreNoFinding(t *testing.T) {
	before := machine(well(0), well(1), well(2))
	moved := []Facts{well(2), well(0), well(1)}
	for i := range moved {
		moved[i].Index = i
	}
	if got := findings(Assess(before, machine(moved...))); got != nil {
		t.Errorf("%q", got)
	}
	for _, g := range Remember(before, machine(moved...)).GPUs {
		if now, _ := machine(moved...).gpu(g.UUID); now.Index != g.Index {
			t.Errorf("%s is remembered at %d", g.UUID, g.Index)
		}
	}
}

func TestMissingGPUStaysMissingUntilItIsForgottenOrBack(t *testing.T) {
	before := machine(well(0), well(1))
	one := well(1)
	one.Index = 0
	for range 3 {
		if got := findings(Assess(before, machine(one))); !reflect.DeepEqual(got, []string{"a missing cordon"}) {
			t.Fatalf("%q", got)
		}
		before = Remember(before, machine(one))
	}
	if got := findings(Assess(before, machine(well(0), well(1)))); got != nil {
		t.Errorf("back: %q", got)
	}
	if got := findings(Assess(Forget(before, "GPU-a"), machine(one))); got != nil {
		t.Errorf("forgotten: %q", got)
	}
}

func TestReplacedGPUNamesTheNewOneAndStaysReplaced(t *testing.T) {
	before := machine(well(0), well(1))
	another := well(1)
	another.UUID = "GPU-new"
	now := machine(well(0), another)
	for range 3 {
		all := Assess(before, now)
		if got := findings(all); !reflect.DeepEqual(got, []string{"b replaced cordon"}) {
			t.Fatalf("%q", got)
		}
		if text := all[1].Findings[0].Explanation; !strings.Contains(text, "GPU-new") || !strings.Contains(text, another.PCIAddress) {
			t.Errorf("%q", text)
		}
		before = Remember(before, now)
	}
}

func TestGPUThatMovedIntoAnEmptySlotReplacesNothing(t *testing.T) {
	moved := well(1)
	moved.PCIAddress = well(0).PCIAddress
	if got := findings(Assess(machine(well(0), well(1)), machine(moved))); !reflect.DeepEqual(got, []string{"a missing cordon"}) {
		t.Errorf("%q", got)
	}
}

func TestGPUThatDoesNotTellItsUUIDIsFoundOut(t *testing.T) {
	silent := func(index int) Facts { return Facts{Index: index, Reach: Hangs, Detail: "no answer"} }
	before := machine(well(0), well(1), well(2))
	shifted := well(2)
	shifted.Index = 0
	for name, c := range map[string]struct {
		now  Snapshot
		want []string
	}{
		"in its place":         {machine(well(0), silent(1), well(2)), []string{"b hangs cordon"}},
		"two in their places":  {machine(silent(0), well(1), silent(2)), []string{"a hangs cordon", "c hangs cordon"}},
		"the only one left":    {machine(shifted, well(1), silent(2)), []string{"a hangs cordon"}},
		"one silent, one gone": {machine(well(0), silent(1)), []string{"b unreadable cordon", "c unreadable cordon"}},
		"a new one":            {machine(well(0), well(1), well(2), silent(3)), nil},
	} {
		all := Assess(before, c.now)
		if got := findings(all); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		for _, a := range all {
			if len(a.Findings) > 0 && !a.Blind {
				t.Errorf("%s: %s is not blind", name, a.UUID)
			}
		}
	}
}

func TestSilentGPUKeepsWhatItSaidLast(t *testing.T) {
	hung := Facts{Index: 5, UUID: "GPU-a", Reach: Hangs}
	kept := Remember(machine(well(0)), machine(hung))
	want := well(0)
	want.Index = 5
	if !reflect.DeepEqual(kept.GPUs, []Facts{want}) {
		t.Errorf("%+v", kept.GPUs)
	}
}

// Whatever the two snapshots are: each known GPU is judged once and under its own
// UUID, keys of one GPU differ, and the same question has the same answer.
func TestAssessJudgesEachGPUOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, now := drawSnapshot(t, "before"), drawSnapshot(t, "now")
		before = Remember(Snapshot{}, before)
		all := Assess(before, now)
		if again := Assess(before, now); !reflect.DeepEqual(all, again) {
			t.Fatalf("%+v\n%+v", all, again)
		}
		seen := map[string]bool{}
		for _, a := range all {
			if a.UUID == "" || seen[a.UUID] {
				t.Fatalf("%q is judged twice or has no UUID", a.UUID)
			}
			seen[a.UUID] = true
			keys := map[string]bool{}
			for _, f := range a.Findings {
				if f.UUID != a.UUID || keys[f.Key] || f.Severity == "" {
					t.Fatalf("%+v in %+v", f, a)
				}
				keys[f.Key] = true
			}
		}
		for _, b := range before.GPUs {
			if !seen[b.UUID] {
				t.Fatalf("%s is not judged", b.UUID)
			}
		}
		for _, uuid := range Remember(before, now).GPUs {
			if !seen[uuid.UUID] {
				t.Fatalf("%s is remembered and was not judged", uuid.UUID)
			}
		}
	})
}

func drawSnapshot(t *rapid.T, label string) Snapshot {
	s := Snapshot{At: noon(), Listed: rapid.Float64Range(0, 1).Draw(t, label) < 0.9}
	if !s.Listed {
		return s
	}
	for index, who := range rapid.Permutation([]int{0, 1, 2, 3, 4}).Draw(t, label+" order")[:rapid.IntRange(0, 5).Draw(t, label+" count")] {
		g := well(who)
		g.Index = index
		g.Reach = rapid.SampledFrom([]Reach{Answers, Answers, Hangs, Lost, Unreadable}).Draw(t, label+" reach")
		if g.Reach != Answers && rapid.Bool().Draw(t, label+" silent") {
			g.UUID, g.PCIAddress = "", ""
		}
		g.Slowdown.Thermal = rapid.Bool().Draw(t, label+" hot")
		g.Links[0].Up = rapid.Bool().Draw(t, label+" up")
		g.Links[0].CRC = some(rapid.Uint64Range(0, 3).Draw(t, label+" crc"))
		s.GPUs = append(s.GPUs, g)
	}
	return s
}
