package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"ecolink/ledger/identity"
)

// The journal's own form of a row: small, since there are many. A row is a
// version byte, numbers as varints, texts with their length before them.
const rowVersion = 1

var errMalformed = errors.New("malformed")

// appendRow writes the row without its hash.
func appendRow(out []byte, t *Transfer) []byte {
	out = append(out, rowVersion, codeOf(t.Type), byte(t.From.kind), byte(t.To.kind))
	out = binary.AppendUvarint(out, uint64(t.Seq))
	out = binary.AppendVarint(out, t.At.UnixNano())
	out = binary.AppendUvarint(out, uint64(t.Amount))
	out = binary.AppendUvarint(out, uint64(t.Account))
	out = binary.AppendVarint(out, int64(t.Available))
	out = binary.AppendVarint(out, int64(t.Held))
	out = binary.AppendUvarint(out, uint64(t.Before))
	out = binary.AppendUvarint(out, uint64(t.Hold))
	out = binary.AppendUvarint(out, uint64(t.APIKey))
	for _, s := range [...]string{t.Resource, t.RequestID, t.Key, t.Tag, t.Usage.Model, t.Description} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	quantities := t.Usage.quantities()
	var present byte
	for n, q := range quantities {
		if *q != 0 {
			present |= 1 << n
		}
	}
	out = append(out, present)
	for _, q := range quantities {
		if *q != 0 {
			out = binary.AppendVarint(out, *q)
		}
	}
	return out
}

// quantities are the numbers of a Usage in the order on disk; one may be added at
// the end, eight at most.
func (u *Usage) quantities() [7]*int64 {
	return [...]*int64{&u.InputTokens, &u.OutputTokens, &u.Images, &u.AudioMillis, &u.VideoMillis, &u.Seconds, &u.Bytes}
}

// decodeRow reads what appendRow wrote, all of it.
func decodeRow(raw []byte) (t Transfer, err error) {
	r := reader{raw: raw}
	if v := r.byte(); v != rowVersion && r.err == nil {
		return t, fmt.Errorf("row of version %d, which this EcoLink does not know", v)
	}
	if code := int(r.byte()); code >= 1 && code <= len(typeCodes) {
		t.Type = typeCodes[code-1]
	} else {
		r.fail()
	}
	from, to := bookKind(r.byte()), bookKind(r.byte())
	t.Seq = r.positive()
	t.At = time.Unix(0, r.varint()).UTC()
	t.Amount = MicroUSD(r.positive())
	t.Account = identity.AccountID(r.positive())
	t.Available = MicroUSD(r.varint())
	t.Held = MicroUSD(r.varint())
	t.Before = r.positive()
	t.Hold = HoldID(r.positive())
	t.APIKey = identity.KeyID(r.positive())
	for _, s := range [...]*string{&t.Resource, &t.RequestID, &t.Key, &t.Tag, &t.Usage.Model, &t.Description} {
		*s = r.text()
	}
	present := r.byte()
	quantities := t.Usage.quantities()
	for n, q := range quantities {
		if present&(1<<n) != 0 {
			if *q = r.varint(); *q == 0 { // which is said by its absence
				r.fail()
			}
		}
	}
	if from == noBook || to == noBook || from >= numBooks || to >= numBooks || present>>len(quantities) != 0 {
		r.fail()
	}
	t.From, t.To = bookOf(from, t.Account), bookOf(to, t.Account)
	if r.err == nil && len(r.raw) != 0 {
		r.fail()
	}
	return t, r.err
}

func bookOf(k bookKind, a identity.AccountID) Book {
	if k == bookAvailable || k == bookHeld {
		return Book{k, a}
	}
	return outside(k)
}

// reader takes values from the front of bytes that may be damaged. After the
// first failure it gives zeros.
type reader struct {
	raw []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = errMalformed
	}
	r.raw = nil
}

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
	if n <= 0 || padded(r.raw[:n]) {
		r.fail()
		return 0
	}
	r.raw = r.raw[n:]
	return v
}

// positive is a number that is never below zero.
func (r *reader) positive() int64 {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail()
		return 0
	}
	return int64(v)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.raw)
	if n <= 0 || padded(r.raw[:n]) {
		r.fail()
		return 0
	}
	r.raw = r.raw[n:]
	return v
}

// padded tells whether a varint is longer than its number needs. Nothing of ours
// writes such: a value has one form, so what is decoded encodes to the same bytes.
func padded(varint []byte) bool { return len(varint) > 1 && varint[len(varint)-1] == 0 }

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.raw)) {
		r.fail()
		return nil
	}
	b := r.raw[:n]
	r.raw = r.raw[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

func (r *reader) hash() (h Hash) {
	copy(h[:], r.bytes(uint64(len(h))))
	return h
}
