package nvml

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"ecolink/nvml/simulated"
)

// measured is a library on a simulated machine whose devices a test can load.
type measured struct {
	*Library
	t *testing.T
}

func newMeasured(t *testing.T, layout simulated.Layout) measured {
	t.Helper()
	api, err := simulated.New(layout)
	if err != nil {
		t.Fatal(err)
	}
	return measured{newLibrary(api, layout.String()), t}
}

func (m measured) device(i int) gonvml.Device {
	m.t.Helper()
	d, code := m.api.DeviceGetHandleByIndex(i)
	if code != gonvml.SUCCESS {
		m.t.Fatal(code)
	}
	return d
}

func (m measured) telemetry(d gonvml.Device) *simulated.Telemetry {
	m.t.Helper()
	telemetry, ok := simulated.TelemetryOf(d)
	if !ok {
		m.t.Fatalf("a %T has no telemetry", d)
	}
	return telemetry
}

// sample takes one of which every GPU must be a part.
func (m measured) sample() []Sample {
	m.t.Helper()
	all, err := m.Sample()
	if err != nil {
		m.t.Fatal(err)
	}
	if all.Note != "" || len(all.Silent) > 0 {
		m.t.Fatalf("note %q, silent %+v", all.Note, all.Silent)
	}
	return all.Devices
}

// fieldsOf are the names in a sample's JSON.
func fieldsOf(t *testing.T, s Sample) []string {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(out))
}

func value[T any](t *testing.T, name string, r Reading[T]) T {
	t.Helper()
	v, ok := r.Get()
	if !ok {
		t.Errorf("%s is absent", name)
	}
	return v
}

// whole is what a driver tells of a GPU without a fan, from the second sample on.
func whole() []string {
	return []string{
		"celsius", "ecc", "gpu_percent", "index", "memory_celsius", "memory_clock_mhz", "memory_percent", "memory_total_bytes",
		"memory_used_bytes", "nvlink_rx_bytes_per_second", "nvlink_tx_bytes_per_second", "pcie_rx_bytes_per_second",
		"pcie_tx_bytes_per_second", "power_limit_watts", "power_watts", "processes", "sm_clock_mhz", "throttle", "time", "uuid",
	}
}

func TestIdleGPUHasEveryFigureButAFan(t *testing.T) {
	for _, gpuType := range simulated.Types() {
		m := newMeasured(t, simulated.Layout{Type: gpuType, Count: 2})
		m.sample()
		for i, s := range m.sample() {
			if got := fieldsOf(t, s); !slices.Equal(got, whole()) {
				t.Errorf("%s: sample has %v", gpuType, got)
			}
			if uuid, _ := m.device(i).GetUUID(); s.UUID != uuid || s.Index != i || s.ParentUUID != "" || s.Time.Location() != time.UTC {
				t.Errorf("%s: sample %d is %+v", gpuType, i, s)
			}
			if value(t, "use", s.GPUPercent) != 0 || value(t, "memory", s.MemoryUsedBytes) != 0 || len(s.Processes) != 0 {
				t.Errorf("%s: an idle GPU is busy: %+v", gpuType, s)
			}
			if throttle := value(t, "throttle", s.Throttle); !throttle.Idle() || throttle.ByPower() {
				t.Errorf("%s: an idle GPU is held back by %v", gpuType, throttle.Reasons())
			}
			if used, limit := value(t, "power", s.PowerWatts), value(t, "limit", s.PowerLimitWatts); used < 30 || used > limit/3 {
				t.Errorf("%s: an idle GPU takes %v of %v W", gpuType, used, limit)
			}
			if value(t, "ECC", s.ECC.UncorrectedAggregate) != 0 || value(t, "ECC", s.ECC.CorrectedVolatile) != 0 {
				t.Errorf("%s: ECC %+v", gpuType, s.ECC)
			}
		}
	}
}

func TestBusyGPUShowsItsLoadAndWhoMakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeasured(t, simulated.Layout{Type: "h100", Count: 2})
		m.telemetry(m.device(1)).SetLoad(simulated.Load{Seed: 7, Processes: []simulated.Process{
			{PID: 400, MemoryBytes: 30 << 30, SMPercent: 60}, {PID: 30, MemoryBytes: 10 << 30}, {PID: 31, MemoryBytes: 1 << 30, SMPercent: 39},
		}})
		m.sample()
		time.Sleep(time.Second)
		s := m.sample()[1]
		if use := value(t, "use", s.GPUPercent); use < 90 {
			t.Errorf("use is %d%%", use)
		}
		if used := value(t, "memory", s.MemoryUsedBytes); used != 41<<30 {
			t.Errorf("%d bytes are used", used)
		}
		if w := value(t, "power", s.PowerWatts); w < 500 {
			t.Errorf("%v W", w)
		}
		if rx := value(t, "NVLink", s.NVLinkRxBytesPerSecond); rx < 100e9 || rx > 450e9 {
			t.Errorf("NVLink %v B/s", rx)
		}
		want := []ProcessUse{
			{30, Known[uint64](10 << 30), Known[uint64](0)}, {31, Known[uint64](1 << 30), Known[uint64](39)}, {400, Known[uint64](30 << 30), Known[uint64](60)},
		}
		if !slices.Equal(s.Processes, want) {
			t.Errorf("processes %+v", s.Processes)
		}
		if other := m.sample()[0]; value(t, "use", other.GPUPercent) != 0 {
			t.Error("its neighbour is busy too")
		}
	})
}

