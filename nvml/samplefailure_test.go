package nvml

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// slow is a GPU whose power is answered only when it is let go.
type slow struct {
	gonvml.Device
	letGo chan struct{}
}

func (d slow) GetPowerUsage() (uint32, gonvml.Return) {
	<-d.letGo
	return d.Device.GetPowerUsage()
}

// fallen is a GPU that says in one of its answers that it is off the bus.
type fallen struct{ gonvml.Device }

func (fallen) GetTemperature(gonvml.TemperatureSensors) (uint32, gonvml.Return) {
	return 0, gonvml.ERROR_GPU_IS_LOST
}

// staleHandle answers nothing any more, as after the driver was loaded again.
type staleHandle struct {
	gonvml.Device
	stale *bool
}

func (d staleHandle) GetUUID() (string, gonvml.Return) {
	if *d.stale {
		return "", gonvml.ERROR_INVALID_ARGUMENT
	}
	return d.Device.GetUUID()
}

func sampledIndexes(all Samples) (out []int) {
	for _, s := range all.Devices {
		out = append(out, s.Index)
	}
	return out
}

func TestHangingGPUCostsTheOthersNoSample(t *testing.T) {
	s := newSick(t)
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(s, "")
		if _, err := l.Sample(); err != nil {
			t.Fatal(err)
		}
		uuid, _ := s.healthy(t, 2).GetUUID()
		// The next sample finds another handle, which hangs.
		letGo := make(chan struct{})
		s.devices[2] = slow{s.healthy(t, 2), letGo}
		l.sampling.gpus[2].forget()

		began := time.Now()
		for round := range 3 {
			all, err := l.Sample()
			if err != nil {
				t.Fatal(err)
			}
			if len(all.Devices) != 3 || len(all.Silent) != 1 || all.Silent[0].Index != 2 || all.Silent[0].UUID != uuid {
				t.Errorf("round %d: GPUs %v, silent %+v", round, sampledIndexes(all), all.Silent)
			}
		}
		if waited := time.Since(began); waited != sampleLimit {
			t.Errorf("three samples took %v; only the first may wait, %v", waited, sampleLimit)
		}
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "GPU 2") {
			t.Errorf("closing under a running call gave %v", err)
		}
		close(letGo)
	})
}

func TestSampleDoesNotWaitForAnInventoryThatHangs(t *testing.T) {
	for _, sampledBefore := range []bool{true, false} {
		s := newSick(t)
		synctest.Test(t, func(t *testing.T) {
			l := newLibrary(s, "")
			if _, err := l.Inventory(); err != nil {
				t.Fatal(err)
			}
			if sampledBefore {
				if _, err := l.Sample(); err != nil {
					t.Fatal(err)
				}
			}
			letGo, read := make(chan struct{}), make(chan struct{})
			s.devices[1] = stuck{Device: s.healthy(t, 1), name: letGo}
			go func() {
				defer close(read)
				if inv, err := l.Inventory(); err != nil || len(inv.GPUs) != 3 {
					t.Errorf("%+v, %v", inv, err)
				}
			}()
			synctest.Wait() // the inventory hangs
			began := time.Now()
			all, err := l.Sample()
			if err != nil || len(all.Devices) != 4 || time.Since(began) != 0 {
				t.Errorf("GPUs %v, silent %+v after %v, %v", sampledIndexes(all), all.Silent, time.Since(began), err)
			}
			<-read
			close(letGo)
		})
	}
}

