package store

import (
	"encoding/binary"
	"math"
)

// Pair is a two-part key, ordered by A, then B: an index such as account → resource.
type Pair struct{ A, B int64 }

type keyCodec[K any] struct {
	encode func(K) []byte
	decode func([]byte) K
}

func intKeys[K ~int64]() keyCodec[K] {
	return keyCodec[K]{
		encode: func(k K) []byte { return encodeInt64(int64(k)) },
		decode: func(b []byte) K { return K(decodeInt64(b)) },
	}
}

func stringKeys[K ~string]() keyCodec[K] {
	return keyCodec[K]{
		encode: func(k K) []byte { return []byte(k) },
		decode: func(b []byte) K { return K(b) },
	}
}

func pairKeys() keyCodec[Pair] { return keyCodec[Pair]{encode: encodePair, decode: decodePair} }

// Keys are big-endian with the sign bit flipped, so that bbolt's byte order is
// the numbers' order.
func encodeInt64(n int64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(n)^(1<<63))
}

// decodeInt64 gives 0 for what is no number: a damaged key finds nothing.
func decodeInt64(b []byte) int64 {
	if len(b) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63))
}

func encodePair(p Pair) []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(p.A)^(1<<63))
	return binary.BigEndian.AppendUint64(out, uint64(p.B)^(1<<63))
}

func decodePair(b []byte) Pair {
	if len(b) != 16 {
		return Pair{}
	}
	return Pair{A: decodeInt64(b[:8]), B: decodeInt64(b[8:])}
}

// First and Last bound a scan of all pairs that share A.
func First(a int64) Pair { return Pair{A: a, B: math.MinInt64} }

// Last is the greatest pair with the given A.
func Last(a int64) Pair { return Pair{A: a, B: math.MaxInt64} }
