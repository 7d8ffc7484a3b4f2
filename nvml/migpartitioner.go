package nvml

import (
	"errors"
	"sync"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Limits on how long a MIG call is waited for; see limits.go.
const (
	// migChangeLimit is for making or destroying one slice.
	migChangeLimit = 30 * time.Second
	// migModeLimit is longer because the driver may reset the GPU within the call.
	migModeLimit = 60 * time.Second
	// maxMIGProfiles is how many numbers of profiles are tried; NVML knows 18.
	maxMIGProfiles = 64
)

// Partitioner reads and changes how this machine's GPUs are partitioned by MIG.
// It is safe for concurrent use: calls about one GPU wait for each other, calls
// about different GPUs do not, so that a GPU that hangs stops no other. It keeps
// nothing; each call asks the driver. Make one per Library, by NewPartitioner.
type Partitioner struct {
	library *Library

	mu    sync.Mutex
	freed *sync.Cond
	busy  map[string]bool // UUIDs of GPUs with a call under way
}

// NewPartitioner works through l, and fails after l is closed.
func NewPartitioner(l *Library) *Partitioner {
	p := &Partitioner{library: l, busy: map[string]bool{}}
	p.freed = sync.NewCond(&p.mu)
	return p
}

// enter waits until no other call about the GPU is under way.
func (p *Partitioner) enter(gpu string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy[gpu] {
		p.freed.Wait()
	}
	p.busy[gpu] = true
}

func (p *Partitioner) leave(gpu string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, gpu)
	p.freed.Broadcast()
}

// askMIG finds the GPU and makes a call about it. Every error is a *MIGError.
func askMIG[T any](p *Partitioner, doing, gpu string, limit time.Duration, call func(gonvml.Device) (T, error)) (T, error) {
	p.enter(gpu)
	defer p.leave(gpu)
	value, err := func() (none T, err error) {
		release, err := p.hold(gpu)
		if err != nil {
			return none, err
		}
		defer release()
		return ask(&p.library.waiting, "MIG of "+gpu, limit, func() (none T, err error) {
			d, err := p.open(gpu)
			if err != nil {
				return none, err
			}
			return call(d)
		})
	}()
	if err == nil {
		return value, nil
	}
	var e *MIGError
	if !errors.As(err, &e) {
		e = &MIGError{Kind: MIGNoAnswer, Detail: err.Error()}
	}
	e.GPU, e.Doing = gpu, doing
	return value, e
}

// hold keeps the library loaded until release. It is a question without an
// answer, which Close will not unload the library under: the library's lock
// cannot be held, since a hanging GPU would then stop the inventory of the others.
func (p *Partitioner) hold(gpu string) (release func(), err error) {
	l := p.library
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, &MIGError{Kind: MIGFailed, Detail: errClosed.Error()}
	}
	why, err := l.start()
	if err != nil {
		return nil, err
	}
	if why != "" {
		return nil, &MIGError{Kind: MIGNotSupported, Detail: why}
	}
	lease := "MIG work on " + gpu
	l.waiting.add(lease)
	return func() { l.waiting.remove(lease) }, nil
}

// open finds the GPU, and makes sure that the driver has all the calls for MIG:
// calling one that it lacks would end the process.
func (p *Partitioner) open(gpu string) (gonvml.Device, error) {
	for _, versions := range migSymbols() {
		known := false
		for _, symbol := range versions {
			known = known || p.library.has(symbol)
		}
		if !known {
			return nil, &MIGError{Kind: MIGNotSupported, Detail: "the NVIDIA driver is too old for MIG (it lacks " + versions[0] + "): update it"}
		}
	}
	d, code := p.library.api.DeviceGetHandleByUUID(gpu)
	switch code {
	case gonvml.SUCCESS:
		return d, nil
	case gonvml.ERROR_NOT_FOUND, gonvml.ERROR_INVALID_ARGUMENT:
		return nil, &MIGError{Kind: MIGUnknownGPU, Err: code, Detail: "this machine has no such GPU: look at the inventory for those it has"}
	}
	return nil, migFault("opening it", code)
}

// migSymbols are the calls that are made, each in the versions that go-nvml
// chooses from.
func migSymbols() [][]string {
	return [][]string{
		{"nvmlDeviceGetMigMode"},
		{"nvmlDeviceSetMigMode"},
		{"nvmlDeviceGetGpuInstanceProfileInfo"},
		{"nvmlDeviceGetGpuInstancePossiblePlacements", "nvmlDeviceGetGpuInstancePossiblePlacements_v2"},
		{"nvmlDeviceGetGpuInstances"},
		{"nvmlDeviceGetGpuInstanceById"},
		{"nvmlDeviceCreateGpuInstanceWithPlacement"},
		{"nvmlGpuInstanceGetInfo"},
		{"nvmlGpuInstanceDestroy"},
		{"nvmlGpuInstanceGetComputeInstanceProfileInfo"},
		{"nvmlGpuInstanceGetComputeInstances"},
		{"nvmlGpuInstanceGetComputeInstanceById"},
		{"nvmlGpuInstanceCreateComputeInstance"},
		{"nvmlComputeInstanceGetInfo", "nvmlComputeInstanceGetInfo_v2"},
		{"nvmlComputeInstanceDestroy"},
		{"nvmlDeviceGetMaxMigDeviceCount"},
		{"nvmlDeviceGetMigDeviceHandleByIndex"},
		{"nvmlDeviceGetGpuInstanceId"},
		{"nvmlDeviceGetComputeInstanceId"},
	}
}
