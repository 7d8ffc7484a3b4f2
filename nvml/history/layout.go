package history

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// A file is a header, then the seconds, then the minutes.
//
//	header, 4096 bytes:  magic 8 | figures 8, a bit for each | checksum 4 | zeros
//	second:              checksum 4 | time 8 | known 8, a bit for each figure | value 4 for each figure of the file
//	minute:              checksum 4 | time 8 | for each figure of the file: points 1 | mean 4 | max 4
//
// Numbers are little-endian, times seconds since 1970, values IEEE 754. A
// checksum is CRC-32C of what follows it in the record; the header's is of what
// precedes it. Zeros are no valid record, so a hole is a gap.
const (
	headerBytes     = 4096
	magic           = "EcoGPU\x00\x01" // with the version of the format
	fineFixedBytes  = 4 + 8 + 8
	finePerFigure   = 4
	coarseFixed     = 4 + 8
	coarsePerFigure = 1 + 4 + 4
)

// layout says which figures a file has room for.
type layout struct {
	figures uint64 // a bit for each
}

func (l layout) count() int64       { return int64(bits.OnesCount64(l.figures)) }
func (l layout) fineBytes() int64   { return fineFixedBytes + finePerFigure*l.count() }
func (l layout) coarseBytes() int64 { return coarseFixed + coarsePerFigure*l.count() }
func (l layout) coarseAt() int64    { return headerBytes + FineSeconds*l.fineBytes() }
func (l layout) fileBytes() int64   { return l.coarseAt() + CoarseMinutes*l.coarseBytes() }

// has reports whether there is room for all of these figures.
func (l layout) has(known uint64) bool { return known&^l.figures == 0 }

func (l layout) header() []byte {
	out := make([]byte, headerBytes)
	copy(out, magic)
	binary.LittleEndian.PutUint64(out[8:], l.figures)
	binary.LittleEndian.PutUint32(out[16:], checksum(out[:16]))
	return out
}

func parseHeader(raw []byte) (layout, error) {
	switch {
	case len(raw) < headerBytes:
		return layout{}, fmt.Errorf("it has %d bytes, fewer than its header", len(raw))
	case string(raw[:8]) != magic:
		return layout{}, fmt.Errorf("it begins with %q", raw[:8])
	case binary.LittleEndian.Uint32(raw[16:]) != checksum(raw[:16]):
		return layout{}, fmt.Errorf("the checksum of its header is wrong")
	case len(bytes.Trim(raw[20:headerBytes], "\x00")) > 0:
		return layout{}, fmt.Errorf("its header is written over")
	}
	return layout{binary.LittleEndian.Uint64(raw[8:])}, nil
}

// checksum is CRC-32C. MakeTable gives one table that the standard library keeps.
func checksum(raw []byte) uint32 {
	return crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
}
