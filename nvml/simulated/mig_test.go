package simulated

import (
	"fmt"
	"strings"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// partitionedGPU is a GPU with MIG on, and its machine.
func partitionedGPU(t *testing.T, gpuType string) (gonvml.Interface, gonvml.Device) {
	t.Helper()
	m := newMachine(t, Layout{gpuType, 1})
	d, _ := m.DeviceGetHandleByIndex(0)
	if activation, code := d.SetMigMode(gonvml.DEVICE_MIG_ENABLE); activation != gonvml.SUCCESS || code != gonvml.SUCCESS {
		t.Fatal(activation, code)
	}
	return m, d
}

func profile(t *testing.T, d gonvml.Device, index int) *gonvml.GpuInstanceProfileInfo {
	t.Helper()
	info, code := d.GetGpuInstanceProfileInfo(index)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	return &info
}

// makeSlice makes a slice with one device that has all of it.
func makeSlice(t *testing.T, d gonvml.Device, index, computeIndex int) (gonvml.GpuInstance, gonvml.ComputeInstance) {
	t.Helper()
	gi, code := d.CreateGpuInstance(profile(t, d, index))
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	info, code := gi.GetComputeInstanceProfileInfo(computeIndex, gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	ci, code := gi.CreateComputeInstance(&info)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	return gi, ci
}

// `nvidia-smi mig -lgipp` prints just these lines on real A100s and H100s.
func TestPlacementsAreTheDriversOnEveryGPU(t *testing.T) {
	want := strings.Join([]string{
		"19 [{0 1} {1 1} {2 1} {3 1} {4 1} {5 1} {6 1}]", "14 [{0 2} {2 2} {4 2}]", "9 [{0 4} {4 4}]", "5 [{0 4}]", "0 [{0 8}]",
		"20 [{0 1} {1 1} {2 1} {3 1} {4 1} {5 1} {6 1}]", "15 [{0 2} {2 2} {4 2} {6 2}]",
	}, "\n")
	for _, gpuType := range Types() {
		d, _ := newMachine(t, Layout{gpuType, 1}).DeviceGetHandleByIndex(0)
		var got []string
		for index := range gonvml.GPU_INSTANCE_PROFILE_COUNT {
			info, code := d.GetGpuInstanceProfileInfo(index)
			if code == gonvml.ERROR_NOT_SUPPORTED {
				continue
			}
			places, code := d.GetGpuInstancePossiblePlacements(&info)
			if code != gonvml.SUCCESS {
				t.Fatal(code)
			}
			got = append(got, fmt.Sprint(info.Id, places))
		}
		if all := strings.ReplaceAll(strings.Join(got, "\n"), "[{", " [{"); strings.ReplaceAll(all, "  ", " ") != want {
			t.Errorf("%s:\n%s\nwant\n%s", gpuType, all, want)
		}
		for _, index := range []int{-1, gonvml.GPU_INSTANCE_PROFILE_COUNT} {
			if _, code := d.GetGpuInstanceProfileInfo(index); code != gonvml.ERROR_INVALID_ARGUMENT {
				t.Errorf("profile %d: %v", index, code)
			}
		}
	}
}

func TestMemoryIsNotGivenTwice(t *testing.T) {
	_, d := partitionedGPU(t, "h100")
	half := profile(t, d, gonvml.GPU_INSTANCE_PROFILE_3_SLICE)
	if left, code := d.GetGpuInstanceRemainingCapacity(half); left != 2 || code != gonvml.SUCCESS {
		t.Errorf("%d, %v", left, code)
	}
	if _, code := d.CreateGpuInstanceWithPlacement(half, &gonvml.GpuInstancePlacement{Start: 4, Size: 4}); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	for _, row := range []struct {
		index int
		place gonvml.GpuInstancePlacement
		want  gonvml.Return
	}{
		{gonvml.GPU_INSTANCE_PROFILE_3_SLICE, gonvml.GpuInstancePlacement{Start: 4, Size: 4}, gonvml.ERROR_INSUFFICIENT_RESOURCES},
		{gonvml.GPU_INSTANCE_PROFILE_7_SLICE, gonvml.GpuInstancePlacement{Start: 0, Size: 8}, gonvml.ERROR_INSUFFICIENT_RESOURCES},
		{gonvml.GPU_INSTANCE_PROFILE_1_SLICE, gonvml.GpuInstancePlacement{Start: 6, Size: 1}, gonvml.ERROR_INSUFFICIENT_RESOURCES},
		{gonvml.GPU_INSTANCE_PROFILE_1_SLICE, gonvml.GpuInstancePlacement{Start: 7, Size: 1}, gonvml.ERROR_INVALID_ARGUMENT},
		{gonvml.GPU_INSTANCE_PROFILE_1_SLICE, gonvml.GpuInstancePlacement{Start: 0, Size: 2}, gonvml.ERROR_INVALID_ARGUMENT},
		{gonvml.GPU_INSTANCE_PROFILE_4_SLICE, gonvml.GpuInstancePlacement{Start: 0, Size: 4}, gonvml.SUCCESS},
	} {
		if _, code := d.CreateGpuInstanceWithPlacement(profile(t, d, row.index), &row.place); code != row.want {
			t.Errorf("profile %d at %v: %v, want %v", row.index, row.place, code, row.want)
		}
	}
	if left, code := d.GetGpuInstanceRemainingCapacity(half); left != 0 || code != gonvml.SUCCESS {
		t.Errorf("%d, %v", left, code)
	}
	if _, code := d.CreateGpuInstance(half); code != gonvml.ERROR_INSUFFICIENT_RESOURCES {
		t.Error(code)
	}
}

func TestComputeSlicesAreNotGivenTwice(t *testing.T) {
	_, d := partitionedGPU(t, "h200")
	gi, ci := makeSlice(t, d, gonvml.GPU_INSTANCE_PROFILE_3_SLICE, gonvml.COMPUTE_INSTANCE_PROFILE_2_SLICE)
	two, _ := gi.GetComputeInstanceProfileInfo(gonvml.COMPUTE_INSTANCE_PROFILE_2_SLICE, 0)
	if _, code := gi.CreateComputeInstance(&two); code != gonvml.ERROR_INSUFFICIENT_RESOURCES {
		t.Error(code)
	}
	one, _ := gi.GetComputeInstanceProfileInfo(gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE, 0)
	if _, code := gi.CreateComputeInstance(&one); code != gonvml.SUCCESS {
		t.Error(code)
	}
	if _, code := gi.GetComputeInstanceProfileInfo(gonvml.COMPUTE_INSTANCE_PROFILE_7_SLICE, 0); code != gonvml.ERROR_NOT_SUPPORTED {
		t.Error(code)
	}
	if some, code := gi.GetComputeInstances(&two); len(some) != 1 || some[0] != ci || code != gonvml.SUCCESS {
		t.Errorf("%v, %v", some, code)
	}
	if second, code := gi.GetComputeInstanceById(1); code != gonvml.SUCCESS || second == ci {
		t.Errorf("%v, %v", second, code)
	}
	if _, code := gi.GetComputeInstanceById(2); code != gonvml.ERROR_NOT_FOUND {
		t.Error(code)
	}
}

func TestMIGDeviceIsFoundByIndexAndUUIDAndGoesWithItsSlice(t *testing.T) {
	m, d := partitionedGPU(t, "a100")
	makeSlice(t, d, gonvml.GPU_INSTANCE_PROFILE_1_SLICE, gonvml.COMPUTE_INSTANCE_PROFILE_1_SLICE)
	gi, ci := makeSlice(t, d, gonvml.GPU_INSTANCE_PROFILE_2_SLICE, gonvml.COMPUTE_INSTANCE_PROFILE_2_SLICE)
	slice, code := d.GetMigDeviceHandleByIndex(1)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	uuid, _ := slice.GetUUID()
	if same, code := m.DeviceGetHandleByUUID(uuid); same != slice || code != gonvml.SUCCESS {
		t.Errorf("by %s: %v", uuid, code)
	}
	info, _ := gi.GetInfo()
	giID, _ := slice.GetGpuInstanceId()
	ciID, _ := slice.GetComputeInstanceId()
	parent, _ := slice.GetDeviceHandleFromMigDeviceHandle()
	attributes, _ := slice.GetAttributes()
	memory, _ := slice.GetMemoryInfo()
	if giID != int(info.Id) || ciID != 0 || parent != d || attributes.ComputeInstanceSliceCount != 2 || attributes.MemorySizeMB != 9856 || memory.Total != 9856<<20 {
		t.Errorf("%d/%d of %v: %+v, %+v", giID, ciID, parent, attributes, memory)
	}
	if is, _ := slice.IsMigDeviceHandle(); !is {
		t.Error("a MIG device says that it is none")
	}
	if is, _ := d.IsMigDeviceHandle(); is {
		t.Error("a GPU says that it is a MIG device")
	}
	if _, code := slice.GetFanSpeed(); code != gonvml.ERROR_NOT_SUPPORTED {
		t.Error(code)
	}

	if code := gi.Destroy(); code != gonvml.ERROR_IN_USE {
		t.Errorf("a slice with a device was destroyed: %v", code)
	}
	if code := ci.Destroy(); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	for name, code := range map[string]gonvml.Return{
		"its UUID":         second(slice.GetUUID()),
		"by its index":     second(d.GetMigDeviceHandleByIndex(1)),
		"by its UUID":      second(m.DeviceGetHandleByUUID(uuid)),
		"destroyed twice":  ci.Destroy(),
		"what it was":      second(ci.GetInfo()),
		"its slice's":      second(slice.GetGpuInstanceId()),
		"by a wrong index": second(d.GetMigDeviceHandleByIndex(-1)),
	} {
		if code != gonvml.ERROR_INVALID_ARGUMENT && code != gonvml.ERROR_NOT_FOUND {
			t.Errorf("%s, once it is gone: %v", name, code)
		}
	}
	if code := gi.Destroy(); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	if code := gi.Destroy(); code != gonvml.ERROR_INVALID_ARGUMENT {
		t.Error(code)
	}
	makeSlice(t, d, gonvml.GPU_INSTANCE_PROFILE_2_SLICE, gonvml.COMPUTE_INSTANCE_PROFILE_2_SLICE)
	if _, code := m.DeviceGetHandleByUUID(uuid); code != gonvml.SUCCESS {
		t.Errorf("the same slice has another UUID when it is made again: %v", code)
	}
}

func second[T any](_ T, code gonvml.Return) gonvml.Return { return code }

func TestWhatIsInUseIsNotDestroyedAndKeepsItsMode(t *testing.T) {
	_, d := partitionedGPU(t, "b200")
	_, ci := makeSlice(t, d, gonvml.GPU_INSTANCE_PROFILE_7_SLICE, gonvml.COMPUTE_INSTANCE_PROFILE_7_SLICE)
	slice, _ := d.GetMigDeviceHandleByIndex(0)
	if err := SetInUse(slice, true); err != nil {
		t.Fatal(err)
	}
	if code := ci.Destroy(); code != gonvml.ERROR_IN_USE {
		t.Error(code)
	}
	if activation, code := d.SetMigMode(gonvml.DEVICE_MIG_DISABLE); activation != gonvml.ERROR_IN_USE || code != gonvml.SUCCESS {
		t.Error(activation, code)
	}
	if current, pending, _ := d.GetMigMode(); current != gonvml.DEVICE_MIG_ENABLE || pending != gonvml.DEVICE_MIG_DISABLE {
		t.Errorf("mode %d, pending %d", current, pending)
	}
	if err := SetInUse(slice, false); err != nil {
		t.Fatal(err)
	}
	if activation, _ := d.SetMigMode(gonvml.DEVICE_MIG_DISABLE); activation != gonvml.SUCCESS {
		t.Error(activation)
	}
	if _, code := slice.GetUUID(); code != gonvml.ERROR_INVALID_ARGUMENT {
		t.Errorf("a slice outlived its GPU's MIG mode: %v", code)
	}
	if err := SetInUse(slice, true); err == nil {
		t.Error("a slice that is gone is in use")
	}
	if err := SetInUse(d, true); err != nil {
		t.Fatal(err)
	}
	if activation, _ := d.SetMigMode(gonvml.DEVICE_MIG_ENABLE); activation != gonvml.ERROR_IN_USE {
		t.Error(activation)
	}
	if err := SetInUse(nil, true); err == nil {
		t.Error("nothing is in use")
	}
}

func TestWithMIGOffThereAreProfilesAndNothingElse(t *testing.T) {
	d, _ := newMachine(t, Layout{"h100", 1}).DeviceGetHandleByIndex(0)
	p := profile(t, d, gonvml.GPU_INSTANCE_PROFILE_7_SLICE)
	for name, code := range map[string]gonvml.Return{
		"create":   second(d.CreateGpuInstance(p)),
		"list":     second(d.GetGpuInstances(p)),
		"find":     second(d.GetGpuInstanceById(0)),
		"capacity": second(d.GetGpuInstanceRemainingCapacity(p)),
	} {
		if code != gonvml.ERROR_NOT_SUPPORTED {
			t.Errorf("%s: %v", name, code)
		}
	}
	if n, code := d.GetMaxMigDeviceCount(); n != 0 || code != gonvml.SUCCESS {
		t.Errorf("%d devices, %v", n, code)
	}
	if _, code := d.GetMigDeviceHandleByIndex(0); code != gonvml.ERROR_NOT_FOUND {
		t.Error(code)
	}
	if _, code := d.SetMigMode(2); code != gonvml.ERROR_INVALID_ARGUMENT {
		t.Error(code)
	}
}

func TestCallThatCannotBeSimulatedIsNotThere(t *testing.T) {
	m := newMachine(t, Layout{"h100", 1})
	if err := m.Extensions().LookupSymbol("nvmlDeviceGetGpuInstanceProfileInfoV"); err == nil {
		t.Error("a call that would go on to NVIDIA's library is offered")
	}
	if err := m.Extensions().LookupSymbol("nvmlDeviceGetGpuInstanceProfileInfo"); err != nil {
		t.Error(err)
	}
}
