package usage

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// A tally on disk: a version, its total, and for each dimension the names with
// their sums, in the names' order, and the others. A sum is a byte that says
// which of its numbers follow, and those.
const tallyVersion = 1

var errMalformed = errors.New("malformed")

var tallies = store.Codec[tally]{Encode: encodeTally, Decode: decodeTally}

func encodeTally(t tally) ([]byte, error) {
	out := make([]byte, 0, 64+48*t.names())
	out = append(out, tallyVersion)
	out = appendSum(out, t.total)
	for d := range t.parts {
		p := &t.parts[d]
		out = binary.AppendUvarint(out, uint64(len(p.named)))
		for _, name := range slices.Sorted(maps.Keys(p.named)) {
			out = binary.AppendUvarint(out, uint64(len(name)))
			out = append(out, name...)
			out = appendSum(out, p.named[name])
		}
		out = appendSum(out, p.others)
	}
	return out, nil
}

func appendSum(out []byte, s Sum) []byte {
	present, at := byte(0), len(out)
	out = append(out, 0)
	if s.Amount != 0 {
		present = 1
		out = binary.AppendVarint(out, int64(s.Amount))
	}
	for n, v := range s.numbers() {
		if *v != 0 {
			present |= 2 << n
			out = binary.AppendVarint(out, *v)
		}
	}
	out[at] = present
	return out
}

// totals reads a tally's total, which lies in front of all names. It never writes.
var totals = store.Codec[Sum]{
	Encode: func(Sum) ([]byte, error) { return nil, errors.ErrUnsupported },
	Decode: func(raw []byte) (Sum, error) {
		r := reader{raw: raw}
		if r.byte() != tallyVersion {
			r.fail()
		}
		s := r.sum()
		return s, r.err
	},
}

func decodeTally(raw []byte) (t tally, err error) {
	r := reader{raw: raw}
	if r.byte() != tallyVersion {
		r.fail()
	}
	t.total = r.sum()
	for d := range t.parts {
		count := r.uvarint()
		if count > uint64(len(r.raw)) {
			r.fail()
			break
		}
		if count > 0 {
			t.parts[d].named = make(map[string]Sum, count)
		}
		for range count {
			name := r.text()
			t.parts[d].named[name] = r.sum()
		}
		t.parts[d].others = r.sum()
	}
	if r.err == nil && len(r.raw) != 0 {
		r.fail()
	}
	return t, r.err
}

// reader takes values from the front of bytes that may be damaged. After the
// first failure it gives zeros.
type reader struct {
	raw []byte
	err error
}

func (r *reader) fail() { r.err, r.raw = errMalformed, nil }

func (r *reader) byte() byte {
	if len(r.raw) == 0 {
		r.fail()
		return 0
	}
	b := r.raw[0]
	r.raw = r.raw[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.raw)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.raw = r.raw[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.raw)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.raw = r.raw[n:]
	return v
}

func (r *reader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.raw)) {
		r.fail()
		return ""
	}
	s := string(r.raw[:n])
	r.raw = r.raw[n:]
	return s
}

func (r *reader) sum() (s Sum) {
	present := r.byte()
	if present&1 != 0 {
		s.Amount = ledger.MicroUSD(r.varint())
	}
	for n, v := range s.numbers() {
		if present&(2<<n) != 0 {
			*v = r.varint()
		}
	}
	return s
}
