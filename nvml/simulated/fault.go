package simulated

import (
	"fmt"
	"slices"
	"sync"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Faulty is a simulated machine that a test can break: its driver as a whole, and
// each of its GPUs by itself. Without a fault it answers as the machine of New
// does. It is safe for concurrent use: faults come and go under running calls, as
// real ones do.
type Faulty struct {
	*machine
	layout Layout

	mu      sync.Mutex // never held while a call waits
	gpus    []*FaultyGPU
	order   []int // slots in order of index; without those that are not there
	sets    []*eventSet
	driver  gonvml.Return // what each call of the driver answers; SUCCESS: it is well
	missing map[string]bool
	stuck   chan struct{} // closed when the driver answers again; nil: it does
}

var _ gonvml.Interface = (*Faulty)(nil)

// NewFaulty builds the machine that layout describes, all well.
func NewFaulty(layout Layout) (*Faulty, error) {
	api, err := New(layout)
	if err != nil {
		return nil, err
	}
	m, ok := api.(*machine)
	if !ok {
		return nil, fmt.Errorf("simulate %s: New made a %T", layout, api)
	}
	f := &Faulty{machine: m, layout: layout, missing: map[string]bool{}}
	for slot, g := range m.gpus {
		f.gpus = append(f.gpus, newFaultyGPU(f, g, slot))
		f.order = append(f.order, slot)
	}
	return f, nil
}

// Layout is what the machine was built from.
func (f *Faulty) Layout() Layout { return f.layout }

// GPU is the one in a slot, counted from 0 as they were indexed at first. It panics
// for a slot that the machine does not have.
func (f *Faulty) GPU(slot int) *FaultyGPU { return f.gpus[slot] }

// Reorder gives the GPUs other indexes, as a driver that is loaded anew may: slots[i]
// is the slot of the GPU that gets index i. It leaves out GPUs that are not there.
// Event sets of before have no GPU in them any more.
func (f *Faulty) Reorder(slots ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = slices.DeleteFunc(slices.Clone(slots), func(slot int) bool { return !slices.Contains(f.order, slot) })
	for _, set := range f.sets {
		for _, g := range f.gpus {
			set.drop(g.well)
		}
	}
}

// FailDriver makes each call of the driver as a whole answer code, Init too: no
// library, no permission, an unknown error. SUCCESS mends it.
func (f *Faulty) FailDriver(code gonvml.Return) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.driver = code
}

// HangDriver makes each call of the driver as a whole wait until release is called.
func (f *Faulty) HangDriver() (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stuck := make(chan struct{})
	f.stuck = stuck
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.stuck == stuck {
			f.stuck = nil
		}
		close(stuck)
	})
}

// FailWait makes the next wait on each event set answer code, once. The events that
// are in line stay there.
func (f *Faulty) FailWait(code gonvml.Return) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, set := range f.sets {
		set.fail(code)
	}
}

// RemoveSymbols makes the library an older one that lacks these calls, such as
// nvmlDeviceGetRemappedRows. Who calls one all the same panics; with a real
// library, the process would end.
func (f *Faulty) RemoveSymbols(symbols ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range symbols {
		f.missing[s] = true
	}
}

// LookupSymbol finds every symbol that was not removed.
func (f *Faulty) LookupSymbol(symbol string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.missing[symbol] {
		return fmt.Errorf("undefined symbol: %s", symbol)
	}
	return f.machine.LookupSymbol(symbol)
}

// Extensions is how a caller asks which NVML calls exist.
func (f *Faulty) Extensions() gonvml.ExtendedInterface { return f }

// enter waits while the driver hangs, and then says how it is.
func (f *Faulty) enter(symbol string) gonvml.Return {
	f.mu.Lock()
	stuck, code, missing := f.stuck, f.driver, f.missing[symbol]
	f.mu.Unlock()
	if missing {
		panic("undefined symbol: " + symbol)
	}
	if stuck != nil {
		<-stuck
	}
	return code
}

