package nvml

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"testing"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"pgregory.net/rapid"
)

func TestReadingSurvivesJSON(t *testing.T) {
	type figures struct {
		Count Reading[uint64]  `json:"count,omitzero"`
		Watts Reading[float64] `json:"watts,omitzero"`
	}
	rapid.Check(t, func(t *rapid.T) {
		var in figures
		if rapid.Bool().Draw(t, "count is known") {
			in.Count = Known(rapid.Uint64().Draw(t, "count"))
		}
		if rapid.Bool().Draw(t, "watts are known") {
			in.Watts = Known(rapid.Float64().Draw(t, "watts"))
		}
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out figures
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		if in != out {
			t.Fatalf("%+v became %s and then %+v", in, raw, out)
		}
	})
}

func TestAbsentFigureIsNotAZeroInJSON(t *testing.T) {
	for want, in := range map[string]any{
		"{}": struct {
			X Reading[uint64] `json:"x,omitzero"`
		}{},
		`{"x":0}`: struct {
			X Reading[uint64] `json:"x,omitzero"`
		}{Known[uint64](0)},
		`{"x":null}`: struct {
			X Reading[uint64] `json:"x"`
		}{},
	} {
		if raw, err := json.Marshal(in); err != nil || string(raw) != want {
			t.Errorf("got %s, want %s, %v", raw, want, err)
		}
	}
}

func TestThrottleIsToldInWords(t *testing.T) {
	for _, row := range []struct {
		bits                  Throttle
		want                  []string
		power, heat, hardware bool
	}{
		{0, []string{}, false, false, false},
		{1, []string{"gpu_idle"}, false, false, false},
		{4 | 32, []string{"sw_power_cap", "sw_thermal_slowdown"}, true, true, false},
		{8 | 64, []string{"hw_slowdown", "hw_thermal_slowdown"}, false, true, true},
		{128 | 1<<40, []string{"hw_power_brake_slowdown", "bit_40"}, true, false, true},
	} {
		raw, err := json.Marshal(Known(row.bits))
		want, _ := json.Marshal(row.want)
		if err != nil || string(raw) != string(want) || !slices.Equal(row.bits.Reasons(), row.want) {
			t.Errorf("%b is %s, want %s, %v", row.bits, raw, want, err)
		}
		if row.bits.ByPower() != row.power || row.bits.ByHeat() != row.heat || row.bits.ByHardware() != row.hardware {
			t.Errorf("%b: power %v, heat %v, hardware %v", row.bits, row.bits.ByPower(), row.bits.ByHeat(), row.bits.ByHardware())
		}
	}
}

func TestFieldIsReadAsTheTypeThatItHas(t *testing.T) {
	bits := func(width int, v uint64) (raw [8]byte) {
		for i := range raw {
			raw[i] = 0xaa // what the driver leaves in the rest of the union
		}
		switch width {
		case 2:
			binary.NativeEndian.PutUint16(raw[:], uint16(v))
		case 4:
			binary.NativeEndian.PutUint32(raw[:], uint32(v))
		default:
			binary.NativeEndian.PutUint64(raw[:], v)
		}
		return raw
	}
	minusOne := ^uint64(0)
	for _, row := range []struct {
		kind  gonvml.ValueType
		value [8]byte
		want  Reading[uint64]
	}{
		{gonvml.VALUE_TYPE_UNSIGNED_INT, bits(4, 44), Known[uint64](44)},
		{gonvml.VALUE_TYPE_UNSIGNED_LONG, bits(8, 1<<40), Known[uint64](1 << 40)},
		{gonvml.VALUE_TYPE_UNSIGNED_LONG_LONG, bits(8, 1<<63), Known[uint64](1 << 63)},
		{gonvml.VALUE_TYPE_UNSIGNED_SHORT, bits(2, 7), Known[uint64](7)},
		{gonvml.VALUE_TYPE_SIGNED_INT, bits(4, 44), Known[uint64](44)},
		{gonvml.VALUE_TYPE_SIGNED_INT, bits(4, minusOne), Reading[uint64]{}},
		{gonvml.VALUE_TYPE_SIGNED_LONG_LONG, bits(8, minusOne), Reading[uint64]{}},
		{gonvml.VALUE_TYPE_DOUBLE, bits(8, math.Float64bits(3.9)), Known[uint64](3)},
		{gonvml.VALUE_TYPE_DOUBLE, bits(8, math.Float64bits(math.NaN())), Reading[uint64]{}},
		{gonvml.VALUE_TYPE_DOUBLE, bits(8, math.Float64bits(1e30)), Reading[uint64]{}},
		{gonvml.VALUE_TYPE_COUNT, bits(8, 1), Reading[uint64]{}},
	} {
		r := &reader{}
		v := gonvml.FieldValue{ValueType: uint32(row.kind), Value: row.value}
		if got := r.field(v); got != row.want {
			t.Errorf("type %d, %x: got %+v, want %+v", row.kind, row.value, got, row.want)
		}
		v.NvmlReturn = uint32(gonvml.ERROR_NOT_SUPPORTED)
		if got := r.field(v); !got.IsZero() {
			t.Errorf("type %d: a field that failed gives %+v", row.kind, got)
		}
	}
}

// listing is a device with processes.
type listing struct {
	gonvml.Device
	compute, graphics []gonvml.ProcessInfo
}

func (l listing) GetComputeRunningProcesses() ([]gonvml.ProcessInfo, gonvml.Return) {
	return l.compute, gonvml.SUCCESS
}

func (l listing) GetGraphicsRunningProcesses() ([]gonvml.ProcessInfo, gonvml.Return) {
	return l.graphics, gonvml.SUCCESS
}

func TestProcessIsListedOnceWithAllItsMemory(t *testing.T) {
	r := &reader{can: symbols{"nvmlDeviceGetComputeRunningProcesses": true, "nvmlDeviceGetGraphicsRunningProcesses": true}}
	info := func(pid uint32, bytes uint64, gi uint32) gonvml.ProcessInfo {
		return gonvml.ProcessInfo{Pid: pid, UsedGpuMemory: bytes, GpuInstanceId: gi}
	}
	got := r.processes(listing{
		compute:  []gonvml.ProcessInfo{info(9, 100, 1), info(9, 50, 2), info(3, 7, 0), info(4, notAvailable, 0), info(5, notAvailable, 0), info(5, 8, 1)},
		graphics: []gonvml.ProcessInfo{info(3, 7, 0), info(2, 1, 0)},
	})
	want := []ProcessUse{
		{PID: 2, MemoryBytes: Known[uint64](1)}, {PID: 3, MemoryBytes: Known[uint64](7)}, {PID: 4}, {PID: 5}, {PID: 9, MemoryBytes: Known[uint64](150)},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var many []gonvml.ProcessInfo
	for pid := range uint32(maxProcesses + 10) {
		many = append(many, info(pid, 1, 0))
	}
	if got := r.processes(listing{compute: many}); len(got) != maxProcesses {
		t.Errorf("%d processes", len(got))
	}
}
