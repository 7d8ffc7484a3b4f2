package nvml

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/health"
	"ecolink/nvml/simulated"
)

// ward is a simulated machine with the health that was last known of it.
type ward struct {
	t       *testing.T
	machine *simulated.Faulty
	library *Library
	known   health.Snapshot
}

func newWard(t *testing.T, gpuType string, count int) *ward {
	t.Helper()
	machine, err := simulated.NewFaulty(simulated.Layout{Type: gpuType, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	return &ward{t: t, machine: machine, library: OpenMachine(machine, machine.Layout())}
}

func (w *ward) facts() health.Snapshot {
	w.t.Helper()
	s, err := w.library.Facts()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// found are the findings of a fresh look, as "slot kind".
func (w *ward) found() (out []string) {
	w.t.Helper()
	slots := map[string]int{}
	for _, slot := range w.slots() {
		slots[w.machine.GPU(slot).UUID()] = slot
	}
	now := w.facts()
	for _, a := range health.Assess(w.known, now) {
		for _, f := range a.Findings {
			name := "gone"
			if slot, there := slots[f.UUID]; there {
				name = fmt.Sprint(slot)
			}
			out = append(out, name+" "+string(f.Kind))
		}
	}
	w.known = health.Remember(w.known, now)
	return out
}

func (w *ward) slots() (out []int) {
	for slot := range w.machine.Layout().Count {
		out = append(out, slot)
	}
	return out
}

func (w *ward) expect(what string, want ...string) {
	w.t.Helper()
	if got := w.found(); !reflect.DeepEqual(got, want) {
		w.t.Errorf("%s: found %q, want %q", what, got, want)
	}
}

func TestEachFaultOfAGPUIsFoundAndGoesWithItsRepair(t *testing.T) {
	for _, gpuType := range simulated.Types() {
		for kind, breakIt := range map[health.Kind]func(*simulated.FaultyGPU){
			health.KindECC:             func(g *simulated.FaultyGPU) { g.CountUncorrectedECC() },
			health.KindSRAM:            func(g *simulated.FaultyGPU) { g.ExceedSRAM() },
			health.KindRemapPending:    func(g *simulated.FaultyGPU) { g.RemapRow() },
			health.KindRemapFailed:     func(g *simulated.FaultyGPU) { g.FailRemap() },
			health.KindThermal:         func(g *simulated.FaultyGPU) { g.Throttle(gonvml.ClocksThrottleReasonHwThermalSlowdown) },
			health.KindSoftwareThermal: func(g *simulated.FaultyGPU) { g.Throttle(gonvml.ClocksEventReasonSwThermalSlowdown) },
			health.KindPowerBrake:      func(g *simulated.FaultyGPU) { g.Throttle(gonvml.ClocksThrottleReasonHwPowerBrakeSlowdown) },
			health.KindHardwareSlow:    func(g *simulated.FaultyGPU) { g.Throttle(gonvml.ClocksThrottleReasonHwSlowdown) },
			health.KindLinkDown:        func(g *simulated.FaultyGPU) { g.CutLink(17) },
			health.KindLinkErrors:      func(g *simulated.FaultyGPU) { g.CountLinkErrors(3, 0, 1, 0) },
			health.KindRecovery:        func(g *simulated.FaultyGPU) { g.AskRecovery(gonvml.GPU_RECOVERY_ACTION_GPU_RESET) },
			health.KindLost:            func(g *simulated.FaultyGPU) { g.Lose() },
			health.KindUnreadable:      func(g *simulated.FaultyGPU) { g.Refuse(gonvml.ERROR_NO_PERMISSION) },
			health.KindMissing:         func(g *simulated.FaultyGPU) { g.Vanish() },
		} {
			t.Run(gpuType+" "+string(kind), func(t *testing.T) {
				w := newWard(t, gpuType, 3)
				w.expect("well")
				breakIt(w.machine.GPU(1))
				w.expect("broken", "1 "+string(kind))
				w.machine.GPU(1).Repair()
				w.expect("repaired")
			})
		}
	}
}

func TestPowerLimitIsNoFinding(t *testing.T) {
	w := newWard(t, "h100", 1)
	w.machine.GPU(0).Throttle(gonvml.ClocksEventReasonSwPowerCap | gonvml.ClocksEventReasonGpuIdle)
	w.expect("at its power limit")
}

func TestFactsOfAGPUBeforeHopperComeFromItsOwnCounters(t *testing.T) {
	w := newWard(t, "a100", 1)
	w.machine.RemoveSymbols("nvmlDeviceGetFieldValues", "nvmlDeviceGetCurrentClocksEventReasons")
	w.expect("well")
	w.machine.GPU(0).CountLinkErrors(2, 5, 0, 0)
	w.machine.GPU(0).Throttle(gonvml.ClocksThrottleReasonHwThermalSlowdown)
	w.expect("broken", "0 thermal_slowdown", "0 nvlink_errors")
}

// With a real library, asking for a symbol that it lacks would end the process; here
// it would panic.
func TestFactsOfAnOldLibraryAreUnknown(t *testing.T) {
	unknown := map[string]func(health.Facts) bool{
		"nvmlDeviceGetTotalEccErrors":     func(f health.Facts) bool { return f.UncorrectableECC == nil },
		"nvmlDeviceGetSramEccErrorStatus": func(f health.Facts) bool { return f.SRAMThresholdExceeded == nil },
		"nvmlDeviceGetRemappedRows":       func(f health.Facts) bool { return f.RemappedRows == nil },
		"nvmlDeviceGetNvLinkState":        func(f health.Facts) bool { return f.Links == nil },
		"nvmlDeviceGetFieldValues":        func(f health.Facts) bool { return f.Recovery == nil && f.Links[0].CRC != nil },
		"nvmlDeviceGetNvLinkErrorCounter": func(f health.Facts) bool { return f.Links[0].CRC != nil },
	}
	for symbol, isUnknown := range unknown {
		w := newWard(t, "h100", 1)
		w.machine.RemoveSymbols(symbol)
		if f := w.facts().GPUs[0]; f.Reach != health.Answers || !isUnknown(f) {
			t.Errorf("without %s: %+v", symbol, f)
		}
		w.expect("without " + symbol)
	}
	w := newWard(t, "h100", 1)
	for symbol := range unknown {
		w.machine.RemoveSymbols(symbol)
	}
	w.machine.RemoveSymbols("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetRetiredPagesPendingStatus")
	if f := w.facts().GPUs[0]; f.UUID == "" || f.Slowdown != nil || f.RetiredPages != nil {
		t.Errorf("without any: %+v", f)
	}
	w.expect("without any")
}

func TestDriverUpgradedUnderUsMovesIndexesAndNothingElse(t *testing.T) {
	w := newWard(t, "h100", 4)
	w.expect("before")
	w.machine.Reorder(3, 1, 0, 2)
	w.expect("after")
	for index, slot := range []int{3, 1, 0, 2} {
		if f := w.facts().GPUs[index]; f.UUID != w.machine.GPU(slot).UUID() || f.Index != index {
			t.Errorf("index %d is %+v", index, f)
		}
	}
	w.machine.GPU(3).CountUncorrectedECC()
	w.expect("after, and broken", "3 uncorrectable_ecc")
}

func TestReplacedGPUIsToldOfTheOldOne(t *testing.T) {
	w := newWard(t, "h100", 2)
	w.expect("before")
	w.machine.GPU(0).Replace()
	w.expect("after", "gone replaced")
	w.expect("still", "gone replaced")
}

func TestDriverThatCannotBeUsedSaysWhyAndCondemnsNoGPU(t *testing.T) {
	for code, want := range map[gonvml.Return]string{
		gonvml.ERROR_LIBRARY_NOT_FOUND:       "install the NVIDIA driver",
		gonvml.ERROR_LIB_RM_VERSION_MISMATCH: "reboot",
		gonvml.ERROR_NO_PERMISSION:           "run it as root",
		gonvml.ERROR_UNKNOWN:                 "dmesg",
	} {
		w := newWard(t, "h100", 2)
		w.machine.FailDriver(code)
		s := w.facts()
		if s.Listed || len(s.GPUs) != 0 || !strings.Contains(s.Problem, want) {
			t.Errorf("%v at the start: %+v", code, s)
		}
		w.machine.FailDriver(gonvml.SUCCESS)
		w.expect("mended")
		w.machine.FailDriver(code)
		if s := w.facts(); s.Listed || s.Problem == "" {
			t.Errorf("%v later: %+v", code, s)
		}
		w.expect("failed later")
		w.machine.FailDriver(gonvml.SUCCESS)
		w.expect("mended again")
	}
}

func TestHungGPUHoldsUpTheOthersForTheLimitOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, "h100", 4)
		w.expect("before")
		release := w.machine.GPU(2).Hang()
		began := time.Now()
		for range 3 {
			w.expect("hung", "2 hangs")
		}
		if waited := time.Since(began); waited != factsLimit {
			t.Errorf("three looks took %v; only the first may wait, %v", waited, factsLimit)
		}
		if err := w.library.Close(); err == nil || !strings.Contains(err.Error(), "GPU 2") {
			t.Errorf("closing under a running call gave %v", err)
		}
		release()
	})
}

func TestHungGPUThatAnswersAgainIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, "h100", 2)
		w.expect("before")
		release := w.machine.GPU(0).Hang()
		w.expect("hung", "0 hangs")
		release()
		synctest.Wait()
		w.expect("after")
		if err := w.library.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFactsDoNotWaitForAnInventoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, "h100", 2)
		w.expect("before")
		release := w.machine.GPU(0).Hang()
		inventory := make(chan error)
		go func() {
			_, err := w.library.Inventory()
			inventory <- err
		}()
		synctest.Wait()
		began := time.Now()
		w.expect("hung", "0 hangs")
		if waited := time.Since(began); waited != factsLimit {
			t.Errorf("it took %v", waited)
		}
		release()
		if err := <-inventory; err != nil {
			t.Error(err)
		}
	})
}

func TestHungDriverIsAProblemAndNotAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t, "h100", 2)
		w.expect("before")
		release := w.machine.HangDriver()
		if s := w.facts(); s.Listed || !strings.Contains(s.Problem, "did not answer") {
			t.Errorf("%+v", s)
		}
		w.expect("hung")
		release()
		synctest.Wait()
		w.expect("after")
	})
}

// volta is a GPU that retires pages instead of remapping rows.
type volta struct{ gonvml.Device }

func (volta) GetRemappedRows() (int, int, bool, bool, gonvml.Return) {
	return 0, 0, false, false, gonvml.ERROR_NOT_SUPPORTED
}

