package nvml

import (
	"errors"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// rawEvent is an event as the driver gave it.
type rawEvent struct {
	data gonvml.EventData
	at   time.Time
}

// run is the watcher's goroutine. It owns the event set: nobody else uses it,
// save a wait that hangs in the driver and is left behind.
func (w *Watcher) run() {
	defer close(w.done)
	defer close(w.events)
	defer func() { w.free(w.set) }()
	var nextScan time.Time
	for !w.isClosing() {
		if now := time.Now(); w.set == nil || !now.Before(nextScan) {
			nextScan = now.Add(eventScan)
			if err := w.refresh(); err != nil {
				w.pause(pauseAfter(err))
				continue
			}
		}
		if len(w.set.gpus) == 0 {
			w.pause(time.Until(nextScan))
			continue
		}
		code, err := w.wait(w.set, eventWait)
		w.handOn()
		switch {
		case err != nil: // it hangs
			w.say(waits, err)
			w.pause(eventRetry)
		case code == gonvml.SUCCESS, code == gonvml.ERROR_TIMEOUT:
			w.say(waits, nil)
		default:
			// A GPU was lost, or the set is "in undefined state" (nvml.h): without a new
			// set every further wait would say the same at once.
			w.renew()
			w.pause(eventRetry)
		}
	}
}

// errNoEvents is a driver that will not have events however often it is asked.
var errNoEvents = errors.New("the NVIDIA driver reports no events: Xid errors are not noticed as they happen, only what the GPUs count; update the driver")

func pauseAfter(err error) time.Duration {
	if errors.Is(err, errBusy) {
		return eventRetry
	}
	return eventScan
}

// refresh makes a set if there is none, and has all GPUs in it that there are.
func (w *Watcher) refresh() error {
	why, err := w.library.startUnlessBusy()
	if err == nil && why != "" {
		err = errors.New(why)
	}
	if err == nil && w.set == nil {
		w.set, err = w.newSet()
	}
	if err == nil {
		err = w.scan(w.set)
	}
	w.say(scans, err)
	if w.set != nil {
		return nil // it goes on with what is in the set
	}
	return err
}

// renew takes a new set in place of one that failed. The GPUs are registered in
// the new one before the old one is emptied, so that an event may come twice but
// not be missed.
func (w *Watcher) renew() {
	old := w.set
	w.set = nil
	_ = w.refresh() // said there, and tried again by run
	for range maxEvents {
		if code, err := w.wait(old, 0); err != nil || code != gonvml.SUCCESS {
			break
		}
		w.handOn()
	}
	w.free(old)
}

// wait waits for one event, which it leaves in w.taken.
func (w *Watcher) wait(set *eventSet, limit time.Duration) (gonvml.Return, error) {
	return ask(&w.library.watching.waiting, eventSubject, limit+eventGrace, func() (gonvml.Return, error) {
		data, code := set.nvml.Wait(uint32(limit.Milliseconds()))
		if code == gonvml.SUCCESS {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.taken = append(w.taken, rawEvent{data, time.Now().UTC()})
		}
		return code, nil
	})
}

// eventSubject is whom a wait for events asks.
const eventSubject = "the NVIDIA driver's event queue"

// handOn gives the reader what waits brought.
func (w *Watcher) handOn() {
	w.mu.Lock()
	taken := w.taken
	w.taken = nil
	w.mu.Unlock()
	for _, raw := range taken {
		select {
		case w.events <- w.event(raw):
		case <-w.closing:
			return
		}
	}
}

func (w *Watcher) event(raw rawEvent) Event {
	e := Event{UUID: w.names[raw.data.Device], Kind: eventKinds()[raw.data.EventType], Time: raw.at}
	if e.Kind != EventXID {
		return e
	}
	const wholeGPU = ^uint32(0) // nvml.h, nvmlEventData_t
	e.XID = raw.data.EventData
	if id := raw.data.GpuInstanceId; id != wholeGPU {
		e.GPUInstance = &id
	}
	if id := raw.data.ComputeInstanceId; id != wholeGPU {
		e.ComputeInstance = &id
	}
	return e
}

// free gives a set back, unless the driver still works on it or with a GPU in it.
func (w *Watcher) free(set *eventSet) {
	if set == nil {
		return
	}
	if _, owes := w.library.watching.waiting.any(); owes {
		return
	}
	_, _ = ask(&w.library.watching.waiting, eventSubject, eventGrace, func() (gonvml.Return, error) {
		return set.nvml.Free(), nil // a set that can't be freed is lost either way
	})
}

// The steps that can be in trouble, each by itself.
const (
	scans = "scan"
	waits = "wait"
)

// say logs a step's trouble once, until another or none takes its place.
func (w *Watcher) say(step string, err error) {
	if errors.Is(err, errBusy) {
		return // it is over in a second
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != w.said[step] {
		w.log.Warn("GPU events are not all watched", "error", text)
	}
	w.said[step] = text
}

func (w *Watcher) isClosing() bool {
	select {
	case <-w.closing:
		return true
	default:
		return false
	}
}

// pause waits, or less when the watcher is closed.
func (w *Watcher) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.closing:
	case <-timer.C:
	}
}
