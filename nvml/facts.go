package nvml

import (
	"errors"
	"fmt"
	"sync"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/health"
)

// checking is what Facts keeps between calls. As with sampling, its own lock and
// its own account of who owes an answer keep it from waiting for an inventory
// that hangs.
type checking struct {
	waiting waiting

	mu     sync.Mutex // held through Facts
	closed bool
}

// Facts reads of all GPUs at the same time what health.Assess judges. A GPU that
// fails or hangs is in the snapshot with its reach, and holds up the others for 2
// seconds at most; a driver that cannot be used makes a snapshot that lists
// nothing and says why. It is an error only after Close.
//
// It is safe for concurrent use; calls wait for each other, and none waits for
// Inventory or Sample.
func (l *Library) Facts() (health.Snapshot, error) {
	l.checking.mu.Lock()
	defer l.checking.mu.Unlock()
	out := health.Snapshot{At: time.Now().UTC(), GPUs: []health.Facts{}}
	if l.checking.closed {
		return out, fmt.Errorf("read the health of the GPUs: %w", errClosed)
	}
	why, err := l.startUnlessBusy()
	if err != nil {
		why = err.Error()
	}
	if why != "" {
		out.Problem = why
		return out, nil
	}
	count, err := ask(&l.checking.waiting, driver, factsLimit, l.count)
	if err != nil {
		out.Problem = err.Error()
		return out, nil
	}
	out.Listed = true
	out.GPUs = make([]health.Facts, count)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			facts, err := ask(&l.checking.waiting, gpuSubject(i), factsLimit, func() (health.Facts, error) { return l.readFacts(i), nil })
			if err != nil { // readFacts has none of its own
				facts = health.Facts{Index: i, Reach: health.Hangs, Detail: err.Error()}
			}
			out.GPUs[i] = facts
		})
	}
	wg.Wait()
	return out, nil
}

// close makes Facts fail from now on. It names a subject that still owes an answer.
func (c *checking) close() (subject string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.waiting.any()
}

// startUnlessBusy starts NVML, unless that is done. It does not wait for a lock
// that an inventory may hold for a minute.
func (l *Library) startUnlessBusy() (why string, err error) {
	if l.started.Load() {
		return "", nil
	}
	if !l.mu.TryLock() {
		return "", errBusy
	}
	defer l.mu.Unlock()
	if l.closed {
		return "", errClosed
	}
	return l.start()
}

var errBusy = errors.New("an inventory is being read, which may start NVML: ask again in a second")

func (l *Library) count() (int, error) {
	count, code := l.api.DeviceGetCount()
	if code != gonvml.SUCCESS {
		return 0, fmt.Errorf("count the GPUs: %w", code)
	}
	return count, nil
}

// reachOf says what an answer other than SUCCESS to a call that every GPU must
// answer means.
func reachOf(code gonvml.Return) health.Reach {
	if code == gonvml.ERROR_GPU_IS_LOST || code == gonvml.ERROR_RESET_REQUIRED {
		return health.Lost
	}
	return health.Unreadable
}

// readFacts never fails: a GPU that does is facts too.
func (l *Library) readFacts(index int) health.Facts {
	f := health.Facts{Index: index, Reach: health.Answers}
	d, code := l.api.DeviceGetHandleByIndex(index)
	if code != gonvml.SUCCESS {
		f.Reach, f.Detail = reachOf(code), fmt.Sprintf("open %s: %v", gpuSubject(index), code)
		return f
	}
	uuid, code := d.GetUUID()
	if code != gonvml.SUCCESS {
		f.Reach, f.Detail = reachOf(code), fmt.Sprintf("read the UUID of %s: %v", gpuSubject(index), code)
		return f
	}
	f.UUID = uuid
	if info, code := d.GetPciInfo(); code == gonvml.SUCCESS {
		f.PCIAddress = pciAddress(info)
	}
	r := factReader{library: l, device: d}
	f.UncorrectableECC = r.uncorrectableECC()
	f.SRAMThresholdExceeded = r.sramThreshold()
	f.RemappedRows = r.remappedRows()
	if f.RemappedRows == nil {
		f.RetiredPages = r.retiredPages()
	}
	f.Slowdown = r.slowdown()
	f.Links = r.links()
	f.Recovery = r.recovery()
	if r.lost {
		f.Reach, f.Detail = health.Lost, fmt.Sprintf("%s stopped answering while it was read: %v", gpuSubject(index), gonvml.ERROR_GPU_IS_LOST)
	}
	return f
}
