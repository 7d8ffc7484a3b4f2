package store

import (
	"encoding/binary"
	"math"
)

// Pair is a two-part key, ordered by A, then B: an index such as account → resource.
type Pair struct{ A, B int64 }

// Keys are big-endian with the sign bit flipped, so that bbolt's byte order is
// the numbers' order.
func encodeInt64(n int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(n)^(1<<63))
}

func decodeInt64(b []byte) int64 {
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63))
}

func encodePair(p Pair) []byte {
	return append(encodeInt64(p.A), encodeInt64(p.B)...)
}

func decodePair(b []byte) Pair {
	return Pair{A: decodeInt64(b[:8]), B: decodeInt64(b[8:])}
}

// First and Last bound a scan of all pairs that share A.
func First(a int64) Pair { return Pair{A: a, B: math.MinInt64} }

// Last is the greatest pair with the given A.
func Last(a int64) Pair { return Pair{A: a, B: math.MaxInt64} }