// Init is nvmlInit_v2.
func (f *Faulty) Init() gonvml.Return {
	if code := f.enter("nvmlInit_v2"); code != gonvml.SUCCESS {
		return code
	}
	return f.machine.Init()
}

// Shutdown is nvmlShutdown.
func (f *Faulty) Shutdown() gonvml.Return {
	if code := f.enter("nvmlShutdown"); code != gonvml.SUCCESS {
		return code
	}
	return f.machine.Shutdown()
}

// SystemGetDriverVersion is nvmlSystemGetDriverVersion.
func (f *Faulty) SystemGetDriverVersion() (string, gonvml.Return) {
	if code := f.enter("nvmlSystemGetDriverVersion"); code != gonvml.SUCCESS {
		return "", code
	}
	return f.machine.SystemGetDriverVersion()
}

// SystemGetCudaDriverVersion is nvmlSystemGetCudaDriverVersion.
func (f *Faulty) SystemGetCudaDriverVersion() (int, gonvml.Return) {
	if code := f.enter("nvmlSystemGetCudaDriverVersion"); code != gonvml.SUCCESS {
		return 0, code
	}
	return f.machine.SystemGetCudaDriverVersion()
}

// DeviceGetCount is nvmlDeviceGetCount_v2.
func (f *Faulty) DeviceGetCount() (int, gonvml.Return) {
	if code := f.enter("nvmlDeviceGetCount_v2"); code != gonvml.SUCCESS {
		return 0, code
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.order), gonvml.SUCCESS
}

// DeviceGetHandleByIndex is nvmlDeviceGetHandleByIndex_v2.
func (f *Faulty) DeviceGetHandleByIndex(index int) (gonvml.Device, gonvml.Return) {
	if code := f.enter("nvmlDeviceGetHandleByIndex_v2"); code != gonvml.SUCCESS {
		return nil, code
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if index < 0 || index >= len(f.order) {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	g := f.gpus[f.order[index]]
	return g.handle, g.handleCode()
}

// DeviceGetHandleByUUID is nvmlDeviceGetHandleByUUID.
func (f *Faulty) DeviceGetHandleByUUID(uuid string) (gonvml.Device, gonvml.Return) {
	if code := f.enter("nvmlDeviceGetHandleByUUID"); code != gonvml.SUCCESS {
		return nil, code
	}
	if d, ok := f.migDeviceByUUID(uuid); ok {
		return d, gonvml.SUCCESS
	}
	return f.findFaulty(func(g *FaultyGPU) bool { return g.uuid == uuid })
}

// DeviceGetHandleByPciBusId is nvmlDeviceGetHandleByPciBusId_v2.
func (f *Faulty) DeviceGetHandleByPciBusId(address string) (gonvml.Device, gonvml.Return) {
	if code := f.enter("nvmlDeviceGetHandleByPciBusId_v2"); code != gonvml.SUCCESS {
		return nil, code
	}
	return f.findFaulty(func(g *FaultyGPU) bool { return g.well.PciBusID == address })
}

func (f *Faulty) findFaulty(wanted func(*FaultyGPU) bool) (gonvml.Device, gonvml.Return) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, slot := range f.order {
		if g := f.gpus[slot]; wanted(g) {
			return g.handle, g.handleCode()
		}
	}
	return nil, gonvml.ERROR_NOT_FOUND
}

// EventSetCreate is nvmlEventSetCreate.
func (f *Faulty) EventSetCreate() (gonvml.EventSet, gonvml.Return) {
	if code := f.enter("nvmlEventSetCreate"); code != gonvml.SUCCESS {
		return nil, code
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sets = slices.DeleteFunc(f.sets, func(s *eventSet) bool { return s.isFreed() })
	set := newEventSet()
	f.sets = append(f.sets, set)
	return set, gonvml.SUCCESS
}

// EventSets is how many sets have been made and not freed.
func (f *Faulty) EventSets() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	open := 0
	for _, s := range f.sets {
		if !s.isFreed() {
			open++
		}
	}
	return open
}
