package telemetry

import (
	"ecolink/nvml"
	"ecolink/nvml/history"
)

// The figures that are kept. Their numbers are in files: a new one goes to the end,
// and none is used for another meaning.
const (
	GPUPercent history.Figure = iota
	MemoryPercent
	MemoryUsedBytes
	MemoryTotalBytes
	Celsius
	MemoryCelsius
	PowerWatts
	PowerLimitWatts
	SMClockMHz
	MemoryClockMHz
	FanPercent
	ECCCorrectedVolatile
	ECCUncorrectedVolatile
	ECCCorrectedAggregate
	ECCUncorrectedAggregate
	ThrottledByPower // 0 or 1, so the mean is the share of the time
	ThrottledByHeat
	ThrottledByHardware
	PCIeRxBytesPerSecond
	PCIeTxBytesPerSecond
	NVLinkRxBytesPerSecond
	NVLinkTxBytesPerSecond
	ProcessCount
	figureCount
)

// Name is what a figure is called where people and programs read it, as the fields
// of nvml.Sample are. Empty for a number that is no figure.
func Name(figure history.Figure) string {
	if figure < figureCount {
		return names()[figure]
	}
	return ""
}

// Named is the figure of a name.
func Named(name string) (history.Figure, bool) {
	for figure, n := range names() {
		if n == name {
			return history.Figure(figure), true
		}
	}
	return 0, false
}

func names() [figureCount]string {
	return [figureCount]string{
		GPUPercent:              "gpu_percent",
		MemoryPercent:           "memory_percent",
		MemoryUsedBytes:         "memory_used_bytes",
		MemoryTotalBytes:        "memory_total_bytes",
		Celsius:                 "celsius",
		MemoryCelsius:           "memory_celsius",
		PowerWatts:              "power_watts",
		PowerLimitWatts:         "power_limit_watts",
		SMClockMHz:              "sm_clock_mhz",
		MemoryClockMHz:          "memory_clock_mhz",
		FanPercent:              "fan_percent",
		ECCCorrectedVolatile:    "ecc_corrected_volatile",
		ECCUncorrectedVolatile:  "ecc_uncorrected_volatile",
		ECCCorrectedAggregate:   "ecc_corrected_aggregate",
		ECCUncorrectedAggregate: "ecc_uncorrected_aggregate",
		ThrottledByPower:        "throttled_by_power",
		ThrottledByHeat:         "throttled_by_heat",
		ThrottledByHardware:     "throttled_by_hardware",
		PCIeRxBytesPerSecond:    "pcie_rx_bytes_per_second",
		PCIeTxBytesPerSecond:    "pcie_tx_bytes_per_second",
		NVLinkRxBytesPerSecond:  "nvlink_rx_bytes_per_second",
		NVLinkTxBytesPerSecond:  "nvlink_tx_bytes_per_second",
		ProcessCount:            "process_count",
	}
}

// figuresOf are those of a sample; what is absent there is absent here.
func figuresOf(s *nvml.Sample) (f history.Figures) {
	set(&f, GPUPercent, s.GPUPercent)
	set(&f, MemoryPercent, s.MemoryPercent)
	set(&f, MemoryUsedBytes, s.MemoryUsedBytes)
	set(&f, MemoryTotalBytes, s.MemoryTotalBytes)
	set(&f, Celsius, s.Celsius)
	set(&f, MemoryCelsius, s.MemoryCelsius)
	set(&f, PowerWatts, s.PowerWatts)
	set(&f, PowerLimitWatts, s.PowerLimitWatts)
	set(&f, SMClockMHz, s.SMClockMHz)
	set(&f, MemoryClockMHz, s.MemoryClockMHz)
	set(&f, FanPercent, s.FanPercent)
	set(&f, ECCCorrectedVolatile, s.ECC.CorrectedVolatile)
	set(&f, ECCUncorrectedVolatile, s.ECC.UncorrectedVolatile)
	set(&f, ECCCorrectedAggregate, s.ECC.CorrectedAggregate)
	set(&f, ECCUncorrectedAggregate, s.ECC.UncorrectedAggregate)
	set(&f, PCIeRxBytesPerSecond, s.PCIeRxBytesPerSecond)
	set(&f, PCIeTxBytesPerSecond, s.PCIeTxBytesPerSecond)
	set(&f, NVLinkRxBytesPerSecond, s.NVLinkRxBytesPerSecond)
	set(&f, NVLinkTxBytesPerSecond, s.NVLinkTxBytesPerSecond)
	if t, ok := s.Throttle.Get(); ok {
		f.Set(ThrottledByPower, share(t.ByPower()))
		f.Set(ThrottledByHeat, share(t.ByHeat()))
		f.Set(ThrottledByHardware, share(t.ByHardware()))
	}
	if s.Processes != nil {
		f.Set(ProcessCount, float64(len(s.Processes)))
	}
	return f
}

func set[T uint64 | float64](f *history.Figures, figure history.Figure, r nvml.Reading[T]) {
	if value, ok := r.Get(); ok {
		f.Set(figure, float64(value))
	}
}

func share(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