func (volta) GetRetiredPagesPendingStatus() (gonvml.EnableState, gonvml.Return) {
	return gonvml.FEATURE_ENABLED, gonvml.SUCCESS
}

func TestOlderGPUIsAskedForItsRetiredPages(t *testing.T) {
	s := newSick(t)
	s.devices[2] = volta{s.healthy(t, 2)}
	now, err := newLibrary(s, "").Facts()
	if err != nil {
		t.Fatal(err)
	}
	if f := now.GPUs[2]; f.RemappedRows != nil || f.RetiredPages == nil || !f.RetiredPages.Pending {
		t.Errorf("%+v", f)
	}
	if a := health.Assess(health.Snapshot{}, now)[2]; len(a.Findings) != 1 || a.Findings[0].Kind != health.KindPagePending {
		t.Errorf("%+v", a)
	}
}

func TestFactsOfAMachineWithoutFaultsFindNothing(t *testing.T) {
	for _, gpuType := range simulated.Types() {
		l, err := Open("simulated:" + gpuType + "x8")
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Facts()
		if err != nil || !s.Listed || len(s.GPUs) != 8 {
			t.Fatalf("%+v, %v", s, err)
		}
		for _, a := range health.Assess(health.Snapshot{}, s) {
			if a.Blind || len(a.Findings) != 0 {
				t.Errorf("%s: %+v", gpuType, a)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if s, err := l.Facts(); err == nil {
			t.Errorf("after Close: %+v", s)
		}
	}
}
