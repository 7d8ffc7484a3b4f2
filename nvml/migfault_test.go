package nvml

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// faultyMIG answers some MIG calls with a code instead of doing them.
type faultyMIG struct {
	gonvml.Device
	codes   map[string]gonvml.Return // by the call's Go name
	waitFor chan struct{}            // CreateComputeInstance goes on when it is closed
	stays   bool                     // Destroy of a GPU instance succeeds and does nothing
	stale   []gonvml.Device          // listed after the devices that are there
}

func (d faultyMIG) GetMigDeviceHandleByIndex(index int) (gonvml.Device, gonvml.Return) {
	if code := d.codes["GetMigDeviceHandleByIndex"]; code != gonvml.SUCCESS {
		return nil, code
	}
	m, code := d.Device.GetMigDeviceHandleByIndex(index)
	if code == gonvml.SUCCESS || len(d.stale) == 0 {
		return m, code
	}
	return d.stale[0], gonvml.SUCCESS
}

func (d faultyMIG) GetGpuInstancePossiblePlacements(p *gonvml.GpuInstanceProfileInfo) ([]gonvml.GpuInstancePlacement, gonvml.Return) {
	if code := d.codes["GetGpuInstancePossiblePlacements"]; code != gonvml.SUCCESS {
		return nil, code
	}
	return d.Device.GetGpuInstancePossiblePlacements(p)
}

func (d faultyMIG) SetMigMode(mode int) (gonvml.Return, gonvml.Return) {
	if code := d.codes["SetMigMode"]; code != gonvml.SUCCESS {
		return gonvml.SUCCESS, code
	}
	return d.Device.SetMigMode(mode)
}

func (d faultyMIG) GetMigMode() (int, int, gonvml.Return) {
	if code := d.codes["GetMigMode"]; code != gonvml.SUCCESS {
		return 0, 0, code
	}
	return d.Device.GetMigMode()
}

func (d faultyMIG) GetMaxMigDeviceCount() (int, gonvml.Return) {
	if code := d.codes["GetMaxMigDeviceCount"]; code != gonvml.SUCCESS {
		return 0, code
	}
	return d.Device.GetMaxMigDeviceCount()
}

func (d faultyMIG) CreateGpuInstanceWithPlacement(p *gonvml.GpuInstanceProfileInfo, place *gonvml.GpuInstancePlacement) (gonvml.GpuInstance, gonvml.Return) {
	if code := d.codes["CreateGpuInstanceWithPlacement"]; code != gonvml.SUCCESS {
		return nil, code
	}
	gi, code := d.Device.CreateGpuInstanceWithPlacement(p, place)
	return faultyInstance{gi, d}, code
}

func (d faultyMIG) GetGpuInstanceById(id int) (gonvml.GpuInstance, gonvml.Return) {
	if code := d.codes["GetGpuInstanceById"]; code != gonvml.SUCCESS {
		return nil, code
	}
	gi, code := d.Device.GetGpuInstanceById(id)
	return faultyInstance{gi, d}, code
}

type faultyInstance struct {
	gonvml.GpuInstance
	of faultyMIG
}

func (gi faultyInstance) CreateComputeInstance(p *gonvml.ComputeInstanceProfileInfo) (gonvml.ComputeInstance, gonvml.Return) {
	if gi.of.waitFor != nil {
		<-gi.of.waitFor
	}
	if code := gi.of.codes["CreateComputeInstance"]; code != gonvml.SUCCESS {
		return nil, code
	}
	return gi.GpuInstance.CreateComputeInstance(p)
}

func (gi faultyInstance) Destroy() gonvml.Return {
	if code := gi.of.codes["Destroy"]; code != gonvml.SUCCESS {
		return code
	}
	if gi.of.stays {
		return gonvml.SUCCESS
	}
	return gi.GpuInstance.Destroy()
}

func (b *migBox) fail(codes map[string]gonvml.Return) {
	b.wrap = func(d gonvml.Device) gonvml.Device { return faultyMIG{Device: d, codes: codes} }
	b.lost = codes["DeviceGetHandleByUUID"]
}

