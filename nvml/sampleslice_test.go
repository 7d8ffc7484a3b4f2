package nvml

import (
	"slices"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// cut makes a slice of the smallest profile on GPU i, and gives a way to undo it.
func (m measured) cut(i int) (destroy func()) {
	m.t.Helper()
	must := func(code gonvml.Return) {
		m.t.Helper()
		if code != gonvml.SUCCESS {
			m.t.Fatal(code)
		}
	}
	d := m.device(i)
	profile, code := d.GetGpuInstanceProfileInfo(gonvml.GPU_INSTANCE_PROFILE_1_SLICE)
	must(code)
	gi, code := d.CreateGpuInstance(&profile)
	must(code)
	all, code := gi.GetComputeInstanceProfileInfo(gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE, gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
	must(code)
	ci, code := gi.CreateComputeInstance(&all)
	must(code)
	return func() {
		m.t.Helper()
		must(ci.Destroy())
		must(gi.Destroy())
	}
}

func (m measured) enableMIG(i int) {
	m.t.Helper()
	if activation, code := m.device(i).SetMigMode(gonvml.DEVICE_MIG_ENABLE); code != gonvml.SUCCESS || activation != gonvml.SUCCESS {
		m.t.Fatal(activation, code)
	}
}

// slicesOf are the samples of a GPU's MIG devices.
func slicesOf(all []Sample, gpu string) []Sample {
	return slices.DeleteFunc(slices.Clone(all), func(s Sample) bool { return s.ParentUUID != gpu })
}

func TestMIGDeviceHasItsMemoryAndItsProcesses(t *testing.T) {
	m := newMeasured(t, simulated.Layout{Type: "h100", Count: 2})
	m.enableMIG(1)
	for range 7 {
		m.cut(1)
	}
	slice, code := m.device(1).GetMigDeviceHandleByIndex(3)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	m.telemetry(slice).SetLoad(simulated.Load{Processes: []simulated.Process{{PID: 77, MemoryBytes: 3 << 30, SMPercent: 50}}})
	all := m.sample()
	if len(all) != 9 || all[0].Index != 0 || all[1].Index != 1 || all[1].ParentUUID != "" {
		t.Fatalf("%d samples, the first of %d and %d", len(all), all[0].Index, all[1].Index)
	}
	gpu := all[1]
	if got := slicesOf(all, gpu.UUID); len(got) != 7 {
		t.Fatalf("%d MIG devices", len(got))
	}
	uuid, _ := slice.GetUUID()
	i := slices.IndexFunc(all, func(s Sample) bool { return s.UUID == uuid })
	if i < 0 {
		t.Fatalf("%s is not sampled", uuid)
	}
	if got, want := fieldsOf(t, all[i]), []string{"index", "memory_total_bytes", "memory_used_bytes", "parent_uuid", "processes", "time", "uuid"}; !slices.Equal(got, want) {
		t.Errorf("a MIG device has %v", got)
	}
	want := []ProcessUse{{PID: 77, MemoryBytes: Known[uint64](3 << 30)}}
	if value(t, "memory", all[i].MemoryUsedBytes) != 3<<30 || !slices.Equal(all[i].Processes, want) {
		t.Errorf("the busy slice is %+v", all[i])
	}
	if !slices.Equal(gpu.Processes, want) || value(t, "memory", gpu.MemoryUsedBytes) != 3<<30 {
		t.Errorf("its GPU is %+v", gpu)
	}
	if _, ok := gpu.GPUPercent.Get(); ok {
		t.Error("a driver tells no utilisation of a GPU in MIG mode")
	}
}

func TestSlicesThatComeAndGoAreFollowed(t *testing.T) {
	m := newMeasured(t, simulated.Layout{Type: "a100", Count: 1})
	m.enableMIG(0)
	destroy := m.cut(0)
	if all := m.sample(); len(all) != 2 {
		t.Fatalf("%d samples", len(all))
	}
	m.cut(0)
	for range sliceListEvery {
		m.sample()
	}
	if all := m.sample(); len(all) != 3 {
		t.Errorf("the second slice is not there: %d samples", len(all))
	}
	destroy()
	if all := m.sample(); len(all) != 2 {
		t.Errorf("the first slice is still there: %d samples", len(all))
	}
}
