package history

import (
	"errors"
	"io"
	"os"
)

// eachSecond reads n records of the fine ring from a place on, past none of its
// ends. What found is given is its own until it returns. The lock is held.
func (r *ring) eachSecond(place, n int64, found func(*second)) error {
	size := r.layout.fineBytes()
	var s second
	return eachRecord(r.file, headerBytes, size, place, n, func(raw []byte, place int64) {
		if r.layout.decodeSecond(raw, place, &s) {
			found(&s)
		}
	})
}

// eachMinute is eachSecond for the coarse ring.
func (r *ring) eachMinute(place, n int64, found func(*minute)) error {
	size := r.layout.coarseBytes()
	var m minute
	return eachRecord(r.file, r.layout.coarseAt(), size, place, n, func(raw []byte, place int64) {
		if r.layout.decodeMinute(raw, place, &m) {
			found(&m)
		}
	})
}

// eachRecord reads records in chunks.
func eachRecord(file *os.File, base, size, place, n int64, found func(raw []byte, place int64)) error {
	buffer := make([]byte, min(n, chunkRecords)*size)
	for end := place + n; place < end; {
		part := buffer[:min(end-place, chunkRecords)*size]
		if _, err := readAt(file, part, base+place*size); err != nil {
			return err
		}
		for ; len(part) > 0; part = part[size:] {
			found(part[:size], place)
			place++
		}
	}
	return nil
}

// readAt is ReadAt to which the end of the file is no error; what lies behind it
// reads as zeros.
func readAt(file *os.File, raw []byte, at int64) (int, error) {
	n, err := file.ReadAt(raw, at)
	if errors.Is(err, io.EOF) {
		clear(raw[n:])
		err = nil
	}
	return n, err
}
