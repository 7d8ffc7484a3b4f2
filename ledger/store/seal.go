package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrDamaged says that the file does not hold what was written to it: a torn or
// overwritten page, a file cut short, a failing disk. Nothing read from such a
// record is given to anybody.
var ErrDamaged = errors.New("the database file is damaged: stop EcoLink, check the disk, and restore the newest backup with `ecolink restore`")

// sealBytes is what a record's checksum takes.
const sealBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends a checksum over the bucket, the key and the value. bbolt has none
// for its pages: without this a flipped bit in a balance would be a balance.
func seal(bucket string, key, value []byte) []byte {
	out := make([]byte, 0, len(value)+sealBytes)
	out = append(out, value...)
	return binary.LittleEndian.AppendUint32(out, checksum(bucket, key, value))
}

// unseal checks a record and gives its value, without a copy.
func unseal(bucket string, key, sealed []byte) ([]byte, error) {
	n := len(sealed) - sealBytes
	if n < 0 || checksum(bucket, key, sealed[:n]) != binary.LittleEndian.Uint32(sealed[n:]) {
		return nil, fmt.Errorf("%s %x does not match its checksum: %w", bucket, key, ErrDamaged)
	}
	return sealed[:n:n], nil
}

func checksum(bucket string, key, value []byte) uint32 {
	var name [64]byte
	sum := crc32.Update(0, castagnoli, name[:copy(name[:], bucket)])
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}
