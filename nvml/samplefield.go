package nvml

import (
	"encoding/binary"
	"math"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// fieldMeter reads what NVML gives as fields: the memory's temperature and the
// NVLink counters, all in one call.
type fieldMeter struct {
	links    []linkField // those that this GPU has
	untilTry int         // samples until a GPU without links is asked for them again

	at     time.Time // of the last counters; zero: there are none
	rx, tx uint64
}

// linkField is a counter of NVLink's payload.
type linkField struct {
	id, scope uint32
	unitBytes uint64
	received  bool
}

// linkFields are the ways to count, in the order in which they are preferred: a
// sum of all links, and, of NVLink 5, each link by itself.
func linkFields() [][]linkField {
	const all = math.MaxUint32 // nvml.h: summed up across all links
	sums := []linkField{
		{gonvml.FI_DEV_NVLINK_THROUGHPUT_DATA_RX, all, 1 << 10, true},
		{gonvml.FI_DEV_NVLINK_THROUGHPUT_DATA_TX, all, 1 << 10, false},
	}
	var each []linkField
	for link := range uint32(gonvml.NVLINK_MAX_LINKS) {
		each = append(each,
			linkField{gonvml.FI_DEV_NVLINK_COUNT_RCV_BYTES, link, 1, true},
			linkField{gonvml.FI_DEV_NVLINK_COUNT_XMIT_BYTES, link, 1, false})
	}
	return [][]linkField{sums, each}
}

func (m *fieldMeter) read(r *reader, d gonvml.Device, s *Sample) {
	if !r.knows("nvmlDeviceGetFieldValues") {
		return
	}
	m.findLinks(r, d)
	values := make([]gonvml.FieldValue, 1, 1+len(m.links))
	values[0].FieldId = gonvml.FI_DEV_MEMORY_TEMP
	for _, f := range m.links {
		values = append(values, gonvml.FieldValue{FieldId: f.id, ScopeId: f.scope})
	}
	if code := d.GetFieldValues(values); !r.ok(code) {
		m.at = time.Time{}
		return
	}
	s.MemoryCelsius = r.field(values[0])
	m.rates(r, values[1:], s)
}

// findLinks learns which counters the GPU has, and asks one that has none again
// now and then: its links may come up later.
func (m *fieldMeter) findLinks(r *reader, d gonvml.Device) {
	if len(m.links) > 0 {
		return
	}
	if m.untilTry > 0 {
		m.untilTry--
		return
	}
	m.untilTry = linkTryEvery
	for _, fields := range linkFields() {
		values := make([]gonvml.FieldValue, 0, len(fields))
		for _, f := range fields {
			values = append(values, gonvml.FieldValue{FieldId: f.id, ScopeId: f.scope})
		}
		if code := d.GetFieldValues(values); !r.ok(code) {
			continue
		}
		for i, v := range values {
			if !r.field(v).IsZero() {
				m.links = append(m.links, fields[i])
			}
		}
		if len(m.links) > 0 {
			return
		}
	}
}

// rates come from the difference to the counters of the sample before. A counter
// that went back, or is gone, begins anew.
func (m *fieldMeter) rates(r *reader, values []gonvml.FieldValue, s *Sample) {
	now := time.Now()
	var rx, tx uint64
	for i, f := range m.links {
		count, ok := r.field(values[i]).Get()
		switch {
		case !ok:
			*m = fieldMeter{}
			return
		case f.received:
			rx += count * f.unitBytes
		default:
			tx += count * f.unitBytes
		}
	}
	if len(m.links) == 0 {
		return
	}
	seconds := now.Sub(m.at).Seconds()
	if !m.at.IsZero() && rx >= m.rx && tx >= m.tx && seconds > 0 {
		s.NVLinkRxBytesPerSecond = Known(float64(rx-m.rx) / seconds)
		s.NVLinkTxBytesPerSecond = Known(float64(tx-m.tx) / seconds)
	}
	m.at, m.rx, m.tx = now, rx, tx
}

// field decodes a value by the type that the driver says it has.
func (r *reader) field(v gonvml.FieldValue) Reading[uint64] {
	if !r.ok(gonvml.Return(v.NvmlReturn)) {
		return Reading[uint64]{}
	}
	raw := v.Value[:]
	switch gonvml.ValueType(v.ValueType) {
	case gonvml.VALUE_TYPE_UNSIGNED_INT:
		return Known(uint64(binary.NativeEndian.Uint32(raw)))
	case gonvml.VALUE_TYPE_UNSIGNED_LONG, gonvml.VALUE_TYPE_UNSIGNED_LONG_LONG:
		return Known(binary.NativeEndian.Uint64(raw))
	case gonvml.VALUE_TYPE_UNSIGNED_SHORT:
		return Known(uint64(binary.NativeEndian.Uint16(raw)))
	case gonvml.VALUE_TYPE_SIGNED_INT:
		return notNegative(float64(int32(binary.NativeEndian.Uint32(raw))))
	case gonvml.VALUE_TYPE_SIGNED_LONG_LONG:
		return notNegative(float64(int64(binary.NativeEndian.Uint64(raw))))
	case gonvml.VALUE_TYPE_DOUBLE:
		return notNegative(math.Float64frombits(binary.NativeEndian.Uint64(raw)))
	default:
		return Reading[uint64]{}
	}
}

// notNegative drops what no counter and no temperature of a GPU in use is, -1
// (NVML_VALUE_NOT_AVAILABLE) and NaN among it.
func notNegative(value float64) Reading[uint64] {
	if math.IsNaN(value) || value < 0 || value >= 1<<63 {
		return Reading[uint64]{}
	}
	return Known(uint64(value))
}