func TestWithoutPermissionNothingIsDoneAndTheErrorSaysWhatToDo(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	s := b.create(t, "1g.10gb", 0)
	refuse := func(call string) { b.fail(map[string]gonvml.Return{call: gonvml.ERROR_NO_PERMISSION}) }
	says := "run EcoLink as root"

	refuse("GetGpuInstancePossiblePlacements")
	_, err := b.p.Read(b.gpus[0])
	wantKind(t, err, MIGNotPermitted, says, "(NVML: ")
	refuse("CreateGpuInstanceWithPlacement")
	_, err = b.p.Create(b.gpus[0], "1g.10gb", 1)
	wantKind(t, err, MIGNotPermitted, says)
	refuse("CreateComputeInstance")
	_, err = b.p.Create(b.gpus[0], "1g.10gb", 1)
	wantKind(t, err, MIGNotPermitted, says)
	refuse("Destroy")
	wantKind(t, b.p.Destroy(b.gpus[0], s), MIGNotPermitted, says)

	b.wrap = nil
	if err := b.p.Destroy(b.gpus[0], s); err != nil { // its device is gone already
		t.Fatal(err)
	}
	refuse("SetMigMode")
	_, err = b.p.SetMode(b.gpus[0], false)
	wantKind(t, err, MIGNotPermitted, says)
	b.wrap = nil
	if s := b.read(t); !s.Enabled || len(s.Slices) != 0 {
		t.Errorf("left %+v", s)
	}
}

func TestSliceThatFailsHalfWayLeavesNothing(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	for _, call := range []string{"CreateComputeInstance", "GetMaxMigDeviceCount"} {
		for code, kind := range map[gonvml.Return]MIGErrorKind{
			gonvml.ERROR_INSUFFICIENT_RESOURCES: MIGNoRoom,
			gonvml.ERROR_IN_USE:                 MIGInUse,
			gonvml.ERROR_UNKNOWN:                MIGFailed,
			gonvml.ERROR_GPU_IS_LOST:            MIGFailed,
		} {
			b.fail(map[string]gonvml.Return{call: code})
			_, err := b.p.Create(b.gpus[0], "4g.40gb", 0)
			wantKind(t, err, kind)
			b.wrap = nil
			if s := b.read(t); len(s.Slices) != 0 {
				t.Fatalf("%s: %v left %+v", call, code, s.Slices)
			}
		}
	}
}

func TestSliceThatCannotBeTakenBackIsToldAndShown(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	b.fail(map[string]gonvml.Return{"CreateComputeInstance": gonvml.ERROR_UNKNOWN, "Destroy": gonvml.ERROR_IN_USE})
	_, err := b.p.Create(b.gpus[0], "4g.40gb", 0)
	wantKind(t, err, MIGFailed, "a part of the slice is left")
	b.wrap = nil
	s := b.read(t)
	if len(s.Slices) != 1 || len(s.Slices[0].Devices) != 0 {
		t.Fatalf("%+v", s.Slices)
	}
	if err := b.p.Destroy(b.gpus[0], s.Slices[0]); err != nil {
		t.Error(err)
	}
}

func TestDestroyThatStopsHalfWayGoesOnWhenAskedAgain(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	s := b.create(t, "3g.40gb", 0)
	b.fail(map[string]gonvml.Return{"Destroy": gonvml.ERROR_UNKNOWN})
	wantKind(t, b.p.Destroy(b.gpus[0], s), MIGFailed, "dmesg")
	b.wrap = nil
	if err := b.p.Destroy(b.gpus[0], s); err != nil || len(b.read(t).Slices) != 0 {
		t.Errorf("%v, left %+v", err, b.read(t).Slices)
	}
}

