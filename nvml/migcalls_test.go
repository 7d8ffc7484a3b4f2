package nvml

import (
	"errors"
	"reflect"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// The rest of what faultyMIG can refuse.

func (d faultyMIG) GetMemoryInfo() (gonvml.Memory, gonvml.Return) {
	if code := d.codes["GetMemoryInfo"]; code != gonvml.SUCCESS {
		return gonvml.Memory{}, code
	}
	return d.Device.GetMemoryInfo()
}

func (d faultyMIG) GetGpuInstanceProfileInfo(index int) (gonvml.GpuInstanceProfileInfo, gonvml.Return) {
	if code := d.codes["GetGpuInstanceProfileInfo"]; code != gonvml.SUCCESS {
		return gonvml.GpuInstanceProfileInfo{}, code
	}
	return d.Device.GetGpuInstanceProfileInfo(index)
}

func (d faultyMIG) GetGpuInstances(p *gonvml.GpuInstanceProfileInfo) ([]gonvml.GpuInstance, gonvml.Return) {
	if code := d.codes["GetGpuInstances"]; code != gonvml.SUCCESS {
		return nil, code
	}
	all, code := d.Device.GetGpuInstances(p)
	for i := range all {
		all[i] = faultyInstance{all[i], d}
	}
	return all, code
}

func (gi faultyInstance) GetInfo() (gonvml.GpuInstanceInfo, gonvml.Return) {
	if code := gi.of.codes["GetInfo"]; code != gonvml.SUCCESS {
		return gonvml.GpuInstanceInfo{}, code
	}
	return gi.GpuInstance.GetInfo()
}

func (gi faultyInstance) GetComputeInstanceProfileInfo(index, engines int) (gonvml.ComputeInstanceProfileInfo, gonvml.Return) {
	if code := gi.of.codes["GetComputeInstanceProfileInfo"]; code != gonvml.SUCCESS {
		return gonvml.ComputeInstanceProfileInfo{}, code
	}
	return gi.GpuInstance.GetComputeInstanceProfileInfo(index, engines)
}

func (gi faultyInstance) GetComputeInstances(p *gonvml.ComputeInstanceProfileInfo) ([]gonvml.ComputeInstance, gonvml.Return) {
	if code := gi.of.codes["GetComputeInstances"]; code != gonvml.SUCCESS {
		return nil, code
	}
	return gi.GpuInstance.GetComputeInstances(p)
}

// Whichever call fails: what needs it says so with the driver's code, what does not
// need it works, and a slice is there whole or not at all.
func TestEveryCallThatFailsIsToldAndLeavesWholeSlices(t *testing.T) {
	for call, needs := range map[string]struct{ read, create, destroy, turnOff bool }{
		"DeviceGetHandleByUUID":            {true, true, true, true},
		"GetMigMode":                       {true, true, false, true},
		"GetMemoryInfo":                    {true, true, true, true},
		"GetGpuInstanceProfileInfo":        {true, true, true, true},
		"GetGpuInstancePossiblePlacements": {true, true, true, true},
		"GetGpuInstances":                  {true, false, false, true},
		"GetMaxMigDeviceCount":             {true, true, true, true},
		"GetMigDeviceHandleByIndex":        {true, true, true, true},
		"GetInfo":                          {true, true, true, true},
		"GetComputeInstanceProfileInfo":    {false, true, true, false},
		"GetComputeInstances":              {false, false, true, false},
		"GetGpuInstanceById":               {false, false, true, false},
		"CreateGpuInstanceWithPlacement":   {false, true, false, false},
		"CreateComputeInstance":            {false, true, false, false},
	} {
		b := newPartitionedBox(t, "h100")
		gpu, mine := b.gpus[0], b.create(t, "1g.10gb", 0)
		failing := func(do func() error, needed bool) {
			t.Helper()
			b.fail(map[string]gonvml.Return{call: gonvml.ERROR_UNKNOWN})
			err := do()
			b.wrap, b.lost = nil, gonvml.SUCCESS
			if needed != errors.Is(err, gonvml.ERROR_UNKNOWN) || !needed && err != nil {
				t.Errorf("%s fails: %v", call, err)
			}
			if needed {
				wantKind(t, err, MIGFailed)
			}
		}
		failing(func() error { _, err := b.p.Read(gpu); return err }, needs.read)
		failing(func() error { _, err := b.p.Create(gpu, "2g.20gb", 2); return err }, needs.create)
		for _, s := range b.read(t).Slices {
			if len(s.Devices) != 1 {
				t.Errorf("%s fails, and left %+v", call, s)
			}
			if s.DriverID != mine.DriverID {
				if needs.create {
					t.Errorf("%s fails, and made %+v", call, s)
				}
				if err := b.p.Destroy(gpu, s); err != nil {
					t.Fatal(err)
				}
			}
		}
		failing(func() error { return b.p.Destroy(gpu, mine) }, needs.destroy)
		if left := b.read(t).Slices; needs.destroy {
			if !reflect.DeepEqual(left, []MIGSlice{mine}) {
				t.Errorf("%s fails, and left %+v of %+v", call, left, mine)
			}
			if err := b.p.Destroy(gpu, mine); err != nil {
				t.Fatal(err)
			}
		} else if len(left) != 0 {
			t.Errorf("left %+v", left)
		}
		if call != "GetInfo" && call != "GetMigDeviceHandleByIndex" { // there is nothing left to ask these of, or for
			failing(func() error { _, err := b.p.SetMode(gpu, false); return err }, needs.turnOff)
			if enabled := b.read(t).Enabled; enabled != needs.turnOff {
				t.Errorf("%s fails, and MIG is %v", call, enabled)
			}
		}
	}
}

// wishful is a GPU whose mode cannot change, nor be set back to what it is.
type wishful struct{ gonvml.Device }

func (d wishful) SetMigMode(mode int) (gonvml.Return, gonvml.Return) {
	if mode == gonvml.DEVICE_MIG_ENABLE {
		return gonvml.ERROR_IN_USE, gonvml.SUCCESS
	}
	return gonvml.SUCCESS, gonvml.ERROR_UNKNOWN
}

func TestModeThatStaysPendingAgainstOurWillIsTold(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	if _, err := b.p.SetMode(b.gpus[0], false); err != nil {
		t.Fatal(err)
	}
	b.wrap = func(d gonvml.Device) gonvml.Device { return wishful{d} }
	_, err := b.p.SetMode(b.gpus[0], true)
	wantKind(t, err, MIGInUse, "comes with the next reset")
}

// noWhole offers no device with all of a slice.
type noWhole struct{ gonvml.Device }

func (d noWhole) CreateGpuInstanceWithPlacement(p *gonvml.GpuInstanceProfileInfo, place *gonvml.GpuInstancePlacement) (gonvml.GpuInstance, gonvml.Return) {
	gi, code := d.Device.CreateGpuInstanceWithPlacement(p, place)
	return noWholeInstance{gi}, code
}

type noWholeInstance struct{ gonvml.GpuInstance }

func (gi noWholeInstance) GetComputeInstanceProfileInfo(index, engines int) (gonvml.ComputeInstanceProfileInfo, gonvml.Return) {
	info, code := gi.GpuInstance.GetComputeInstanceProfileInfo(index, engines)
	info.SliceCount++
	return info, code
}

func TestSliceOfWhichNoDeviceCanHaveAllIsTakenBack(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	b.wrap = func(d gonvml.Device) gonvml.Device { return noWhole{d} }
	_, err := b.p.Create(b.gpus[0], "7g.80gb", 0)
	wantKind(t, err, MIGFailed, "no device that has the whole slice")
	b.wrap = nil
	if s := b.read(t); len(s.Slices) != 0 {
		t.Errorf("left %+v", s.Slices)
	}
}
