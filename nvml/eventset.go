package nvml

import (
	"fmt"
	"slices"
	"sync"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// eventSet is NVML's set of events with what is registered in it.
type eventSet struct {
	nvml gonvml.EventSet
	gpus map[string]gonvml.Device // by UUID, as they were registered
}

// newSet makes an empty set.
func (w *Watcher) newSet() (*eventSet, error) {
	l := w.library
	for _, symbol := range []string{"nvmlEventSetCreate", "nvmlEventSetFree", "nvmlEventSetWait", "nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes"} {
		if !l.has(symbol) {
			return nil, errNoEvents
		}
	}
	return ask(&l.watching.waiting, eventSubject, eventGrace, func() (*eventSet, error) {
		set, code := l.api.EventSetCreate()
		switch code {
		case gonvml.SUCCESS:
			return &eventSet{nvml: set, gpus: map[string]gonvml.Device{}}, nil
		case gonvml.ERROR_NOT_SUPPORTED, gonvml.ERROR_FUNCTION_NOT_FOUND:
			return nil, errNoEvents
		}
		return nil, fmt.Errorf("make a set of GPU events: %w", code)
	})
}

// eventGPU is a GPU that may be registered.
type eventGPU struct {
	handle gonvml.Device
	uuid   string
	types  uint64 // events that it has and that are watched
}

// scan brings the set in line with the GPUs that are there. One that hangs or
// fails costs the others nothing and is tried again at the next scan.
func (w *Watcher) scan(set *eventSet) error {
	l := w.library
	count, err := ask(&l.watching.waiting, driver, eventGrace, l.count)
	if err != nil {
		return fmt.Errorf("watch GPU events: %w", err)
	}
	found, errs := make([]eventGPU, count), make([]error, count)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			found[i], errs[i] = ask(&l.watching.waiting, gpuSubject(i), eventGrace, func() (eventGPU, error) { return l.findEventGPU(i) })
		})
	}
	wg.Wait()
	set.forget(found)
	for i := range found {
		if errs[i] == nil {
			errs[i] = w.register(set, i, found[i])
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Library) findEventGPU(index int) (eventGPU, error) {
	d, code := l.api.DeviceGetHandleByIndex(index)
	if code != gonvml.SUCCESS {
		return eventGPU{}, fmt.Errorf("watch the events of %s: open it: %w", gpuSubject(index), code)
	}
	uuid, code := d.GetUUID()
	if code != gonvml.SUCCESS {
		return eventGPU{}, fmt.Errorf("watch the events of %s: read its UUID: %w", gpuSubject(index), code)
	}
	g := eventGPU{handle: d, uuid: uuid}
	supported, code := d.GetSupportedEventTypes()
	if code != gonvml.SUCCESS && code != gonvml.ERROR_NOT_SUPPORTED {
		return eventGPU{}, fmt.Errorf("ask which events %s has: %w", gpuSubject(index), code)
	}
	for kind := range eventKinds() {
		g.types |= kind & supported
	}
	return g, nil
}

// forget takes out what does not answer or is not there any more, so that it is
// registered when it comes back.
func (set *eventSet) forget(found []eventGPU) {
	for uuid := range set.gpus {
		if !slices.ContainsFunc(found, func(g eventGPU) bool { return g.uuid == uuid }) {
			delete(set.gpus, uuid)
		}
	}
}

// register puts a GPU into the set, unless it is in it under the same handle.
func (w *Watcher) register(set *eventSet, index int, g eventGPU) error {
	if set.gpus[g.uuid] == g.handle {
		return nil
	}
	code := gonvml.ERROR_NOT_SUPPORTED
	if g.types != 0 {
		var err error
		code, err = ask(&w.library.watching.waiting, gpuSubject(index), eventGrace, func() (gonvml.Return, error) {
			return g.handle.RegisterEvents(g.types, set.nvml), nil
		})
		if err != nil {
			return err
		}
	}
	switch code {
	case gonvml.SUCCESS:
	case gonvml.ERROR_NOT_SUPPORTED:
		w.log.Warn("GPU reports no events: its Xid errors are not noticed as they happen", "gpu", g.uuid)
	default:
		return fmt.Errorf("watch the events of %s: %w", gpuSubject(index), code)
	}
	set.gpus[g.uuid] = g.handle // also without events: it is asked and logged once
	w.names[g.handle] = g.uuid
	return nil
}
