package simulated

import (
	"encoding/binary"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// What a driver tells of a MIG device by itself; all else is of the whole GPU.
const (
	ofSlice = true
	ofGPU   = false
)

// GetUtilizationRates is nvmlDeviceGetUtilizationRates, which a driver does not
// answer for a GPU in MIG mode.
func (t *Telemetry) GetUtilizationRates() (gonvml.Utilization, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetUtilizationRates", ofGPU)
	if code == gonvml.SUCCESS && t.partitioned() {
		code = gonvml.ERROR_NOT_SUPPORTED
	}
	if code != gonvml.SUCCESS {
		return gonvml.Utilization{}, code
	}
	return gonvml.Utilization{Gpu: f.gpuPercent, Memory: f.memoryPercent}, code
}

// GetMemoryInfo is nvmlDeviceGetMemoryInfo.
func (t *Telemetry) GetMemoryInfo() (gonvml.Memory, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetMemoryInfo", ofSlice)
	if code != gonvml.SUCCESS {
		return gonvml.Memory{}, code
	}
	return gonvml.Memory{Total: t.memoryBytes, Used: f.usedBytes, Free: t.memoryBytes - f.usedBytes}, code
}

// GetTemperature is nvmlDeviceGetTemperature.
func (t *Telemetry) GetTemperature(sensor gonvml.TemperatureSensors) (uint32, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetTemperature", ofGPU)
	if code == gonvml.SUCCESS && sensor != gonvml.TEMPERATURE_GPU {
		code = gonvml.ERROR_INVALID_ARGUMENT
	}
	return f.celsius, code
}

// GetPowerUsage is nvmlDeviceGetPowerUsage, in milliwatts.
func (t *Telemetry) GetPowerUsage() (uint32, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetPowerUsage", ofGPU)
	return f.milliwatts, code
}

// GetEnforcedPowerLimit is nvmlDeviceGetEnforcedPowerLimit, in milliwatts.
func (t *Telemetry) GetEnforcedPowerLimit() (uint32, gonvml.Return) {
	_, code := t.answer("nvmlDeviceGetEnforcedPowerLimit", ofGPU)
	if code != gonvml.SUCCESS {
		return 0, code
	}
	return uint32(t.envelope.limitWatts * 1000), code
}

// GetClockInfo is nvmlDeviceGetClockInfo, in MHz.
func (t *Telemetry) GetClockInfo(clock gonvml.ClockType) (uint32, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetClockInfo", ofGPU)
	if code != gonvml.SUCCESS {
		return 0, code
	}
	switch clock {
	case gonvml.CLOCK_SM, gonvml.CLOCK_GRAPHICS:
		return f.smMHz, code
	case gonvml.CLOCK_MEM:
		return f.memoryMHz, code
	default:
		return 0, gonvml.ERROR_INVALID_ARGUMENT
	}
}

// GetTotalEccErrors is nvmlDeviceGetTotalEccErrors: a simulated memory has none.
func (t *Telemetry) GetTotalEccErrors(gonvml.MemoryErrorType, gonvml.EccCounterType) (uint64, gonvml.Return) {
	_, code := t.answer("nvmlDeviceGetTotalEccErrors", ofGPU)
	return 0, code
}

// GetCurrentClocksEventReasons is nvmlDeviceGetCurrentClocksEventReasons.
func (t *Telemetry) GetCurrentClocksEventReasons() (uint64, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetCurrentClocksEventReasons", ofGPU)
	return f.clockReasons, code
}

// GetCurrentClocksThrottleReasons is the older name of the same.
func (t *Telemetry) GetCurrentClocksThrottleReasons() (uint64, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetCurrentClocksThrottleReasons", ofGPU)
	return f.clockReasons, code
}

// GetPcieThroughput is nvmlDeviceGetPcieThroughput, in KB/s.
func (t *Telemetry) GetPcieThroughput(counter gonvml.PcieUtilCounter) (uint32, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetPcieThroughput", ofGPU)
	if code != gonvml.SUCCESS {
		return 0, code
	}
	switch counter {
	case gonvml.PCIE_UTIL_RX_BYTES:
		return f.pcieRxKB, code
	case gonvml.PCIE_UTIL_TX_BYTES:
		return f.pcieTxKB, code
	default:
		return 0, gonvml.ERROR_INVALID_ARGUMENT
	}
}

// GetFieldValues is nvmlDeviceGetFieldValues: each field has a code of its own.
func (t *Telemetry) GetFieldValues(values []gonvml.FieldValue) gonvml.Return {
	f, code := t.answer("nvmlDeviceGetFieldValues", ofGPU)
	if code != gonvml.SUCCESS {
		return code
	}
	for i := range values {
		v := &values[i]
		value, code := t.field(f, v.FieldId, v.ScopeId)
		v.NvmlReturn = uint32(code)
		v.Timestamp = time.Now().UnixMicro()
		v.ValueType = uint32(gonvml.VALUE_TYPE_UNSIGNED_LONG_LONG)
		binary.NativeEndian.PutUint64(v.Value[:], value)
	}
	return gonvml.SUCCESS
}

// field gives the NVLink counters as each generation does: to the fourth a sum of
// all links in KiB, from the fifth each link by itself in bytes.
func (t *Telemetry) field(f figures, id, scope uint32) (uint64, gonvml.Return) {
	allLinks := scope == ^uint32(0)
	perLink := t.envelope.perLinkCounters && scope < linkCount
	switch {
	case id == gonvml.FI_DEV_MEMORY_TEMP:
		return uint64(f.memoryCelsius), gonvml.SUCCESS
	case id == gonvml.FI_DEV_NVLINK_THROUGHPUT_DATA_TX && allLinks && !t.envelope.perLinkCounters:
		return f.linkTxBytes >> 10, gonvml.SUCCESS
	case id == gonvml.FI_DEV_NVLINK_THROUGHPUT_DATA_RX && allLinks && !t.envelope.perLinkCounters:
		return f.linkRxBytes >> 10, gonvml.SUCCESS
	case id == gonvml.FI_DEV_NVLINK_COUNT_XMIT_BYTES && perLink:
		return f.linkTxBytes / linkCount, gonvml.SUCCESS
	case id == gonvml.FI_DEV_NVLINK_COUNT_RCV_BYTES && perLink:
		return f.linkRxBytes / linkCount, gonvml.SUCCESS
	default:
		return 0, gonvml.ERROR_NOT_SUPPORTED
	}
}

// GetComputeRunningProcesses is nvmlDeviceGetComputeRunningProcesses; a GPU in
// MIG mode tells those of all its slices.
func (t *Telemetry) GetComputeRunningProcesses() ([]gonvml.ProcessInfo, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetComputeRunningProcesses", ofSlice)
	if code != gonvml.SUCCESS {
		return nil, code
	}
	out := make([]gonvml.ProcessInfo, len(f.processes))
	for i, p := range f.processes {
		out[i] = gonvml.ProcessInfo{Pid: p.PID, UsedGpuMemory: p.MemoryBytes, GpuInstanceId: noID, ComputeInstanceId: noID}
	}
	return out, code
}

// noID is how NVML says that there is no GPU instance.
const noID = ^uint32(0)

// GetGraphicsRunningProcesses is nvmlDeviceGetGraphicsRunningProcesses: nobody
// draws on a GPU in a server.
func (t *Telemetry) GetGraphicsRunningProcesses() ([]gonvml.ProcessInfo, gonvml.Return) {
	_, code := t.answer("nvmlDeviceGetGraphicsRunningProcesses", ofSlice)
	return nil, code
}

// GetProcessUtilization is nvmlDeviceGetProcessUtilization: a row for each process
// that has computed since, in microseconds since 1970. Not in MIG mode.
func (t *Telemetry) GetProcessUtilization(since uint64) ([]gonvml.ProcessUtilizationSample, gonvml.Return) {
	f, code := t.answer("nvmlDeviceGetProcessUtilization", ofGPU)
	if code == gonvml.SUCCESS && t.partitioned() {
		code = gonvml.ERROR_NOT_SUPPORTED
	}
	if code != gonvml.SUCCESS {
		return nil, code
	}
	now := uint64(time.Now().UnixMicro())
	var out []gonvml.ProcessUtilizationSample
	for _, p := range f.processes {
		if p.SMPercent > 0 && now > since {
			out = append(out, gonvml.ProcessUtilizationSample{Pid: p.PID, TimeStamp: now, SmUtil: p.SMPercent, MemUtil: p.SMPercent / 2})
		}
	}
	if len(out) == 0 {
		return nil, gonvml.ERROR_NOT_FOUND
	}
	return out, code
}
