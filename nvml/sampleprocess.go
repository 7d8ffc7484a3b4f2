package nvml

import (
	"cmp"
	"maps"
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// notAvailable is NVML_VALUE_NOT_AVAILABLE of an unsigned long long.
const notAvailable = ^uint64(0)

// processes are those that compute or draw on the device; nil when the driver
// says neither. In MIG mode a process is listed once for each slice that it uses.
func (r *reader) processes(d gonvml.Device) []ProcessUse {
	type use struct{ pid, gi, ci uint32 }
	memory := map[use]uint64{}
	told := false
	collect := func(symbol string, call func() ([]gonvml.ProcessInfo, gonvml.Return)) {
		if !r.knows(symbol) {
			return
		}
		infos, code := call()
		if !r.ok(code) {
			return
		}
		told = true
		for _, p := range infos {
			// One that computes and draws is in both lists, with the same memory.
			memory[use{p.Pid, p.GpuInstanceId, p.ComputeInstanceId}] = p.UsedGpuMemory
		}
	}
	collect("nvmlDeviceGetComputeRunningProcesses", d.GetComputeRunningProcesses)
	collect("nvmlDeviceGetGraphicsRunningProcesses", d.GetGraphicsRunningProcesses)
	if !told {
		return nil
	}
	byPID := map[uint32]Reading[uint64]{}
	for u, bytes := range memory {
		sum, seen := byPID[u.pid]
		switch {
		case bytes == notAvailable, seen && sum.IsZero():
			byPID[u.pid] = Reading[uint64]{} // a sum without one of its parts is none
		default:
			byPID[u.pid] = Known(sum.value + bytes)
		}
	}
	pids := slices.Sorted(maps.Keys(byPID))
	out := make([]ProcessUse, 0, min(len(pids), maxProcesses))
	for _, pid := range pids[:min(len(pids), maxProcesses)] {
		out = append(out, ProcessUse{PID: pid, MemoryBytes: byPID[pid]})
	}
	return out
}

// processUse fills in SMPercent. The driver lists who has computed since seen, so
// who is not in its list has not.
func (r *reader) processUse(d gonvml.Device, processes []ProcessUse, seen *uint64) {
	if len(processes) == 0 || !r.knows("nvmlDeviceGetProcessUtilization") {
		return
	}
	rows, code := d.GetProcessUtilization(*seen)
	// go-nvml gives the answer to its own first question, INSUFFICIENT_SIZE, when
	// there is no row.
	none := code == gonvml.ERROR_NOT_FOUND || code == gonvml.ERROR_INSUFFICIENT_SIZE && len(rows) == 0
	if !none && !r.ok(code) {
		return
	}
	for i := range processes {
		processes[i].SMPercent = Known[uint64](0)
	}
	slices.SortFunc(rows, func(a, b gonvml.ProcessUtilizationSample) int { return cmp.Compare(a.TimeStamp, b.TimeStamp) })
	for _, row := range rows {
		*seen = max(*seen, row.TimeStamp)
		if i, ok := slices.BinarySearchFunc(processes, row.Pid, func(p ProcessUse, pid uint32) int { return cmp.Compare(p.PID, pid) }); ok {
			processes[i].SMPercent = Known(uint64(row.SmUtil))
		}
	}
}
