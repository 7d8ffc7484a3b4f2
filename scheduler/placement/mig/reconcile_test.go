package mig_test

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"ecolink/scheduler/placement/mig"
)

func TestRestartTellsOursFromWhatIsNot(t *testing.T) {
	place := mig.Place{Profile: "3g.40gb", Start: 4, Size: 4}
	other := mig.Place{Profile: "4g.40gb", Start: 0, Size: 4}
	record := func(progress mig.Progress, device string) mig.Record {
		return mig.Record{ID: 1, GPU: "GPU-a", Place: place, DeviceUUID: device, Progress: progress}
	}
	found := func(place mig.Place, devices ...string) mig.Found {
		return mig.Found{GPU: "GPU-a", Place: place, DeviceUUIDs: devices}
	}
	kept, missing, leftover, settled, unknown := "kept", "missing", "leftover", "settled", "unknown"
	for _, row := range []struct {
		story   string
		record  mig.Record
		found   []mig.Found
		gpu     string // that answered
		is      string
		adopt   string
		foreign int
	}{
		{"found again", record(mig.Made, "MIG-1"), []mig.Found{found(place, "MIG-1")}, "GPU-a", kept, "", 0},
		{"a reboot took it", record(mig.Made, "MIG-1"), nil, "GPU-a", missing, "", 0},
		{"another was made by hand in its place", record(mig.Made, "MIG-1"), []mig.Found{found(place, "MIG-2")}, "GPU-a", missing, "", 1},
		{"its device was destroyed by hand", record(mig.Made, "MIG-1"), []mig.Found{found(place)}, "GPU-a", missing, "", 1},
		{"a second device was made in it by hand", record(mig.Made, "MIG-1"), []mig.Found{found(place, "MIG-1", "MIG-2")}, "GPU-a", missing, "", 1},
		{"another profile begins there", record(mig.Made, "MIG-1"), []mig.Found{found(mig.Place{Profile: "1g.10gb", Start: 4, Size: 1}, "MIG-1")}, "GPU-a", missing, "", 1},
		{"one made by hand beside it", record(mig.Made, "MIG-1"), []mig.Found{found(other, "MIG-2"), found(place, "MIG-1")}, "GPU-a", kept, "", 1},
		{"its GPU does not answer", record(mig.Made, "MIG-1"), nil, "GPU-b", unknown, "", 0},
		{"cut off before it was made", record(mig.Making, ""), nil, "GPU-a", settled, "", 0},
		{"cut off between slice and device", record(mig.Making, ""), []mig.Found{found(place)}, "GPU-a", leftover, "", 0},
		{"cut off before it was written down", record(mig.Making, ""), []mig.Found{found(place, "MIG-1")}, "GPU-a", leftover, "MIG-1", 0},
		{"made by hand with two devices where ours was to be", record(mig.Making, ""), []mig.Found{found(place, "MIG-1", "MIG-2")}, "GPU-a", settled, "", 1},
		{"cut off, and its GPU does not answer", record(mig.Making, ""), nil, "GPU-b", unknown, "", 0},
		{"cut off before it was destroyed", record(mig.Destroying, "MIG-1"), []mig.Found{found(place, "MIG-1")}, "GPU-a", leftover, "", 0},
		{"cut off while it was destroyed", record(mig.Destroying, "MIG-1"), []mig.Found{found(place)}, "GPU-a", leftover, "", 0},
		{"cut off when it was destroyed", record(mig.Destroying, "MIG-1"), nil, "GPU-a", settled, "", 0},
		{"destroyed, and made by hand since", record(mig.Destroying, "MIG-1"), []mig.Found{found(place, "MIG-2")}, "GPU-a", settled, "", 1},
	} {
		r := mig.Reconcile([]mig.Record{row.record}, []string{row.gpu}, row.found)
		counts := map[string]int{kept: len(r.Kept), missing: len(r.Missing), leftover: len(r.Leftovers), settled: len(r.Settled), unknown: len(r.Unknown)}
		for list, n := range counts {
			if want := map[bool]int{true: 1}[list == row.is]; n != want {
				t.Errorf("%s: %d %s, want %d: %+v", row.story, n, list, want, r)
			}
		}
		if len(r.Foreign) != row.foreign {
			t.Errorf("%s: foreign are %v", row.story, r.Foreign)
		}
		for _, m := range r.Leftovers {
			if device, ok := m.Adoptable(); device != row.adopt || ok != (row.adopt != "") {
				t.Errorf("%s: adopt %q, %v", row.story, device, ok)
			}
		}
	}
}

// Whatever the database and the driver say: each record and each slice is in one
// list, and a slice that no record names is foreign, so that nobody destroys it.
func TestEveryRecordAndEverySliceIsInOneList(t *testing.T) {
	gpus := []string{"GPU-a", "GPU-b"}
	places := []mig.Place{{Profile: "3g.40gb", Start: 0, Size: 4}, {Profile: "3g.40gb", Start: 4, Size: 4}, {Profile: "1g.10gb", Start: 4, Size: 1}, {Profile: "", Start: 6, Size: 1}}
	device := rapid.SampledFrom([]string{"MIG-1", "MIG-2", "MIG-3"})
	rapid.Check(t, func(t *rapid.T) {
		var records []mig.Record
		for i := range rapid.IntRange(0, 5).Draw(t, "records") {
			r := mig.Record{
				ID: int64(i), GPU: rapid.SampledFrom(gpus).Draw(t, "GPU"), Place: rapid.SampledFrom(places).Draw(t, "place"),
				Progress: mig.Progress(rapid.IntRange(0, 2).Draw(t, "progress")),
			}
			if r.Progress != mig.Making {
				r.DeviceUUID = device.Draw(t, "device")
			}
			records = append(records, r)
		}
		answered := rapid.SliceOfDistinct(rapid.SampledFrom(gpus), rapid.ID).Draw(t, "answered")
		var found []mig.Found
		for _, gpu := range answered {
			for _, place := range places {
				if rapid.Bool().Draw(t, "there") {
					found = append(found, mig.Found{GPU: gpu, Place: place, DeviceUUIDs: rapid.SliceOfNDistinct(device, 0, 2, rapid.ID).Draw(t, "devices")})
				}
			}
		}
		r := mig.Reconcile(records, answered, found)

		inLists, slicesInLists := map[int64]int{}, map[string]int{}
		for _, m := range append(append([]mig.Match{}, r.Kept...), r.Leftovers...) {
			inLists[m.Record.ID]++
			slicesInLists[fmt.Sprint(m.Found.GPU, m.Found.Place)]++
			if m.Record.GPU != m.Found.GPU || m.Record.Place != m.Found.Place {
				t.Fatalf("%+v is not %+v", m.Record, m.Found)
			}
		}
		for _, list := range [][]mig.Record{r.Missing, r.Settled, r.Unknown} {
			for _, record := range list {
				inLists[record.ID]++
			}
		}
		for _, f := range r.Foreign {
			slicesInLists[fmt.Sprint(f.GPU, f.Place)]++
		}
		for _, record := range records {
			if inLists[record.ID] != 1 {
				t.Fatalf("%+v is in %d lists: %+v", record, inLists[record.ID], r)
			}
		}
		for _, f := range found {
			if slicesInLists[fmt.Sprint(f.GPU, f.Place)] != 1 {
				t.Fatalf("%+v is in %d lists: %+v", f, slicesInLists[fmt.Sprint(f.GPU, f.Place)], r)
			}
		}
		if len(slicesInLists) != len(found) {
			t.Fatalf("%d slices became %d", len(found), len(slicesInLists))
		}
		if again := mig.Reconcile(records, answered, found); !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}
