package simulated

import (
	"fmt"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/uuid"
)

// migDevice is a compute instance as programs see it: a device with a UUID of
// its own. It goes with its compute instance, and then answers
// ERROR_INVALID_ARGUMENT as a stale handle does.
type migDevice struct {
	unanswered
	*Telemetry
	of   *computeInstance
	uuid string
}

// unanswered lies one level deeper than what a device does answer, and so gives
// way to it.
type unanswered struct{ mock.Device }

var _ gonvml.Device = (*migDevice)(nil)

// newMIGDevice is called with the GPU's lock.
func newMIGDevice(ci *computeInstance) *migDevice {
	memoryBytes := ci.in.profile.MemorySizeMB << 20
	d := &migDevice{of: ci, uuid: migUUID(ci), Telemetry: ci.in.on.newSliceTelemetry(memoryBytes)}
	answerNotSupported(&d.Device)
	return d
}

// migUUID depends on where the slice is alone: the same slice, made again, has
// the same UUID, in this run or the next.
func migUUID(ci *computeInstance) string {
	gi := ci.in
	space := uuid.NewSHA1(uuid.NameSpaceDNS, []byte("simulated-mig.ecolink.dev"))
	name := fmt.Appendf(nil, "%s/%d/%d+%d/%d/%d", gi.on.UUID, gi.profile.Id, gi.place.Start, gi.place.Size, ci.profile.Id, ci.id)
	return "MIG-" + uuid.NewSHA1(space, name).String()
}

// GetMaxMigDeviceCount is nvmlDeviceGetMaxMigDeviceCount: 0 while MIG is off.
func (g *gpu) GetMaxMigDeviceCount() (int, gonvml.Return) {
	most := 0
	for _, info := range g.Config.MIGProfiles.GpuInstanceProfiles {
		most = max(most, int(info.InstanceCount))
	}
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if g.mig.current != gonvml.DEVICE_MIG_ENABLE {
		return 0, gonvml.SUCCESS
	}
	return most, gonvml.SUCCESS
}

// GetMigDeviceHandleByIndex is nvmlDeviceGetMigDeviceHandleByIndex.
func (g *gpu) GetMigDeviceHandleByIndex(index int) (gonvml.Device, gonvml.Return) {
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if g.mig.current != gonvml.DEVICE_MIG_ENABLE {
		return nil, gonvml.ERROR_NOT_FOUND
	}
	if devices := g.migDevices(); index >= 0 && index < len(devices) {
		return devices[index], gonvml.SUCCESS
	}
	return nil, gonvml.ERROR_NOT_FOUND
}

// migDevices is called with the lock.
func (g *gpu) migDevices() []*migDevice {
	var out []*migDevice
	for _, gi := range g.mig.made {
		for _, ci := range gi.made {
			out = append(out, ci.device)
		}
	}
	return out
}

// migDeviceByUUID finds a MIG device of any GPU.
func (m *machine) migDeviceByUUID(uuid string) (gonvml.Device, bool) {
	for _, g := range m.gpus {
		g.mig.mu.Lock()
		devices := g.migDevices()
		g.mig.mu.Unlock()
		for _, d := range devices {
			if d.uuid == uuid {
				return d, true
			}
		}
	}
	return nil, false
}

// state is the code for a question about the device: whether it is still there.
func (d *migDevice) state() gonvml.Return {
	g := d.of.in.on
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if !d.of.exists() {
		return gonvml.ERROR_INVALID_ARGUMENT
	}
	return gonvml.SUCCESS
}

// IsMigDeviceHandle is nvmlDeviceIsMigDeviceHandle.
func (d *migDevice) IsMigDeviceHandle() (bool, gonvml.Return) { return true, gonvml.SUCCESS }

// GetUUID is nvmlDeviceGetUUID.
func (d *migDevice) GetUUID() (string, gonvml.Return) { return d.uuid, d.state() }

// GetGpuInstanceId is nvmlDeviceGetGpuInstanceId.
func (d *migDevice) GetGpuInstanceId() (int, gonvml.Return) { return d.of.in.id, d.state() }

// GetComputeInstanceId is nvmlDeviceGetComputeInstanceId.
func (d *migDevice) GetComputeInstanceId() (int, gonvml.Return) { return d.of.id, d.state() }

// GetDeviceHandleFromMigDeviceHandle is nvmlDeviceGetDeviceHandleFromMigDeviceHandle.
func (d *migDevice) GetDeviceHandleFromMigDeviceHandle() (gonvml.Device, gonvml.Return) {
	return d.of.in.on, d.state()
}

// GetAttributes is nvmlDeviceGetAttributes.
func (d *migDevice) GetAttributes() (gonvml.DeviceAttributes, gonvml.Return) {
	gi, ci := d.of.in, d.of
	return gonvml.DeviceAttributes{
		MultiprocessorCount:       ci.profile.MultiprocessorCount,
		SharedCopyEngineCount:     gi.profile.CopyEngineCount,
		SharedDecoderCount:        gi.profile.DecoderCount,
		SharedEncoderCount:        gi.profile.EncoderCount,
		SharedJpegCount:           gi.profile.JpegCount,
		SharedOfaCount:            gi.profile.OfaCount,
		GpuInstanceSliceCount:     gi.profile.SliceCount,
		ComputeInstanceSliceCount: ci.profile.SliceCount,
		MemorySizeMB:              gi.profile.MemorySizeMB,
	}, d.state()
}
