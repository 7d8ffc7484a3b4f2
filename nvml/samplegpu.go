package nvml

import (
	"fmt"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// sampledGPU is a GPU as Sample knows it from one call to the next.
type sampledGPU struct {
	index   int
	device  gonvml.Device // nil: to be looked up
	uuid    string
	slices  []sampledSlice
	listed  int // samples since slices were looked up
	fields  fieldMeter
	useSeen uint64 // microseconds since 1970 of the newest per-process use
}

// sampledSlice is a MIG device.
type sampledSlice struct {
	device gonvml.Device
	uuid   string
}

// sample gives the GPU's sample and then its MIG devices'.
func (g *sampledGPU) sample(api gonvml.Interface, can symbols, at time.Time) ([]Sample, error) {
	if err := g.find(api); err != nil {
		return nil, err
	}
	r := &reader{can: can}
	out := make([]Sample, 1, 1+len(g.slices))
	out[0] = g.read(r, at)
	for _, s := range g.currentSlices(r) {
		out = append(out, s.read(r, g, at))
	}
	if r.lost {
		g.forget()
		return nil, fmt.Errorf("sample %s: %w", gpuSubject(g.index), gonvml.ERROR_GPU_IS_LOST)
	}
	return out, nil
}

// find proves the kept handle, by the one question that every device answers, or
// looks the GPU up.
func (g *sampledGPU) find(api gonvml.Interface) error {
	if g.device != nil {
		if uuid, code := g.device.GetUUID(); code == gonvml.SUCCESS && uuid == g.uuid {
			return nil
		}
		g.forget()
	}
	d, code := api.DeviceGetHandleByIndex(g.index)
	if code != gonvml.SUCCESS {
		return fmt.Errorf("open %s: %w", gpuSubject(g.index), code)
	}
	uuid, code := d.GetUUID()
	if code != gonvml.SUCCESS {
		return fmt.Errorf("read the UUID of %s: %w", gpuSubject(g.index), code)
	}
	g.device, g.uuid = d, uuid
	return nil
}

// forget makes the next sample look the GPU up, as one that was never seen:
// another may be in its place.
func (g *sampledGPU) forget() { *g = sampledGPU{index: g.index} }

func (g *sampledGPU) read(r *reader, at time.Time) Sample {
	d := g.device
	s := Sample{UUID: g.uuid, Index: g.index, Time: at}
	if r.knows("nvmlDeviceGetUtilizationRates") {
		if use, code := d.GetUtilizationRates(); r.ok(code) {
			s.GPUPercent, s.MemoryPercent = Known(uint64(use.Gpu)), Known(uint64(use.Memory))
		}
	}
	r.memory(d, &s)
	s.Celsius = with(r, "nvmlDeviceGetTemperature", d.GetTemperature, gonvml.TEMPERATURE_GPU)
	s.PowerWatts = watts(number(r, "nvmlDeviceGetPowerUsage", d.GetPowerUsage))
	s.PowerLimitWatts = watts(number(r, "nvmlDeviceGetEnforcedPowerLimit", d.GetEnforcedPowerLimit))
	s.SMClockMHz = with(r, "nvmlDeviceGetClockInfo", d.GetClockInfo, gonvml.CLOCK_SM)
	s.MemoryClockMHz = with(r, "nvmlDeviceGetClockInfo", d.GetClockInfo, gonvml.CLOCK_MEM)
	s.FanPercent = number(r, "nvmlDeviceGetFanSpeed", d.GetFanSpeed)
	s.Throttle = r.throttle(d)
	s.ECC = r.ecc(d)
	s.PCIeRxBytesPerSecond = kilobytes(with(r, "nvmlDeviceGetPcieThroughput", d.GetPcieThroughput, gonvml.PCIE_UTIL_RX_BYTES))
	s.PCIeTxBytesPerSecond = kilobytes(with(r, "nvmlDeviceGetPcieThroughput", d.GetPcieThroughput, gonvml.PCIE_UTIL_TX_BYTES))
	g.fields.read(r, d, &s)
	s.Processes = r.processes(d)
	if s.Processes != nil {
		r.processUse(d, s.Processes, &g.useSeen)
	}
	return s
}

// read asks a MIG device for what a driver tells of one.
func (s sampledSlice) read(r *reader, g *sampledGPU, at time.Time) Sample {
	out := Sample{UUID: s.uuid, ParentUUID: g.uuid, Index: g.index, Time: at}
	r.memory(s.device, &out)
	out.Processes = r.processes(s.device)
	return out
}

// currentSlices are the MIG devices. Their handles are kept too; they are looked
// up anew when one of them is no longer what it was, and now and then, since new
// ones tell nobody.
func (g *sampledGPU) currentSlices(r *reader) []sampledSlice {
	fresh := g.listed > 0 && g.listed < sliceListEvery
	for _, s := range g.slices {
		// The driver may give a handle to another device (nvml.h, nvmlDeviceGetMigDeviceHandleByIndex).
		if uuid, code := s.device.GetUUID(); code != gonvml.SUCCESS || uuid != s.uuid {
			fresh = false
		}
	}
	if !fresh {
		g.slices, g.listed = r.slices(g.device), 0
	}
	g.listed++
	return g.slices
}