func TestSampleThatMayHaveToStartNVMLDoesNotWaitForWhoStartsIt(t *testing.T) {
	s := newSick(t)
	synctest.Test(t, func(t *testing.T) {
		letGo, read := make(chan struct{}), make(chan struct{})
		s.init = func() gonvml.Return { <-letGo; return gonvml.SUCCESS }
		l := newLibrary(s, "")
		go func() {
			defer close(read)
			if inv, err := l.Inventory(); err != nil || len(inv.GPUs) != 4 {
				t.Errorf("%+v, %v", inv, err)
			}
		}()
		synctest.Wait()
		if all, err := l.Sample(); err == nil || !strings.Contains(err.Error(), "again") {
			t.Errorf("%+v, %v", all, err)
		}
		close(letGo)
		<-read
		if all, err := l.Sample(); err != nil || len(all.Devices) != 4 {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

func TestGPUThatIsLostIsLookedUpUntilItIsBack(t *testing.T) {
	s := newSick(t)
	l := newLibrary(s, "")
	s.devices[1] = fallen{s.healthy(t, 1)}
	for round, lost := range []bool{true, true, false} {
		if round == 1 {
			s.devices[1] = nil // its handle is not found either
		}
		if !lost {
			delete(s.devices, 1)
		}
		all, err := l.Sample()
		if err != nil {
			t.Fatal(err)
		}
		if lost != (len(all.Silent) == 1) || lost != (len(all.Devices) == 3) {
			t.Errorf("round %d: GPUs %v, silent %+v", round, sampledIndexes(all), all.Silent)
		}
		if lost && !strings.Contains(all.Silent[0].Detail, "GPU 1") {
			t.Errorf("round %d: %+v", round, all.Silent)
		}
	}
}

func TestGPUWhoseHandleIsStaleIsLookedUpAtOnce(t *testing.T) {
	s := newSick(t)
	stale := false
	s.devices[0] = staleHandle{s.healthy(t, 0), &stale}
	m := measured{newLibrary(s, ""), t}
	m.sample()
	stale = true
	delete(s.devices, 0)
	if all := m.sample(); len(all) != 4 {
		t.Errorf("%d GPUs", len(all))
	}
}

// slot is a handle whose GPU can be replaced under it.
type slot struct {
	gonvml.Device
	uuid *string
}

func (d slot) GetUUID() (string, gonvml.Return) { return *d.uuid, gonvml.SUCCESS }

func TestAnotherGPUInTheSlotIsAnotherDevice(t *testing.T) {
	s := newSick(t)
	uuid := "GPU-old"
	s.devices[3] = slot{s.healthy(t, 3), &uuid}
	m := measured{newLibrary(s, ""), t}
	m.sample()
	if got := m.sample()[3]; got.UUID != "GPU-old" || got.NVLinkRxBytesPerSecond.IsZero() {
		t.Fatalf("the old GPU is %+v", got)
	}
	uuid = "GPU-new"
	if got := m.sample()[3]; got.UUID != "GPU-new" || !got.NVLinkRxBytesPerSecond.IsZero() {
		t.Errorf("the new GPU is %+v; its links must not be counted from the old one's", got)
	}
}

func TestGPUsThatAppearAndGoAreFollowed(t *testing.T) {
	s := newSick(t)
	m := measured{newLibrary(s, ""), t}
	for _, count := range []int{4, 2, 4, 3} {
		s.count = func() (int, gonvml.Return) { return count, gonvml.SUCCESS }
		if got := m.sample(); len(got) != count {
			t.Errorf("%d GPUs of %d", len(got), count)
		}
	}
	s.count = func() (int, gonvml.Return) { return 0, gonvml.ERROR_UNKNOWN }
	if got := m.sample(); len(got) != 3 {
		t.Errorf("while the driver does not count: %d GPUs", len(got))
	}
	fresh := newLibrary(s, "")
	if all, err := fresh.Sample(); err == nil {
		t.Errorf("a driver that never counted gives %+v", all)
	}
}

func TestSampleAndInventoryDisturbEachOtherInNothing(t *testing.T) {
	m := newMeasured(t, simulated.Layout{Type: "h100", Count: 8})
	if _, err := m.Inventory(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	for range 3 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 20 {
				if inv, err := m.Inventory(); err != nil || len(inv.GPUs) != 8 {
					t.Errorf("inventory %+v, %v", inv, err)
				}
			}
		}()
		go func() {
			defer func() { done <- struct{}{} }()
			for range 20 {
				if all, err := m.Sample(); err != nil || len(all.Devices) != 8 {
					t.Errorf("samples %+v, %v", all, err)
				}
			}
		}()
	}
	for range 6 {
		<-done
	}
}
