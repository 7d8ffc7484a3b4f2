package simulated

import (
	"maps"
	"slices"
	"sync"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Process is a program that computes on a simulated device.
type Process struct {
	PID         uint32
	MemoryBytes uint64 // of the device's memory
	SMPercent   uint32 // of the device's multiprocessors, 0 to 100
}

// Load is what keeps a simulated device busy. Everything that the device then
// says of itself follows from it, from Seed and from the time, so the same load
// gives the same figures again.
type Load struct {
	Seed      uint64 // of how the figures waver
	Processes []Process
}

// Telemetry is what a simulated device measures of itself. Without a load it is
// idle. It answers NVML's calls by itself instead of through the mock, which
// would keep the arguments of every call. It is safe for concurrent use.
type Telemetry struct {
	envelope    envelope
	memoryBytes uint64
	place       uint64 // makes two devices with the same load waver differently
	// partitioned reports whether the device is in MIG mode, in which a driver
	// tells no utilisation of the whole. A slice is never partitioned.
	partitioned func() bool
	slice       bool // a MIG device, of which a driver tells next to nothing

	mu      sync.Mutex
	load    Load
	refused map[string]gonvml.Return // by symbol
	links   counters
	inside  []*Telemetry // of the slices that are there
}

// TelemetryOf is the telemetry of a device of a simulated machine, by which a
// test or a bench gives it a load. False for any other device.
func TelemetryOf(d gonvml.Device) (*Telemetry, bool) {
	if faulty, ok := d.(*faultyDevice); ok {
		d = faulty.gpu.well
	}
	measured, ok := d.(interface{ telemetry() *Telemetry })
	if !ok {
		return nil, false
	}
	return measured.telemetry(), true
}

func (t *Telemetry) telemetry() *Telemetry { return t }

// newTelemetry is of a whole GPU of a type; index is its place in the machine.
func newTelemetry(gpuType string, index int, memoryBytes uint64, partitioned func() bool) *Telemetry {
	return &Telemetry{envelope: envelopeOf(gpuType), memoryBytes: memoryBytes, place: uint64(index), partitioned: partitioned}
}

// partitioned reports whether the GPU is in MIG mode.
func (g *gpu) partitioned() bool {
	current, _, code := g.GetMigMode()
	return code == gonvml.SUCCESS && current == gonvml.DEVICE_MIG_ENABLE
}

// newSliceTelemetry is of a MIG device on the GPU that t measures, with so much
// memory. It counts into the GPU's until dropSlice.
func (t *Telemetry) newSliceTelemetry(memoryBytes uint64) *Telemetry {
	s := &Telemetry{envelope: t.envelope, memoryBytes: memoryBytes, slice: true, partitioned: func() bool { return false }}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside = append(t.inside, s)
	return s
}

func (t *Telemetry) dropSlice(s *Telemetry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside = slices.DeleteFunc(t.inside, func(other *Telemetry) bool { return other == s })
}

// SetLoad replaces what keeps the device busy. The zero Load lets it idle.
func (t *Telemetry) SetLoad(load Load) {
	load.Processes = slices.Clone(load.Processes)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.links.advance(t.linkRate(time.Now())) // what went over the links until now
	t.load = load
}

// Refuse makes a call that this file answers return code from now on, such as
// ERROR_NOT_SUPPORTED, named by its symbol: "nvmlDeviceGetPowerUsage". SUCCESS
// lets it answer again. A field of nvmlDeviceGetFieldValues has no symbol: the
// call is refused as a whole.
func (t *Telemetry) Refuse(symbol string, code gonvml.Return) {
	t.mu.Lock()
	defer t.mu.Unlock()
	refused := maps.Clone(t.refused)
	if refused == nil {
		refused = map[string]gonvml.Return{}
	}
	delete(refused, symbol)
	if code != gonvml.SUCCESS {
		refused[symbol] = code
	}
	t.refused = refused
}

// answer is whether the call is answered at all, with the figures of now.
func (t *Telemetry) answer(symbol string, ofSlice bool) (figures, gonvml.Return) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if code, ok := t.refused[symbol]; ok {
		return figures{}, code
	}
	if t.slice && !ofSlice {
		return figures{}, gonvml.ERROR_NOT_SUPPORTED
	}
	return t.figures(time.Now()), gonvml.SUCCESS
}

// processes are those of the device and of its slices. The lock is held.
func (t *Telemetry) processes() []Process {
	all := slices.Clone(t.load.Processes)
	for _, s := range t.inside {
		s.mu.Lock()
		all = append(all, s.load.Processes...)
		s.mu.Unlock()
	}
	return all
}