func TestSliceThatIsReadyTooLateIsTakenBackAndStopsNoOtherGPU(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 2})
	synctest.Test(t, func(t *testing.T) {
		for _, gpu := range b.gpus {
			if _, err := b.p.SetMode(gpu, true); err != nil {
				t.Fatal(err)
			}
		}
		letGo := make(chan struct{})
		b.wrap = func(d gonvml.Device) gonvml.Device {
			if uuid, _ := d.GetUUID(); uuid == b.gpus[0] {
				return faultyMIG{Device: d, waitFor: letGo}
			}
			return d
		}
		began := time.Now()
		failed := make(chan error)
		go func() {
			_, err := b.p.Create(b.gpus[0], "7g.80gb", 0)
			failed <- err
		}()
		synctest.Wait()
		if _, err := b.p.Create(b.gpus[1], "7g.80gb", 0); err != nil {
			t.Error(err)
		}
		if inv, err := b.library.Inventory(); err != nil || len(inv.GPUs) != 2 {
			t.Errorf("%+v, %v", inv, err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the others waited %v", waited)
		}
		wantKind(t, <-failed, MIGNoAnswer, "did not answer within 30s")
		_, err := b.p.Read(b.gpus[0])
		wantKind(t, err, MIGNoAnswer, "has not answered an earlier question")
		if waited := time.Since(began); waited != migChangeLimit {
			t.Errorf("two calls took %v", waited)
		}

		close(letGo)
		synctest.Wait()
		b.wrap = nil
		if s, err := b.p.Read(b.gpus[0]); err != nil || len(s.Slices) != 0 {
			t.Errorf("%+v, %v", s.Slices, err)
		}
		if err := b.library.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLibraryIsNotUnloadedUnderAMIGCall(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
	synctest.Test(t, func(t *testing.T) {
		if _, err := b.p.SetMode(b.gpus[0], true); err != nil {
			t.Fatal(err)
		}
		letGo := make(chan struct{})
		b.wrap = func(d gonvml.Device) gonvml.Device { return faultyMIG{Device: d, waitFor: letGo} }
		done := make(chan error)
		go func() {
			_, err := b.p.Create(b.gpus[0], "1g.10gb", 0)
			done <- err
		}()
		synctest.Wait()
		if err := b.library.Close(); err == nil || !strings.Contains(err.Error(), b.gpus[0]) {
			t.Errorf("closing gave %v", err)
		}
		close(letGo)
		if err := <-done; err != nil {
			t.Error(err)
		}
		_, err := b.p.Read(b.gpus[0])
		wantKind(t, err, MIGFailed, "NVML is closed")
	})
}

func TestLibraryIsNotUnloadedBeforeAMIGCallHasReachedTheDriver(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
	release, err := b.p.hold(b.gpus[0])
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := b.library.Close(); err == nil || !strings.Contains(err.Error(), "MIG work on "+b.gpus[0]) {
		t.Errorf("closing gave %v", err)
	}
}

// Whoever is first decides, when the driver is ready at the moment of the time-out.
func TestSliceReadyAtTheTimeOutIsEitherGivenOrTakenBack(t *testing.T) {
	var given creation
	if !given.keep(MIGSlice{DriverID: 3}) {
		t.Error("a slice is taken back that nobody gave up")
	}
	if s, ready := given.abandon(); !ready || s.DriverID != 3 {
		t.Errorf("%+v, %v", s, ready)
	}
	var late creation
	if _, ready := late.abandon(); ready {
		t.Error("a slice is ready that was not made")
	}
	if late.keep(MIGSlice{}) {
		t.Error("a slice is kept that nobody waits for")
	}
}

// Calling a symbol that the library lacks would end the process.
func TestDriverThatLacksAMIGCallIsNotAskedAtAll(t *testing.T) {
	for _, versions := range migSymbols() {
		b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
		b.missing = versions
		b.wrap = func(gonvml.Device) gonvml.Device { t.Errorf("without %v it was asked", versions); return nil }
		_, err := b.p.Read(b.gpus[0])
		wantKind(t, err, MIGNotSupported, versions[0], "update it")
		for i := range versions {
			if len(versions) == 1 {
				continue
			}
			b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
			b.missing = versions[i : i+1]
			b.read(t) // one version is enough
		}
	}
}

func TestWhatCannotBePartitionedSaysSo(t *testing.T) {
	b := newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
	_, err := b.p.Read("GPU-0")
	wantKind(t, err, MIGUnknownGPU, "GPU-0", "inventory")

	b.fail(map[string]gonvml.Return{"GetMigMode": gonvml.ERROR_NOT_SUPPORTED})
	_, err = b.p.Read(b.gpus[0])
	wantKind(t, err, MIGNotSupported, "not supported by this GPU")
	_, err = b.p.SetMode(b.gpus[0], true)
	wantKind(t, err, MIGNotSupported)

	b = newMIGBox(t, simulated.Layout{Type: "h100", Count: 1})
	b.init = gonvml.ERROR_LIBRARY_NOT_FOUND
	_, err = b.p.Read(b.gpus[0])
	wantKind(t, err, MIGNotSupported, "no NVIDIA driver found")
}

// newerDriver offers a profile that this program has no name for.
type newerDriver struct{ gonvml.Device }

func (d newerDriver) GetGpuInstanceProfileInfo(index int) (gonvml.GpuInstanceProfileInfo, gonvml.Return) {
	switch index {
	case gonvml.GPU_INSTANCE_PROFILE_COUNT:
		info, code := d.Device.GetGpuInstanceProfileInfo(gonvml.GPU_INSTANCE_PROFILE_1_SLICE)
		info.Id = 77
		return info, code
	case gonvml.GPU_INSTANCE_PROFILE_COUNT + 1:
		return gonvml.GpuInstanceProfileInfo{}, gonvml.ERROR_NOT_SUPPORTED
	case gonvml.GPU_INSTANCE_PROFILE_COUNT + 2: // of which the GPU can have none
		return gonvml.GpuInstanceProfileInfo{Id: 78, SliceCount: 8, MemorySizeMB: 81920}, gonvml.SUCCESS
	}
	return d.Device.GetGpuInstanceProfileInfo(index)
}

func (d newerDriver) GetGpuInstancePossiblePlacements(p *gonvml.GpuInstanceProfileInfo) ([]gonvml.GpuInstancePlacement, gonvml.Return) {
	if p.Id == 77 {
		return []gonvml.GpuInstancePlacement{{Start: 0, Size: 1}}, gonvml.SUCCESS
	}
	return d.Device.GetGpuInstancePossiblePlacements(p)
}

func (d newerDriver) GetGpuInstances(p *gonvml.GpuInstanceProfileInfo) ([]gonvml.GpuInstance, gonvml.Return) {
	if p.Id == 77 {
		return []gonvml.GpuInstance{newerInstance{}}, gonvml.SUCCESS
	}
	return d.Device.GetGpuInstances(p)
}

type newerInstance struct{ gonvml.GpuInstance }

func (newerInstance) GetComputeInstanceById(int) (gonvml.ComputeInstance, gonvml.Return) {
	return nil, gonvml.ERROR_NOT_FOUND
}

func (newerInstance) GetInfo() (gonvml.GpuInstanceInfo, gonvml.Return) {
	return gonvml.GpuInstanceInfo{Id: 5, ProfileId: 77, Placement: gonvml.GpuInstancePlacement{Start: 0, Size: 1}}, gonvml.SUCCESS
}

func TestProfileWithoutANameOfItsOwnIsNotOfferedAndItsSlicesAreShown(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	b.wrap = func(d gonvml.Device) gonvml.Device { return newerDriver{d} }
	s := b.read(t)
	if len(s.Profiles) != 7 {
		t.Errorf("profiles are %+v", s.Profiles)
	}
	if fmt.Sprintf("%+v", s.Slices) != "[{DriverID:5 Profile: Placement:{Start:0 Size:1} Devices:[]}]" {
		t.Errorf("slices are %+v", s.Slices)
	}
}

// staleDevice answers as it did while it was there.
type staleDevice struct {
	gonvml.Device
	uuid   string
	gi, ci int
}

func (d staleDevice) GetUUID() (string, gonvml.Return)           { return d.uuid, gonvml.SUCCESS }
func (d staleDevice) GetGpuInstanceId() (int, gonvml.Return)     { return d.gi, gonvml.SUCCESS }
func (d staleDevice) GetComputeInstanceId() (int, gonvml.Return) { return d.ci, gonvml.SUCCESS }

func TestDestroyedDeviceThatTheDriverStillListsIsNotThere(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	s := b.create(t, "1g.10gb", 0)
	gone := b.create(t, "1g.10gb", 1)
	handle := b.byUUID(t, gone.Devices[0].UUID)
	if err := b.p.Destroy(b.gpus[0], gone); err != nil {
		t.Fatal(err)
	}
	for name, stale := range map[string]gonvml.Device{
		"that answers nothing":               handle,
		"that answers as before":             staleDevice{uuid: gone.Devices[0].UUID, gi: gone.DriverID},
		"whose slice's number is used again": staleDevice{uuid: gone.Devices[0].UUID, gi: s.DriverID, ci: 1},
	} {
		b.wrap = func(d gonvml.Device) gonvml.Device { return faultyMIG{Device: d, stale: []gonvml.Device{stale}} }
		if got := b.read(t); !reflect.DeepEqual(got.Slices, []MIGSlice{s}) {
			t.Errorf("with a device %s: %+v", name, got.Slices)
		}
	}
}

func TestSliceThatIsOnlySaidToBeDestroyedIsAnError(t *testing.T) {
	b := newPartitionedBox(t, "h100")
	s := b.create(t, "1g.10gb", 0)
	b.wrap = func(d gonvml.Device) gonvml.Device { return faultyMIG{Device: d, stays: true} }
	wantKind(t, b.p.Destroy(b.gpus[0], s), MIGFailed, "still lists it")
	b.wrap = nil
	if err := b.p.Destroy(b.gpus[0], s); err != nil {
		t.Error(err)
	}
}
