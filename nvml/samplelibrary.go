package nvml

import (
	"errors"
	"fmt"
	"sync"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// sampling is what Sample keeps between calls. It has its own lock and its own
// account of who owes an answer, so that a sample never waits for an inventory
// that hangs, and the two may ask one GPU at the same time.
type sampling struct {
	waiting waiting

	mu      sync.Mutex // held through Sample
	closed  bool
	symbols symbols // nil until NVML has started
	gpus    []*sampledGPU
	uuids   []string // of each GPU's last sample
}

// Sample asks all GPUs and MIG devices at the same time what they do now. A GPU
// that fails, or does not answer within 0.8 seconds, is named in Silent and costs
// the others nothing. No driver or no GPU becomes a Note. It is an error when the
// driver as a whole hangs, and after Close.
//
// It keeps the handles of the devices from one call to the next and looks them up
// again when one fails, so a GPU that comes back, or another in its place, is in
// the next sample. A MIG device that was made since is in it within 5 calls.
//
// It is safe for concurrent use; calls wait for each other, and only the first
// that starts NVML for Inventory.
func (l *Library) Sample() (Samples, error) {
	l.sampling.mu.Lock()
	defer l.sampling.mu.Unlock()
	out := Samples{Time: time.Now().UTC(), Devices: []Sample{}}
	why, err := l.startSampling()
	if err != nil {
		return out, fmt.Errorf("sample the GPUs: %w", err)
	}
	if why != "" {
		out.Note = why
		return out, nil
	}
	if err := l.countSampled(); err != nil {
		return out, fmt.Errorf("sample the GPUs: %w", err)
	}
	if len(l.sampling.gpus) == 0 {
		out.Note = "the NVIDIA driver finds no GPU in this machine: look at lspci and dmesg, " + orSimulate
	}
	for i, answer := range l.askSampled(out.Time) {
		if answer.err != nil {
			out.Silent = append(out.Silent, Silent{Index: i, UUID: l.sampling.uuids[i], Detail: answer.err.Error()})
			continue
		}
		l.sampling.uuids[i] = answer.devices[0].UUID
		out.Devices = append(out.Devices, answer.devices...)
	}
	return out, nil
}

// startSampling starts NVML, unless that is done. It does not wait for a lock
// that an inventory may hold for a minute.
func (l *Library) startSampling() (why string, err error) {
	s := &l.sampling
	if s.closed {
		return "", errClosed
	}
	if s.symbols != nil {
		return "", nil
	}
	if !l.started.Load() {
		if !l.mu.TryLock() {
			return "", errStarting
		}
		defer l.mu.Unlock()
		if why, err = l.start(); why != "" || err != nil {
			return why, err
		}
	}
	s.symbols = l.sampledSymbols()
	return "", nil
}

var errStarting = errors.New("an inventory is being read, which may start NVML: sample again in a second")

// countSampled follows the number of GPUs. While the driver does not say, it is
// what it was.
func (l *Library) countSampled() error {
	s := &l.sampling
	count, err := ask(&s.waiting, driver, sampleLimit, func() (int, error) {
		count, code := l.api.DeviceGetCount()
		if code != gonvml.SUCCESS {
			return 0, fmt.Errorf("count the GPUs: %w", code)
		}
		return count, nil
	})
	if err != nil {
		if len(s.gpus) > 0 {
			return nil
		}
		return err
	}
	for i := len(s.gpus); i < count; i++ {
		s.gpus = append(s.gpus, &sampledGPU{index: i})
		s.uuids = append(s.uuids, "")
	}
	s.gpus, s.uuids = s.gpus[:count], s.uuids[:count]
	return nil
}

// sampleAnswer is a GPU's sample and those of its MIG devices, or what went wrong.
type sampleAnswer struct {
	devices []Sample
	err     error
}

func (l *Library) askSampled(at time.Time) []sampleAnswer {
	s := &l.sampling
	out := make([]sampleAnswer, len(s.gpus))
	var wg sync.WaitGroup
	for i, g := range s.gpus {
		wg.Go(func() {
			// g is the call's alone: nobody asks it again while it owes an answer.
			devices, err := ask(&s.waiting, gpuSubject(i), sampleLimit, func() ([]Sample, error) {
				return g.sample(l.api, s.symbols, at)
			})
			out[i] = sampleAnswer{devices, err}
		})
	}
	wg.Wait()
	return out
}

// close makes Sample fail from now on. It names a subject that still owes an
// answer.
func (s *sampling) close() (subject string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.waiting.any()
}

// symbols are the calls of a sample that the installed library knows.
type symbols map[string]bool

func (l *Library) sampledSymbols() symbols {
	known := symbols{}
	for _, symbol := range []string{
		"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature",
		"nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetClockInfo",
		"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
		"nvmlDeviceGetFanSpeed", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetPcieThroughput", "nvmlDeviceGetFieldValues",
		"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetProcessUtilization",
		"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
	} {
		known[symbol] = l.has(symbol)
	}
	return known
}
