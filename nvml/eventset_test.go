package nvml

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// eventless is a machine whose driver cannot do events.
type eventless struct{ gonvml.Interface }

func (eventless) EventSetCreate() (gonvml.EventSet, gonvml.Return) {
	return nil, gonvml.ERROR_NOT_SUPPORTED
}

func TestDriverWithoutEventsIsLoggedOnce(t *testing.T) {
	for name, without := range map[string]func(*simulated.Faulty) *Library{
		"symbols": func(m *simulated.Faulty) *Library {
			m.RemoveSymbols("nvmlEventSetCreate")
			return OpenMachine(m, m.Layout())
		},
		"support": func(m *simulated.Faulty) *Library { return newLibrary(eventless{m}, "") },
	} {
		synctest.Test(t, func(t *testing.T) {
			log := &logLines{}
			w := without(newWard(t, "h100", 2).machine).Watch(slog.New(slog.NewTextHandler(log, nil)))
			time.Sleep(10 * time.Minute)
			w.Close()
			if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "no events") {
				t.Errorf("without %s: %q", name, lines)
			}
			if e, open := <-w.Events(); open {
				t.Errorf("without %s: %+v", name, e)
			}
		})
	}
}

// deaf is a machine of which one GPU has no events.
type deaf struct {
	gonvml.Interface
	index int
}

func (d deaf) DeviceGetHandleByIndex(i int) (gonvml.Device, gonvml.Return) {
	device, code := d.Interface.DeviceGetHandleByIndex(i)
	if i == d.index {
		return deafGPU{device}, code
	}
	return device, code
}

type deafGPU struct{ gonvml.Device }

func (deafGPU) GetSupportedEventTypes() (uint64, gonvml.Return) {
	return 0, gonvml.ERROR_NOT_SUPPORTED
}

func TestGPUWithoutEventsIsLoggedOnceAndTheOthersAreWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ward := newWard(t, "h100", 3)
		l := &lookout{ward: ward, log: &logLines{}}
		l.watcher = newLibrary(deaf{ward.machine, 1}, "").Watch(slog.New(slog.NewTextHandler(l.log, nil)))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		ward.machine.GPU(2).SendXID(31)
		l.expect("its neighbour", "2 xid 31")
		l.watcher.Close()
		if lines := l.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], ward.machine.GPU(1).UUID()) {
			t.Errorf("%q", lines)
		}
	})
}

func TestDriverThatStartsLaterIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ward := newWard(t, "h100", 2)
		ward.machine.FailDriver(gonvml.ERROR_DRIVER_NOT_LOADED)
		l := &lookout{ward: ward, log: &logLines{}}
		l.watcher = ward.library.Watch(slog.New(slog.NewTextHandler(l.log, nil)))
		time.Sleep(10 * time.Minute)
		if lines := l.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "modprobe nvidia") {
			t.Errorf("%q", lines)
		}
		ward.machine.FailDriver(gonvml.SUCCESS)
		time.Sleep(eventScan)
		synctest.Wait()
		ward.machine.GPU(1).SendXID(31)
		l.expect("started", "1 xid 31")
		l.watcher.Close()
	})
}

func TestWatchingBeginsAsSoonAsAnInventoryHasStartedTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ward := newWard(t, "h100", 1)
		release := ward.machine.HangDriver()
		inventory := make(chan error)
		go func() {
			_, err := ward.library.Inventory()
			inventory <- err
		}()
		synctest.Wait()
		l := &lookout{ward: ward, log: &logLines{}}
		l.watcher = ward.library.Watch(slog.New(slog.NewTextHandler(l.log, nil)))
		time.Sleep(5 * time.Second)
		release()
		if err := <-inventory; err != nil {
			t.Fatal(err)
		}
		time.Sleep(eventRetry)
		synctest.Wait()
		ward.machine.GPU(0).SendXID(31)
		l.expect("started", "0 xid 31")
		l.watcher.Close()
		if lines := l.log.lines(); len(lines) != 0 {
			t.Errorf("%q", lines)
		}
	})
}
