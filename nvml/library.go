package nvml

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// Library is the way to the driver, or to the simulation of one. It is safe for
// concurrent use; calls wait for each other. Make one per process, by Open.
type Library struct {
	api         gonvml.Interface
	simulatedAs string // empty for the real driver

	mu      sync.Mutex // held through Inventory and Close
	closed  bool
	started atomic.Bool // NVML is initialised; set with mu held, read without

	waiting  waiting
	sampling sampling
	checking checking
	watching watching
}

// Open chooses the GPUs: "auto" for those of this machine, if any, or
// "simulated:<type>x<count>", such as simulated:h100x8, with type a100, h100,
// h200 or b200 and count 1 to 16. It fails on any other mode alone; that there is
// no driver is for Inventory to tell. The caller must Close the Library.
func Open(mode string) (*Library, error) {
	layout, err := parseMode(mode)
	if err != nil {
		return nil, err
	}
	if layout == nil {
		return newLibrary(gonvml.New(), ""), nil
	}
	api, err := simulated.New(*layout)
	if err != nil {
		return nil, fmt.Errorf("simulate %s: %w", layout, err)
	}
	return newLibrary(api, layout.String()), nil
}

// OpenMachine is Open on a simulated machine that the caller has in hand, to load its
// devices or to break them for a test or a bench.
func OpenMachine(machine gonvml.Interface, layout simulated.Layout) *Library {
	return newLibrary(machine, layout.String())
}

func newLibrary(api gonvml.Interface, simulatedAs string) *Library {
	return &Library{api: api, simulatedAs: simulatedAs}
}

// Close lets the driver go. Inventory fails afterwards; closing again does
// nothing. If the driver still has not answered an earlier call, Close says so
// and leaves the library loaded, because unloading it under that call would
// crash the process.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	sampled, sampling := l.sampling.close()
	checked, checking := l.checking.close()
	watched, watching := l.watching.close()
	if !l.started.Load() {
		return nil
	}
	if subject, ok := l.waiting.any(); ok {
		return fmt.Errorf("close NVML: %s has still not answered", subject)
	}
	if sampling {
		return fmt.Errorf("close NVML: %s has still not answered", sampled)
	}
	if checking {
		return fmt.Errorf("close NVML: %s has still not answered", checked)
	}
	if watching {
		return fmt.Errorf("close NVML: %s has still not answered", watched)
	}
	if code := l.api.Shutdown(); code != gonvml.SUCCESS {
		return fmt.Errorf("close NVML: %w", code)
	}
	return nil
}

// start initialises NVML, unless that is done. A machine without a usable driver
// is not an error: why says what is the matter and what to do. It is tried again
// at every call, so a driver that is loaded later is found.
func (l *Library) start() (why string, err error) {
	if l.started.Load() {
		return "", nil
	}
	code, err := ask(&l.waiting, driver, initLimit, func() (gonvml.Return, error) { return l.api.Init(), nil })
	if err != nil {
		return "", err
	}
	if code == gonvml.SUCCESS {
		l.started.Store(true)
	}
	return whyNoDriver(code), nil
}

// driver is the subject of questions that are not about one GPU.
const driver = "the NVIDIA driver"

var errClosed = errors.New("NVML is closed")
