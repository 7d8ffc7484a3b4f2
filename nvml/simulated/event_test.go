package simulated

import (
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

const xidEvents = uint64(gonvml.EventTypeXidCriticalError)

// watched is a machine with a set in which all GPUs' Xids are registered.
func watched(t *testing.T, count int) (*Faulty, gonvml.EventSet) {
	t.Helper()
	f := newFaulty(t, Layout{"h100", count})
	set, code := f.EventSetCreate()
	if code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	for i := range count {
		if code := handle(t, f, i).RegisterEvents(xidEvents, set); code != gonvml.SUCCESS {
			t.Fatal(code)
		}
	}
	return f, set
}

func TestEventsComeInOrderUnderTheHandleThatWasRegistered(t *testing.T) {
	f, set := watched(t, 2)
	f.GPU(1).SendXID(13)
	f.GPU(0).SendXID(79)
	f.GPU(0).CountUncorrectedECC() // not registered
	for _, want := range []struct {
		gpu int
		xid uint64
	}{{1, 13}, {0, 79}} {
		e, code := set.Wait(0)
		if code != gonvml.SUCCESS || e.Device != handle(t, f, want.gpu) || e.EventData != want.xid || e.EventType != xidEvents || e.GpuInstanceId != noInstance {
			t.Errorf("%+v, %v", e, code)
		}
	}
	if e, code := set.Wait(0); code != gonvml.ERROR_TIMEOUT {
		t.Errorf("%+v, %v", e, code)
	}
}

func TestWaitEndsWithTheEventTheTimeOrTheSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, set := watched(t, 1)
		began := time.Now()
		if _, code := set.Wait(700); code != gonvml.ERROR_TIMEOUT || time.Since(began) != 700*time.Millisecond {
			t.Errorf("%v after %v", code, time.Since(began))
		}
		codes := make(chan gonvml.Return)
		for _, end := range []func(){func() { f.GPU(0).SendXID(13) }, func() { f.EventSetFree(set) }} {
			go func() {
				_, code := f.EventSetWait(set, 60_000)
				codes <- code
			}()
			synctest.Wait()
			end()
			code := <-codes
			if since := time.Since(began); since != 700*time.Millisecond {
				t.Errorf("%v after %v", code, since)
			}
		}
		if code := set.Free(); code != gonvml.ERROR_INVALID_ARGUMENT {
			t.Errorf("freed again: %v", code)
		}
	})
}

func TestRegistrationThatADriverRefuses(t *testing.T) {
	f, set := watched(t, 1)
	d := handle(t, f, 0)
	for types, want := range map[uint64]gonvml.Return{
		0: gonvml.ERROR_INVALID_ARGUMENT, gonvml.EventTypeClock: gonvml.ERROR_NOT_SUPPORTED,
		xidEvents | gonvml.EventTypeClock: gonvml.ERROR_NOT_SUPPORTED, eventTypes: gonvml.SUCCESS,
	} {
		if code := d.RegisterEvents(types, set); code != want {
			t.Errorf("types %d: %v", types, code)
		}
	}
	set.Free()
	if code := d.RegisterEvents(xidEvents, set); code != gonvml.ERROR_INVALID_ARGUMENT {
		t.Errorf("in a freed set: %v", code)
	}
}

func TestLostGPUEndsEveryWaitOfItsSetAfterTheLastEvent(t *testing.T) {
	f, set := watched(t, 2)
	f.GPU(0).SendXID(79)
	f.GPU(0).Lose()
	if e, code := set.Wait(1000); code != gonvml.SUCCESS || e.EventData != 79 {
		t.Errorf("%+v, %v", e, code)
	}
	f.GPU(1).SendXID(13)
	for range 2 {
		if e, code := set.Wait(1000); code != gonvml.ERROR_GPU_IS_LOST {
			t.Errorf("%+v, %v", e, code)
		}
	}
	if f.EventSets() != 1 {
		t.Errorf("%d sets", f.EventSets())
	}
	set.Free()
	if f.EventSets() != 0 {
		t.Errorf("%d sets", f.EventSets())
	}
}

func TestWaitThatFailsLosesNoEvent(t *testing.T) {
	f, set := watched(t, 1)
	f.GPU(0).SendXID(13)
	f.FailWait(gonvml.ERROR_UNKNOWN)
	if e, code := set.Wait(1000); code != gonvml.ERROR_UNKNOWN {
		t.Errorf("%+v, %v", e, code)
	}
	if e, code := set.Wait(1000); code != gonvml.SUCCESS || e.EventData != 13 {
		t.Errorf("%+v, %v", e, code)
	}
}

func TestGPUThatCameBackIsInNoSet(t *testing.T) {
	f, set := watched(t, 1)
	f.GPU(0).Vanish()
	f.GPU(0).Return()
	f.GPU(0).SendXID(13)
	if e, code := set.Wait(0); code != gonvml.ERROR_TIMEOUT {
		t.Errorf("%+v, %v", e, code)
	}
	if code := handle(t, f, 0).RegisterEvents(xidEvents, set); code != gonvml.SUCCESS {
		t.Fatal(code)
	}
	f.GPU(0).SendXID(31)
	if e, code := set.Wait(0); code != gonvml.SUCCESS || e.EventData != 31 {
		t.Errorf("%+v, %v", e, code)
	}
}

func TestEventsThatNobodyTakesAreBounded(t *testing.T) {
	f, set := watched(t, 1)
	for range 2 * maxEvents {
		f.GPU(0).SendXID(13)
	}
	for n := 0; ; n++ {
		if _, code := set.Wait(0); code != gonvml.SUCCESS {
			if n != maxEvents {
				t.Errorf("%d events", n)
			}
			return
		}
	}
}