func TestNVLinkRateIsAbsentInTheFirstSampleAndOverALostCounter(t *testing.T) {
	for _, gpuType := range []string{"h100", "b200"} { // a sum of all links, and each by itself
		synctest.Test(t, func(t *testing.T) {
			m := newMeasured(t, simulated.Layout{Type: gpuType, Count: 1})
			telemetry := m.telemetry(m.device(0))
			telemetry.SetLoad(simulated.Load{Processes: []simulated.Process{{PID: 1, SMPercent: 50}}})
			present := func() bool {
				t.Helper()
				time.Sleep(time.Second)
				_, ok := m.sample()[0].NVLinkTxBytesPerSecond.Get()
				return ok
			}
			if present() || !present() {
				t.Errorf("%s: the first sample has a rate, or the second has none", gpuType)
			}
			telemetry.Refuse("nvmlDeviceGetFieldValues", gonvml.ERROR_UNKNOWN)
			if present() {
				t.Errorf("%s: a rate without counters", gpuType)
			}
			telemetry.Refuse("nvmlDeviceGetFieldValues", gonvml.SUCCESS)
			if present() || !present() {
				t.Errorf("%s: counting did not begin anew", gpuType)
			}
		})
	}
}

// sampledCalls are the calls of a sample, and what is absent without one.
func sampledCalls() map[string][]string {
	return map[string][]string{
		"nvmlDeviceGetUtilizationRates":          {"gpu_percent", "memory_percent"},
		"nvmlDeviceGetMemoryInfo":                {"memory_total_bytes", "memory_used_bytes"},
		"nvmlDeviceGetTemperature":               {"celsius"},
		"nvmlDeviceGetPowerUsage":                {"power_watts"},
		"nvmlDeviceGetEnforcedPowerLimit":        {"power_limit_watts"},
		"nvmlDeviceGetClockInfo":                 {"memory_clock_mhz", "sm_clock_mhz"},
		"nvmlDeviceGetCurrentClocksEventReasons": {"throttle"},
		"nvmlDeviceGetTotalEccErrors":            {"ecc"},
		"nvmlDeviceGetPcieThroughput":            {"pcie_rx_bytes_per_second", "pcie_tx_bytes_per_second"},
		"nvmlDeviceGetFieldValues":               {"memory_celsius", "nvlink_rx_bytes_per_second", "nvlink_tx_bytes_per_second"},
	}
}

func without(all, gone []string) []string {
	return slices.DeleteFunc(all, func(name string) bool { return slices.Contains(gone, name) })
}

func TestFigureThatAModelLacksIsAbsentAndTheOthersStay(t *testing.T) {
	for symbol, gone := range sampledCalls() {
		for _, code := range []gonvml.Return{gonvml.ERROR_NOT_SUPPORTED, gonvml.ERROR_UNKNOWN, gonvml.ERROR_NO_PERMISSION} {
			m := newMeasured(t, simulated.Layout{Type: "h100", Count: 1})
			m.telemetry(m.device(0)).Refuse(symbol, code)
			m.sample()
			if got := fieldsOf(t, m.sample()[0]); !slices.Equal(got, without(whole(), gone)) {
				t.Errorf("%s gives %v: sample has %v", symbol, code, got)
			}
		}
	}
}

// Calling a symbol that the library lacks would end the process.
func TestSampleAsksAnOldLibraryOnlyForWhatItKnows(t *testing.T) {
	for symbol, gone := range sampledCalls() {
		if symbol == "nvmlDeviceGetCurrentClocksEventReasons" {
			gone = nil // it has an older name
		}
		s := newSick(t)
		s.missing = symbol
		m := measured{newLibrary(s, ""), t}
		m.sample()
		if got := fieldsOf(t, m.sample()[0]); !slices.Equal(got, without(whole(), gone)) {
			t.Errorf("without %s: sample has %v", symbol, got)
		}
	}
}

func TestProcessesAreUnknownOnlyWhenTheDriverListsNone(t *testing.T) {
	m := newMeasured(t, simulated.Layout{Type: "h100", Count: 1})
	telemetry := m.telemetry(m.device(0))
	telemetry.SetLoad(simulated.Load{Processes: []simulated.Process{{PID: 5, MemoryBytes: 1 << 30, SMPercent: 10}}})

	telemetry.Refuse("nvmlDeviceGetProcessUtilization", gonvml.ERROR_NOT_SUPPORTED)
	if s := m.sample()[0]; !slices.Equal(s.Processes, []ProcessUse{{PID: 5, MemoryBytes: Known[uint64](1 << 30)}}) {
		t.Errorf("without their use: %+v", s.Processes)
	}
	telemetry.Refuse("nvmlDeviceGetComputeRunningProcesses", gonvml.ERROR_NO_PERMISSION)
	if s := m.sample()[0]; s.Processes == nil || len(s.Processes) != 0 {
		t.Errorf("those that draw are known: %+v", s.Processes)
	}
	telemetry.Refuse("nvmlDeviceGetGraphicsRunningProcesses", gonvml.ERROR_NO_PERMISSION)
	if s := m.sample()[0]; s.Processes != nil {
		t.Errorf("nothing is known: %+v", s.Processes)
	}
}

func TestSampleWithoutADriverSaysWhatToDo(t *testing.T) {
	l := newLibrary(gonvml.New(gonvml.WithLibraryPath("libnvidia-ml-that-is-not-there.so.1")), "")
	for range 2 {
		all, err := l.Sample()
		if err != nil || all.Devices == nil || len(all.Devices) != 0 || !strings.Contains(all.Note, "no NVIDIA driver found") {
			t.Errorf("%+v, %v", all, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := l.Sample(); err == nil {
		t.Errorf("after Close: %+v", all)
	}
}
