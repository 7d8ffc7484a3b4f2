package nvml

import (
	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// reader asks a device the calls of one sample.
type reader struct {
	can  symbols
	lost bool // the GPU has fallen off the bus, says one of the calls
}

func (r *reader) knows(symbol string) bool { return r.can[symbol] }

// ok reports whether a call gave a figure.
func (r *reader) ok(code gonvml.Return) bool {
	if code == gonvml.ERROR_GPU_IS_LOST {
		r.lost = true
	}
	return code == gonvml.SUCCESS
}

// number reads one figure by a call of no arguments.
func number(r *reader, symbol string, call func() (uint32, gonvml.Return)) Reading[uint64] {
	if r.knows(symbol) {
		if value, code := call(); r.ok(code) {
			return Known(uint64(value))
		}
	}
	return Reading[uint64]{}
}

// with is number for a call of one argument.
func with[A any](r *reader, symbol string, call func(A) (uint32, gonvml.Return), argument A) Reading[uint64] {
	if r.knows(symbol) {
		if value, code := call(argument); r.ok(code) {
			return Known(uint64(value))
		}
	}
	return Reading[uint64]{}
}

// watts of milliwatts.
func watts(milli Reading[uint64]) Reading[float64] {
	if value, ok := milli.Get(); ok {
		return Known(float64(value) / 1000)
	}
	return Reading[float64]{}
}

// kilobytes are what NVML calls KB/s, taken as thousands: nvml.h leaves it open.
func kilobytes(thousands Reading[uint64]) Reading[float64] {
	if value, ok := thousands.Get(); ok {
		return Known(float64(value) * 1000)
	}
	return Reading[float64]{}
}

func (r *reader) memory(d gonvml.Device, s *Sample) {
	if !r.knows("nvmlDeviceGetMemoryInfo") {
		return
	}
	if m, code := d.GetMemoryInfo(); r.ok(code) {
		s.MemoryUsedBytes, s.MemoryTotalBytes = Known(m.Used), Known(m.Total)
	}
}

// throttle prefers the call's newer name, of driver 535 and up.
func (r *reader) throttle(d gonvml.Device) Reading[Throttle] {
	call := d.GetCurrentClocksEventReasons
	if !r.knows("nvmlDeviceGetCurrentClocksEventReasons") {
		if !r.knows("nvmlDeviceGetCurrentClocksThrottleReasons") {
			return Reading[Throttle]{}
		}
		call = d.GetCurrentClocksThrottleReasons
	}
	if bits, code := call(); r.ok(code) {
		return Known(Throttle(bits))
	}
	return Reading[Throttle]{}
}

func (r *reader) ecc(d gonvml.Device) ECC {
	if !r.knows("nvmlDeviceGetTotalEccErrors") {
		return ECC{}
	}
	count := func(kind gonvml.MemoryErrorType, since gonvml.EccCounterType) Reading[uint64] {
		if errors, code := d.GetTotalEccErrors(kind, since); r.ok(code) {
			return Known(errors)
		}
		return Reading[uint64]{}
	}
	return ECC{
		CorrectedVolatile:    count(gonvml.MEMORY_ERROR_TYPE_CORRECTED, gonvml.VOLATILE_ECC),
		UncorrectedVolatile:  count(gonvml.MEMORY_ERROR_TYPE_UNCORRECTED, gonvml.VOLATILE_ECC),
		CorrectedAggregate:   count(gonvml.MEMORY_ERROR_TYPE_CORRECTED, gonvml.AGGREGATE_ECC),
		UncorrectedAggregate: count(gonvml.MEMORY_ERROR_TYPE_UNCORRECTED, gonvml.AGGREGATE_ECC),
	}
}

// slices looks the MIG devices up. Numbers without one are skipped: they need not
// be the lowest.
func (r *reader) slices(d gonvml.Device) []sampledSlice {
	if !r.knows("nvmlDeviceGetMaxMigDeviceCount") || !r.knows("nvmlDeviceGetMigDeviceHandleByIndex") {
		return nil
	}
	count, code := d.GetMaxMigDeviceCount()
	if !r.ok(code) {
		return nil
	}
	var out []sampledSlice
	for i := range min(count, maxSlices) {
		slice, code := d.GetMigDeviceHandleByIndex(i)
		if !r.ok(code) {
			continue
		}
		if uuid, code := slice.GetUUID(); r.ok(code) {
			out = append(out, sampledSlice{slice, uuid})
		}
	}
	return out
}
