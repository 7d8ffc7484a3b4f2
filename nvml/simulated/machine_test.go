package simulated

import (
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

func newMachine(t *testing.T, layout Layout) gonvml.Interface {
	t.Helper()
	m, err := New(layout)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNewRefusesALayoutThatNoModeNames(t *testing.T) {
	for _, layout := range []Layout{{}, {"h100", 0}, {"h100", 17}, {"v100", 1}, {"h100", -1}} {
		if m, err := New(layout); err == nil {
			t.Errorf("New(%+v) = %v", layout, m)
		}
	}
}

func TestGPUIsFoundByEachOfItsNames(t *testing.T) {
	m := newMachine(t, Layout{"b200", 11})
	for i := range 11 {
		d, code := m.DeviceGetHandleByIndex(i)
		if code != gonvml.SUCCESS {
			t.Fatal(code)
		}
		uuid, _ := d.GetUUID()
		if same, code := m.DeviceGetHandleByUUID(uuid); code != gonvml.SUCCESS || same != d {
			t.Errorf("GPU %d by UUID: %v", i, code)
		}
		info, _ := d.GetPciInfo()
		var id []byte
		for _, c := range info.BusId {
			if c != 0 {
				id = append(id, byte(c))
			}
		}
		if same, code := m.DeviceGetHandleByPciBusId(string(id)); code != gonvml.SUCCESS || same != d {
			t.Errorf("GPU %d by %s: %v", i, id, code)
		}
	}
	for _, index := range []int{-1, 11} {
		if _, code := m.DeviceGetHandleByIndex(index); code != gonvml.ERROR_INVALID_ARGUMENT {
			t.Errorf("GPU %d: %v", index, code)
		}
	}
	if _, code := m.DeviceGetHandleByUUID("GPU-0"); code != gonvml.ERROR_NOT_FOUND {
		t.Error(code)
	}
}

func TestCallThatTheMockLeavesOutIsNotSupportedInsteadOfAPanic(t *testing.T) {
	m := newMachine(t, Layout{"h100", 1})
	if _, code := m.UnitGetCount(); code != gonvml.ERROR_NOT_SUPPORTED {
		t.Error(code)
	}
	d, _ := m.DeviceGetHandleByIndex(0)
	if _, code := d.GetFanSpeed_v2(0); code != gonvml.ERROR_NOT_SUPPORTED {
		t.Error(code)
	}
	if _, code := d.GetFanSpeed(); code != gonvml.ERROR_NOT_SUPPORTED {
		t.Error(code)
	}
}

func TestMIGSlicesCanBeMadeAndDestroyed(t *testing.T) {
	m := newMachine(t, Layout{"a100", 1})
	d, _ := m.DeviceGetHandleByIndex(0)
	if _, code := d.SetMigMode(gonvml.DEVICE_MIG_ENABLE); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	profile, code := d.GetGpuInstanceProfileInfo(gonvml.GPU_INSTANCE_PROFILE_1_SLICE)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	slice, code := d.CreateGpuInstance(&profile)
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	if all, _ := d.GetGpuInstances(&profile); len(all) != 1 {
		t.Errorf("%d slices", len(all))
	}
	if code := slice.Destroy(); code != gonvml.SUCCESS {
		t.Error(code)
	}
	if all, _ := d.GetGpuInstances(&profile); len(all) != 0 {
		t.Errorf("%d slices are left", len(all))
	}
}
