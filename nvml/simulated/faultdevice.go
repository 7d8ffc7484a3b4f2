package simulated

import (
	"encoding/binary"
	"reflect"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
)

// faultyDevice is the handle of a FaultyGPU. Every one of its calls first meets
// the GPU's faults (enter) and is then answered by faultyAnswers.
type faultyDevice struct {
	mock.Device
	gpu *FaultyGPU
}

var _ gonvml.Device = (*faultyDevice)(nil)

// newFaultyDevice fills each call of the mock, so that none can be forgotten.
func newFaultyDevice(g *FaultyGPU) *faultyDevice {
	d := &faultyDevice{gpu: g}
	answers := reflect.ValueOf(&faultyAnswers{gpu: g.well, faults: g})
	fields := reflect.ValueOf(&d.Device).Elem()
	for i := range fields.NumField() {
		name, ok := strings.CutSuffix(fields.Type().Field(i).Name, "Func")
		if !ok || fields.Field(i).Kind() != reflect.Func {
			continue
		}
		fields.Field(i).Set(reflect.MakeFunc(fields.Field(i).Type(), d.call("nvmlDevice"+name, answers.MethodByName(name))))
	}
	return d
}

// call is a call that answers with the fault's code, or as answer does.
func (d *faultyDevice) call(symbol string, answer reflect.Value) func([]reflect.Value) []reflect.Value {
	code := reflect.TypeFor[gonvml.Return]()
	return func(args []reflect.Value) []reflect.Value {
		fault := d.gpu.enter(symbol)
		t := answer.Type()
		if fault == gonvml.SUCCESS || t.NumOut() == 0 || t.Out(t.NumOut()-1) != code {
			return answer.Call(unwrapped(args))
		}
		out := make([]reflect.Value, t.NumOut())
		for i := range out {
			out[i] = reflect.Zero(t.Out(i))
			if t.Out(i) == code {
				out[i] = reflect.ValueOf(fault)
			}
		}
		return out
	}
}

// unwrapped hands a simulated GPU what it knows: other simulated GPUs.
func unwrapped(args []reflect.Value) []reflect.Value {
	for i, arg := range args {
		if d, ok := arg.Interface().(*faultyDevice); ok {
			args[i] = reflect.ValueOf(d.gpu.well)
		}
	}
	return args
}

// faultyAnswers is the GPU with what its faults have counted.
type faultyAnswers struct {
	*gpu
	faults *FaultyGPU
}

// GetUUID is nvmlDeviceGetUUID.
func (a *faultyAnswers) GetUUID() (string, gonvml.Return) { return a.faults.UUID(), gonvml.SUCCESS }

// GetIndex is nvmlDeviceGetIndex.
func (a *faultyAnswers) GetIndex() (int, gonvml.Return) {
	f := a.faults.on
	f.mu.Lock()
	defer f.mu.Unlock()
	for index, slot := range f.order {
		if slot == a.faults.slot {
			return index, gonvml.SUCCESS
		}
	}
	return 0, gonvml.ERROR_GPU_IS_LOST
}

// RegisterEvents is nvmlDeviceRegisterEvents.
func (a *faultyAnswers) RegisterEvents(types uint64, set gonvml.EventSet) gonvml.Return {
	return a.registerAs(a.faults.handle, types, set)
}

// GetTotalEccErrors is nvmlDeviceGetTotalEccErrors.
func (a *faultyAnswers) GetTotalEccErrors(kind gonvml.MemoryErrorType, counter gonvml.EccCounterType) (uint64, gonvml.Return) {
	n, code := a.gpu.GetTotalEccErrors(kind, counter)
	if code == gonvml.SUCCESS && kind == gonvml.MEMORY_ERROR_TYPE_UNCORRECTED {
		a.faults.change(func() { n += a.faults.ecc })
	}
	return n, code
}

// GetSramEccErrorStatus is nvmlDeviceGetSramEccErrorStatus.
func (a *faultyAnswers) GetSramEccErrorStatus() (status gonvml.EccSramErrorStatus, _ gonvml.Return) {
	a.faults.change(func() {
		if a.faults.sram {
			status.BThresholdExceeded = 1
		}
	})
	return status, gonvml.SUCCESS
}

