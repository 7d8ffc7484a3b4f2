package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
)

// A record of the log is a frame and a body:
//
//	4 bytes  length of the body
//	4 bytes  CRC32C of the epoch, the body and the number
//	8 bytes  number
//	body     see appendBody
//
// all little-endian. The epoch is in the sum so that a record belongs to its
// log, and so that nobody can pass off a text in a record as another record:
// it is random, and no client knows it.
const frameBytes = 16

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errMalformed = errors.New("malformed record")

// record is a charge on its way to the journal.
type record struct {
	number int64
	lease  int64 // the account's, that the money was reserved in
	entry  ledger.Entry

	// Of a record that this process has made:
	from   *lease
	key    *keySpend // nil when the request had no key
	queued time.Time
	// wait hears when it has been folded. It is there only while the log does not
	// have the record.
	wait chan error
}

// quantities are the numbers of a usage in their order in a body.
func quantities(u *ledger.Usage) [7]*int64 {
	return [...]*int64{&u.InputTokens, &u.OutputTokens, &u.Images, &u.AudioMillis, &u.VideoMillis, &u.Seconds, &u.Bytes}
}

// checkEntry refuses what the journal would refuse, before it is in the log.
func checkEntry(e *ledger.Entry) error {
	if e.Amount < 0 || e.Amount > maxAmount {
		return fmt.Errorf("charge of $%s for request %s: %w", e.Amount, e.RequestID, ErrEstimate)
	}
	for _, word := range [...]struct{ name, text string }{
		{"resource", e.Resource}, {"request id", e.RequestID}, {"source tag", e.Tag}, {"model", e.Usage.Model},
	} {
		if len(word.text) > maxWordBytes {
			return tooLong(word.name, maxWordBytes)
		}
	}
	for _, q := range quantities(&e.Usage) {
		if *q < 0 {
			return fmt.Errorf("charge for request %s: %w", e.RequestID, ErrQuantity)
		}
	}
	if len(e.Description) > maxDescriptionBytes {
		e.Description = strings.ToValidUTF8(e.Description[:maxDescriptionBytes], "")
	}
	return nil
}

// appendBody writes what a record says, without its number.
func appendBody(out []byte, r *record) []byte {
	e := &r.entry
	out = binary.AppendUvarint(out, uint64(r.lease))
	out = binary.AppendUvarint(out, uint64(e.Account))
	out = binary.AppendUvarint(out, uint64(e.APIKey))
	out = binary.AppendUvarint(out, uint64(e.Amount))
	out = binary.AppendVarint(out, e.At.UnixNano())
	for _, s := range [...]string{e.RequestID, e.Resource, e.Tag, e.Usage.Model, e.Description} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	for _, q := range quantities(&e.Usage) {
		out = binary.AppendUvarint(out, uint64(*q))
	}
	return out
}

// seed is the CRC32C of the epoch, which bodies' sums go on from.
func (id logID) seed() uint32 { return crc32.Checksum(id[:], castagnoli) }

// sumOf is what appendFramed takes.
func sumOf(epoch logID, body []byte) uint32 { return crc32.Update(epoch.seed(), castagnoli, body) }

// appendFramed writes a body as the record with the number. sum is the CRC32C of
// the epoch and the body.
func appendFramed(out, body []byte, sum uint32, number int64) []byte {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(number))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Update(sum, castagnoli, n[:]))
	out = append(out, n[:]...)
	return append(out, body...)
}

// frame says what the record at the front of raw should be, if there is one:
// how long it is with its frame, and its number. whole is false when raw ends
// before the record does; good, when it is not what was written.
func frame(raw []byte, seed uint32) (size int, number int64, whole, good bool) {
	if len(raw) < frameBytes {
		return 0, 0, false, true
	}
	length := binary.LittleEndian.Uint32(raw)
	number = int64(binary.LittleEndian.Uint64(raw[8:]))
	if length == 0 || length > maxBodyBytes || number <= 0 {
		return 0, number, true, false
	}
	size = frameBytes + int(length)
	if size > len(raw) {
		return size, number, false, true
	}
	sum := crc32.Update(crc32.Update(seed, castagnoli, raw[frameBytes:size]), castagnoli, raw[8:16])
	return size, number, true, sum == binary.LittleEndian.Uint32(raw[4:])
}

// decodeBody reads all of what appendBody wrote.
func decodeBody(raw []byte) (r record, err error) {
	e, d := &r.entry, decoder{raw: raw}
	r.lease = d.number()
	e.Account = identity.AccountID(d.number())
	e.APIKey = identity.KeyID(d.number())
	e.Amount = ledger.MicroUSD(d.number())
	at, n := binary.Varint(d.raw)
	d.skip(n)
	e.At = time.Unix(0, at).UTC()
	for _, s := range [...]*string{&e.RequestID, &e.Resource, &e.Tag, &e.Usage.Model, &e.Description} {
		*s = d.text()
	}
	for _, q := range quantities(&e.Usage) {
		*q = d.number()
	}
	if d.bad || len(d.raw) != 0 || r.lease == 0 || e.Account == 0 || e.Amount == 0 || len(e.Description) > maxDescriptionBytes {
		return record{}, errMalformed
	}
	return r, checkEntry(e)
}

// decoder takes values from the front of bytes. After the first that is not there
// it gives zeros.
type decoder struct {
	raw []byte
	bad bool
}

func (d *decoder) skip(n int) {
	if n <= 0 || n > len(d.raw) {
		d.bad, n = true, len(d.raw)
	}
	d.raw = d.raw[n:]
}

// number reads one that is not negative.
func (d *decoder) number() int64 {
	v, n := binary.Uvarint(d.raw)
	d.skip(n)
	if d.bad || v > 1<<63-1 {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *decoder) text() string {
	n := d.number()
	if d.bad || n > int64(len(d.raw)) {
		d.bad = true
		return ""
	}
	s := string(d.raw[:n])
	d.raw = d.raw[n:]
	return s
}
