package telemetry

import (
	"encoding/json"
	"testing"

	"ecolink/nvml"
	"ecolink/nvml/history"
)

// Files name figures by number.
func TestFigureHasTheNumberThatOldFilesGiveIt(t *testing.T) {
	for figure, name := range []string{
		"gpu_percent", "memory_percent", "memory_used_bytes", "memory_total_bytes", "celsius", "memory_celsius", "power_watts",
		"power_limit_watts", "sm_clock_mhz", "memory_clock_mhz", "fan_percent", "ecc_corrected_volatile", "ecc_uncorrected_volatile",
		"ecc_corrected_aggregate", "ecc_uncorrected_aggregate", "throttled_by_power", "throttled_by_heat", "throttled_by_hardware",
		"pcie_rx_bytes_per_second", "pcie_tx_bytes_per_second", "nvlink_rx_bytes_per_second", "nvlink_tx_bytes_per_second", "process_count",
	} {
		if got := Name(history.Figure(figure)); got != name {
			t.Errorf("%d is %q, want %q", figure, got, name)
		}
		if got, ok := Named(name); !ok || got != history.Figure(figure) {
			t.Errorf("%q is %d, want %d", name, got, figure)
		}
	}
}

func TestEveryFigureHasANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for figure := range figureCount {
		name := Name(figure)
		if name == "" || seen[name] {
			t.Errorf("%d is %q", figure, name)
		}
		seen[name] = true
	}
	if Name(figureCount) != "" {
		t.Errorf("%d is %q", figureCount, Name(figureCount))
	}
	if figure, ok := Named("nothing"); ok {
		t.Errorf("nothing is %d", figure)
	}
}

// complete has another value for each figure, by its name.
func complete() nvml.Sample {
	n := uint64(0)
	next := func() nvml.Reading[uint64] { n++; return nvml.Known(n) }
	nextFloat := func() nvml.Reading[float64] { n++; return nvml.Known(float64(n)) }
	return nvml.Sample{
		GPUPercent: next(), MemoryPercent: next(), MemoryUsedBytes: next(), MemoryTotalBytes: next(), Celsius: next(), MemoryCelsius: next(),
		PowerWatts: nextFloat(), PowerLimitWatts: nextFloat(), SMClockMHz: next(), MemoryClockMHz: next(), FanPercent: next(),
		PCIeRxBytesPerSecond: nextFloat(), PCIeTxBytesPerSecond: nextFloat(), NVLinkRxBytesPerSecond: nextFloat(), NVLinkTxBytesPerSecond: nextFloat(),
		ECC:       nvml.ECC{CorrectedVolatile: next(), UncorrectedVolatile: next(), CorrectedAggregate: next(), UncorrectedAggregate: next()},
		Throttle:  nvml.Known(nvml.Throttle(4)), // the power limit
		Processes: make([]nvml.ProcessUse, 50),
	}
}

func TestEveryFigureOfASampleIsKeptUnderItsName(t *testing.T) {
	s := complete()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for name, value := range fields["ecc"].(map[string]any) {
		fields["ecc_"+name] = value
	}
	fields["throttled_by_power"], fields["throttled_by_heat"], fields["throttled_by_hardware"] = 1.0, 0.0, 0.0
	fields["process_count"] = 50.0
	f := figuresOf(&s)
	for figure := range figureCount {
		if got, ok := f.Get(figure); !ok || got != fields[Name(figure)] {
			t.Errorf("%s is %v, %v, want %v", Name(figure), got, ok, fields[Name(figure)])
		}
	}
}

func TestAbsentFigureIsNotKept(t *testing.T) {
	if f := figuresOf(&nvml.Sample{UUID: "GPU-a"}); f != (history.Figures{}) {
		t.Errorf("kept %+v", f)
	}
}
