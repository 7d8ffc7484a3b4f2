package simulated

import (
	"sync"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
)

// eventTypes is what a data-center GPU reports: no clock or power source events,
// which only Kepler and laptops have.
const eventTypes = gonvml.EventTypeSingleBitEccError | gonvml.EventTypeDoubleBitEccError |
	gonvml.EventTypePState | gonvml.EventTypeXidCriticalError | gonvml.EventMigConfigChange

// maxEvents is how many wait in a set; a driver's queue is bounded as well, and
// drops what does not fit.
const maxEvents = 1024

// noInstance is what an event has as MIG instance when it is of the whole GPU
// (nvml.h, nvmlEventData_t).
const noInstance = ^uint32(0)

// eventSet is nvmlEventSet: what happens to the GPUs that are registered in it
// waits in line for Wait. It is safe for concurrent use.
type eventSet struct {
	mock.EventSet

	mu         sync.Mutex
	registered map[*gpu]registration
	lost       map[*gpu]bool // of those registered
	failure    gonvml.Return // what the next Wait answers; SUCCESS: what it should
	queue      []gonvml.EventData
	freed      bool
	woken      chan struct{} // closed when something changes, then replaced
}

type registration struct {
	types  uint64
	handle gonvml.Device // what the caller knows the GPU by
}

func newEventSet() *eventSet {
	s := &eventSet{registered: map[*gpu]registration{}, lost: map[*gpu]bool{}, woken: make(chan struct{})}
	answerNotSupported(&s.EventSet)
	return s
}

// EventSetCreate is nvmlEventSetCreate.
func (m *machine) EventSetCreate() (gonvml.EventSet, gonvml.Return) {
	return newEventSet(), gonvml.SUCCESS
}

// EventSetWait is nvmlEventSetWait.
func (m *machine) EventSetWait(set gonvml.EventSet, timeoutMs uint32) (gonvml.EventData, gonvml.Return) {
	return set.Wait(timeoutMs)
}

// EventSetFree is nvmlEventSetFree.
func (m *machine) EventSetFree(set gonvml.EventSet) gonvml.Return { return set.Free() }

// GetSupportedEventTypes is nvmlDeviceGetSupportedEventTypes.
func (g *gpu) GetSupportedEventTypes() (uint64, gonvml.Return) { return eventTypes, gonvml.SUCCESS }

// RegisterEvents is nvmlDeviceRegisterEvents: from now on, what is of these types
// gets into the set.
func (g *gpu) RegisterEvents(types uint64, set gonvml.EventSet) gonvml.Return {
	return g.registerAs(g, types, set)
}

// registerAs registers the GPU under a handle of another's making.
func (g *gpu) registerAs(handle gonvml.Device, types uint64, set gonvml.EventSet) gonvml.Return {
	s, ok := set.(*eventSet)
	switch {
	case !ok || types == 0:
		return gonvml.ERROR_INVALID_ARGUMENT
	case types&^eventTypes != 0:
		return gonvml.ERROR_NOT_SUPPORTED
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freed {
		return gonvml.ERROR_INVALID_ARGUMENT
	}
	s.registered[g] = registration{types: types | s.registered[g].types, handle: handle}
	return gonvml.SUCCESS
}

// Wait gives the oldest event, or waits for one for so many milliseconds. Once a
// GPU in the set is lost, it gives what came before, and from then on that error
// alone. nvml.h does not say what becomes of the events of the other GPUs; here
// they do not come, which is the worst for who waits.
func (s *eventSet) Wait(timeoutMs uint32) (gonvml.EventData, gonvml.Return) {
	timer := time.NewTimer(time.Duration(timeoutMs) * time.Millisecond)
	defer timer.Stop()
	for {
		event, code, woken := s.take()
		if code != gonvml.ERROR_TIMEOUT {
			return event, code
		}
		select {
		case <-woken:
		case <-timer.C:
			return gonvml.EventData{}, gonvml.ERROR_TIMEOUT
		}
	}
}

func (s *eventSet) take() (gonvml.EventData, gonvml.Return, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.freed:
		return gonvml.EventData{}, gonvml.ERROR_INVALID_ARGUMENT, nil
	case s.failure != gonvml.SUCCESS:
		code := s.failure
		s.failure = gonvml.SUCCESS
		return gonvml.EventData{}, code, nil
	case len(s.queue) > 0:
		event := s.queue[0]
		s.queue = s.queue[1:]
		return event, gonvml.SUCCESS, nil
	case len(s.lost) > 0:
		return gonvml.EventData{}, gonvml.ERROR_GPU_IS_LOST, nil
	}
	return gonvml.EventData{}, gonvml.ERROR_TIMEOUT, s.woken
}

// Free ends the set; who waits on it is let go.
func (s *eventSet) Free() gonvml.Return {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freed {
		return gonvml.ERROR_INVALID_ARGUMENT
	}
	s.freed, s.registered, s.queue = true, nil, nil
	s.wake()
	return gonvml.SUCCESS
}

// send puts an event of a GPU in line, if the set is to have it.
func (s *eventSet) send(g *gpu, kind, data uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.registered[g]
	if s.freed || len(s.lost) > 0 || r.types&kind == 0 || len(s.queue) >= maxEvents {
		return
	}
	s.queue = append(s.queue, gonvml.EventData{
		Device: r.handle, EventType: kind, EventData: data,
		GpuInstanceId: noInstance, ComputeInstanceId: noInstance,
	})
	s.wake()
}

// fail makes the next Wait answer code; one that waits now goes on.
func (s *eventSet) fail(code gonvml.Return) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = code
}

// lose marks a GPU as off the bus, if it is in the set.
func (s *eventSet) lose(g *gpu) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.registered[g]; ok {
		s.lost[g] = true
		s.wake()
	}
}

// drop takes a GPU out: the driver let go of it, and what comes back in its place
// has to be registered anew.
func (s *eventSet) drop(g *gpu) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.registered, g)
	delete(s.lost, g)
}

func (s *eventSet) wake() {
	close(s.woken)
	s.woken = make(chan struct{})
}

func (s *eventSet) isFreed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freed
}