// GetRemappedRows is nvmlDeviceGetRemappedRows.
func (a *faultyAnswers) GetRemappedRows() (correctable, uncorrectable int, pending, failed bool, _ gonvml.Return) {
	a.faults.change(func() {
		uncorrectable, pending, failed = a.faults.rows.uncorrectable, a.faults.rows.pending, a.faults.rows.failed
	})
	return 0, uncorrectable, pending, failed, gonvml.SUCCESS
}

// GetCurrentClocksEventReasons is nvmlDeviceGetCurrentClocksEventReasons.
func (a *faultyAnswers) GetCurrentClocksEventReasons() (uint64, gonvml.Return) {
	reasons, code := a.gpu.GetCurrentClocksEventReasons()
	a.faults.change(func() { reasons |= a.faults.throttle })
	return reasons, code
}

// GetCurrentClocksThrottleReasons is the same under its name before R535.
func (a *faultyAnswers) GetCurrentClocksThrottleReasons() (uint64, gonvml.Return) {
	reasons, code := a.gpu.GetCurrentClocksThrottleReasons()
	a.faults.change(func() { reasons |= a.faults.throttle })
	return reasons, code
}

// GetNvLinkState is nvmlDeviceGetNvLinkState.
func (a *faultyAnswers) GetNvLinkState(n int) (state gonvml.EnableState, _ gonvml.Return) {
	if n < 0 || n >= faultyLinks {
		return 0, gonvml.ERROR_INVALID_ARGUMENT
	}
	a.faults.change(func() {
		state = gonvml.FEATURE_ENABLED
		if a.faults.links[n].down {
			state = gonvml.FEATURE_DISABLED
		}
	})
	return state, gonvml.SUCCESS
}

// GetNvLinkErrorCounter is nvmlDeviceGetNvLinkErrorCounter.
func (a *faultyAnswers) GetNvLinkErrorCounter(n int, counter gonvml.NvLinkErrorCounter) (value uint64, code gonvml.Return) {
	if n < 0 || n >= faultyLinks {
		return 0, gonvml.ERROR_INVALID_ARGUMENT
	}
	if a.envelope.perLinkCounters {
		return 0, gonvml.ERROR_NOT_SUPPORTED
	}
	a.faults.change(func() {
		switch counter {
		case gonvml.NVLINK_ERROR_DL_REPLAY:
			value = a.faults.links[n].replays
		case gonvml.NVLINK_ERROR_DL_RECOVERY:
			value = a.faults.links[n].retrains
		case gonvml.NVLINK_ERROR_DL_CRC_FLIT:
			value = a.faults.links[n].crc
		default:
			code = gonvml.ERROR_NOT_SUPPORTED
		}
	})
	return value, code
}

// GetFieldValues is nvmlDeviceGetFieldValues, with what faults are read as fields.
func (a *faultyAnswers) GetFieldValues(values []gonvml.FieldValue) gonvml.Return {
	if code := a.gpu.GetFieldValues(values); code != gonvml.SUCCESS {
		return code
	}
	for i := range values {
		if value, ok := a.field(values[i].FieldId, values[i].ScopeId); ok {
			values[i].NvmlReturn, values[i].ValueType = uint32(gonvml.SUCCESS), uint32(gonvml.VALUE_TYPE_UNSIGNED_LONG_LONG)
			binary.NativeEndian.PutUint64(values[i].Value[:], value)
		}
	}
	return gonvml.SUCCESS
}

func (a *faultyAnswers) field(id, scope uint32) (value uint64, ok bool) {
	f := a.faults
	f.on.mu.Lock()
	defer f.on.mu.Unlock()
	if id == gonvml.FI_DEV_GET_GPU_RECOVERY_ACTION {
		return uint64(f.recovery), true
	}
	if scope >= faultyLinks {
		return 0, false
	}
	// Blackwell counts under other fields (nvml.h, NVML_FI_DEV_NVLINK_ERROR_DL_*).
	fifth := f.well.envelope.perLinkCounters
	switch {
	case id == gonvml.FI_DEV_NVLINK_ERROR_DL_REPLAY && !fifth:
		return f.links[scope].replays, true
	case id == gonvml.FI_DEV_NVLINK_ERROR_DL_RECOVERY && !fifth, id == gonvml.FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS && fifth:
		return f.links[scope].retrains, true
	case id == gonvml.FI_DEV_NVLINK_ERROR_DL_CRC && !fifth, id == gonvml.FI_DEV_NVLINK_COUNT_RCV_ERRORS && fifth:
		return f.links[scope].crc, true
	}
	return 0, false
}
