package simulated

import (
	"fmt"
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// machine is a mock server with completed devices.
//
// It answers the frequent calls itself instead of through the mock's Func
// fields: the mock keeps the arguments of every call for ever, which a server
// that asks every few seconds would feel.
type machine struct {
	*server.Server
	gpus []*gpu
}

var _ gonvml.Interface = (*machine)(nil)

// New builds the machine that layout describes. It is safe for concurrent use,
// and forgets everything (MIG slices too) when the process ends.
func New(layout Layout) (gonvml.Interface, error) {
	if _, err := ParseLayout(layout.String()); err != nil {
		return nil, err
	}
	for _, m := range models() {
		if m.gpuType == layout.Type {
			return build(m, layout.Count)
		}
	}
	return nil, fmt.Errorf("no simulated machine %q", layout)
}

func build(m model, count int) (*machine, error) {
	s := m.serve()
	if len(s.Devices) != boardGPUs {
		return nil, fmt.Errorf("go-nvml's mock of a DGX with %s has %d GPUs and not %d", m.gpuType, len(s.Devices), boardGPUs)
	}
	devices := append(s.Devices[:], m.serve().Devices[:]...) // a second board
	devices = devices[:count]
	answerNotSupported(&s.Interface)

	out := &machine{Server: s}
	for i, d := range devices {
		mocked, ok := d.(*server.Device)
		if !ok {
			return nil, fmt.Errorf("go-nvml's mock of a DGX with %s has a device of type %T", m.gpuType, d)
		}
		out.gpus = append(out.gpus, newGPU(m, mocked, i))
	}
	return out, nil
}

// DeviceGetCount is nvmlDeviceGetCount.
func (m *machine) DeviceGetCount() (int, gonvml.Return) { return len(m.gpus), gonvml.SUCCESS }

// DeviceGetHandleByIndex is nvmlDeviceGetHandleByIndex.
func (m *machine) DeviceGetHandleByIndex(index int) (gonvml.Device, gonvml.Return) {
	if index < 0 || index >= len(m.gpus) {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	return m.gpus[index], gonvml.SUCCESS
}

// DeviceGetHandleByUUID is nvmlDeviceGetHandleByUUID; it knows MIG devices too.
func (m *machine) DeviceGetHandleByUUID(uuid string) (gonvml.Device, gonvml.Return) {
	if d, ok := m.migDeviceByUUID(uuid); ok {
		return d, gonvml.SUCCESS
	}
	return m.find(func(g *gpu) bool { return g.UUID == uuid })
}

// DeviceGetHandleByPciBusId is nvmlDeviceGetHandleByPciBusId. It knows an
// address only as GetPciInfo writes it.
func (m *machine) DeviceGetHandleByPciBusId(address string) (gonvml.Device, gonvml.Return) {
	return m.find(func(g *gpu) bool { return g.PciBusID == address })
}

func (m *machine) find(wanted func(*gpu) bool) (gonvml.Device, gonvml.Return) {
	i := slices.IndexFunc(m.gpus, wanted)
	if i < 0 {
		return nil, gonvml.ERROR_NOT_FOUND
	}
	return m.gpus[i], gonvml.SUCCESS
}

// Extensions is how a caller asks which NVML calls exist.
func (m *machine) Extensions() gonvml.ExtendedInterface { return m }

// LookupSymbol finds every symbol but those that cannot be simulated.
func (m *machine) LookupSymbol(symbol string) error {
	if !simulates(symbol) {
		return fmt.Errorf("%s is not simulated", symbol)
	}
	return nil
}
