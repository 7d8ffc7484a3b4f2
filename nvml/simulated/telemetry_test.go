package simulated

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"pgregory.net/rapid"
)

func telemetryOf(t interface {
	Helper()
	Fatalf(string, ...any)
}, m gonvml.Interface, index int) (gonvml.Device, *Telemetry) {
	t.Helper()
	d, code := m.DeviceGetHandleByIndex(index)
	if code != gonvml.SUCCESS {
		t.Fatalf("GPU %d: %v", index, code)
	}
	telemetry, ok := TelemetryOf(d)
	if !ok {
		t.Fatalf("a %T has no telemetry", d)
	}
	return d, telemetry
}

// wavering are figures over some seconds.
func wavering(t *testing.T, seed uint64) (out [10][3]uint32) {
	t.Helper()
	m := newMachine(t, Layout{"h100", 2})
	d, telemetry := telemetryOf(t, m, 1)
	telemetry.SetLoad(Load{Seed: seed, Processes: []Process{{PID: 1, MemoryBytes: 1 << 30, SMPercent: 60}}})
	for i := range out {
		use, _ := d.GetUtilizationRates()
		watts, _ := d.GetPowerUsage()
		celsius, _ := d.GetTemperature(gonvml.TEMPERATURE_GPU)
		out[i] = [3]uint32{use.Gpu, watts, celsius}
		time.Sleep(time.Second)
	}
	return out
}

func TestSameSeedGivesTheSameFiguresAndAnotherOthers(t *testing.T) {
	of := func(seed uint64) (out [10][3]uint32) {
		synctest.Test(t, func(t *testing.T) { out = wavering(t, seed) })
		return out
	}
	first := of(5)
	if again := of(5); again != first {
		t.Errorf("seed 5 gives %v and then %v", first, again)
	}
	if other := of(6); other == first {
		t.Errorf("seeds 5 and 6 give %v", first)
	}
	if first[0] == first[1] && first[1] == first[2] {
		t.Errorf("nothing wavers: %v", first)
	}
}

func TestBusierGPUIsHotterAndTakesMorePower(t *testing.T) {
	for _, gpuType := range Types() {
		d, telemetry := telemetryOf(t, newMachine(t, Layout{gpuType, 1}), 0)
		limit, _ := d.GetEnforcedPowerLimit()
		var before, hot uint32
		for _, percent := range []uint32{0, 30, 60, 100} {
			telemetry.SetLoad(Load{Processes: []Process{{PID: 1, SMPercent: percent}}})
			watts, _ := d.GetPowerUsage()
			celsius, _ := d.GetTemperature(gonvml.TEMPERATURE_GPU)
			if watts <= before || celsius <= hot || float64(watts) > 1.03*float64(limit) {
				t.Errorf("%s at %d%%: %d mW of %d and %d °C, before %d and %d", gpuType, percent, watts, limit, celsius, before, hot)
			}
			before, hot = watts, celsius
		}
		if reasons, _ := d.GetCurrentClocksEventReasons(); reasons != gonvml.ClocksEventReasonSwPowerCap {
			t.Errorf("%s: at full load %b holds it back", gpuType, reasons)
		}
	}
}

func TestAnyLoadGivesFiguresThatADeviceCanHave(t *testing.T) {
	m := newMachine(t, Layout{"h200", 1})
	rapid.Check(t, func(t *rapid.T) {
		d, telemetry := telemetryOf(t, m, 0)
		telemetry.SetLoad(Load{
			Seed: rapid.Uint64().Draw(t, "seed"),
			Processes: rapid.SliceOf(rapid.Custom(func(t *rapid.T) Process {
				return Process{
					PID:         rapid.Uint32().Draw(t, "pid"),
					MemoryBytes: rapid.Uint64Max(1<<40).Draw(t, "memory"),
					SMPercent:   rapid.Uint32Max(100).Draw(t, "percent"),
				}
			})).Draw(t, "processes"),
		})
		memory, code := d.GetMemoryInfo()
		if code != gonvml.SUCCESS || memory.Used+memory.Free != memory.Total || memory.Used > memory.Total {
			t.Fatalf("memory %+v, %v", memory, code)
		}
		use, code := d.GetUtilizationRates()
		if code != gonvml.SUCCESS || use.Gpu > 100 || use.Memory > 100 {
			t.Fatalf("use %+v, %v", use, code)
		}
		if celsius, _ := d.GetTemperature(gonvml.TEMPERATURE_GPU); celsius < 20 || celsius > 90 {
			t.Fatalf("%d °C", celsius)
		}
	})
}

func TestLinkCountersNeverGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, telemetry := telemetryOf(t, newMachine(t, Layout{"a100", 1}), 0)
		read := func() uint64 {
			values := []gonvml.FieldValue{{FieldId: gonvml.FI_DEV_NVLINK_THROUGHPUT_DATA_TX, ScopeId: math.MaxUint32}}
			if code := d.GetFieldValues(values); code != gonvml.SUCCESS || values[0].NvmlReturn != uint32(gonvml.SUCCESS) {
				t.Fatal(code, values)
			}
			var total uint64
			for i, b := range values[0].Value {
				total |= uint64(b) << (8 * i)
			}
			return total
		}
		last := read()
		for _, percent := range []uint32{100, 0, 50, 0, 0} {
			telemetry.SetLoad(Load{Processes: []Process{{PID: 1, SMPercent: percent}}})
			time.Sleep(time.Second)
			total := read()
			if total < last || (total > last) != (percent > 0) {
				t.Errorf("at %d%% the counter goes from %d to %d", percent, last, total)
			}
			last = total
		}
	})
}

func TestRefusedCallAnswersAgainWhenItMay(t *testing.T) {
	d, telemetry := telemetryOf(t, newMachine(t, Layout{"h100", 1}), 0)
	for _, want := range []gonvml.Return{gonvml.ERROR_NOT_SUPPORTED, gonvml.ERROR_NO_PERMISSION, gonvml.SUCCESS} {
		telemetry.Refuse("nvmlDeviceGetPowerUsage", want)
		if _, code := d.GetPowerUsage(); code != want {
			t.Errorf("it answers %v and not %v", code, want)
		}
		if _, code := d.GetEnforcedPowerLimit(); code != gonvml.SUCCESS {
			t.Errorf("another call answers %v", code)
		}
	}
}

func TestTelemetryIsOfSimulatedDevicesAlone(t *testing.T) {
	f, err := NewFaulty(Layout{"h100", 1})
	if err != nil {
		t.Fatal(err)
	}
	_, telemetry := telemetryOf(t, f, 0)
	telemetry.SetLoad(Load{Processes: []Process{{PID: 9, SMPercent: 80}}})
	d, _ := f.DeviceGetHandleByIndex(0)
	if use, code := d.GetUtilizationRates(); code != gonvml.SUCCESS || use.Gpu == 0 {
		t.Errorf("a machine that can fail shows no load: %+v, %v", use, code)
	}
	if _, ok := TelemetryOf(struct{ gonvml.Device }{d}); ok {
		t.Error("a stranger has telemetry")
	}
}
