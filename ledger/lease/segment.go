package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A segment is a file of the log: a header and records with rising numbers.
const (
	segmentMagic  = "ecoleas1"
	segmentSuffix = ".charges"
	headerBytes   = len(segmentMagic) + 3*16 + 4
	bootIDPath    = "/proc/sys/kernel/random/boot_id"
)

// header says whose records they are, and since when the kernel that wrote them runs.
type header struct{ id, epoch, boot logID }

func (h header) append(out []byte) []byte {
	start := len(out)
	out = append(out, segmentMagic...)
	out = append(out, h.id[:]...)
	out = append(out, h.epoch[:]...)
	out = append(out, h.boot[:]...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out[start:], castagnoli))
}

func decodeHeader(raw []byte) (h header, ok bool) {
	if len(raw) < headerBytes || string(raw[:len(segmentMagic)]) != segmentMagic {
		return h, false
	}
	sum := binary.LittleEndian.Uint32(raw[headerBytes-4:])
	rest := raw[len(segmentMagic):]
	copy(h.id[:], rest)
	copy(h.epoch[:], rest[16:])
	copy(h.boot[:], rest[32:])
	return h, sum == crc32.Checksum(raw[:headerBytes-4], castagnoli)
}

// bootID names the running kernel.
func bootID() (id logID, err error) {
	raw, err := os.ReadFile(bootIDPath)
	if err != nil {
		return id, fmt.Errorf("which boot this is: %w", err)
	}
	err = id.UnmarshalText([]byte(strings.ReplaceAll(strings.TrimSpace(string(raw)), "-", "")))
	return id, err
}

// segment is what a file has.
type segment struct {
	path string
	header
	empty   bool // it ends within its header: nothing was ever in it
	records []record
	last    int64 // the number of its last record
	gap     bool  // something between is not what was written
	torn    bool  // the end is not whole
}

// segmentName is the name of the file whose first record has the number.
func segmentName(first int64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

// segmentPaths lists the files of a log, oldest first.
func segmentPaths(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) && !e.IsDir() {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// readSegment reads a file, as far as it is what was written. newest tells that
// there is none after it: only there, an end may be torn by the death of a process.
func readSegment(path string, boot logID, newest bool) (s segment, err error) {
	s.path = path
	info, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if info.Size() > maxSegmentBytes {
		return s, &DamagedError{Path: path, Offset: maxSegmentBytes, What: "it is larger than any segment"}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	damaged := func(at int, what string) error { return &DamagedError{Path: path, Offset: int64(at), What: what} }
	var ok bool
	if s.header, ok = decodeHeader(raw); !ok {
		if len(raw) < headerBytes || blank(raw) {
			s.empty = true
			return s, nil
		}
		return s, damaged(0, "it has no valid header")
	}
	return s, s.read(raw, s.boot == boot, newest, damaged)
}

// read takes the records from raw. strict is when only the end may be torn.
func (s *segment) read(raw []byte, strict, newest bool, damaged func(int, string) error) error {
	seed := s.epoch.seed()
	for at := headerBytes; at < len(raw); {
		size, number, whole, good := frame(raw[at:], seed)
		if whole && good && number > s.last {
			r, err := decodeBody(raw[at+frameBytes : at+size])
			if err != nil {
				return damaged(at, fmt.Sprintf("record %d: %v", number, err))
			}
			r.number, s.last = number, number
			s.records = append(s.records, r)
			at += size
			continue
		}
		next := resync(raw, seed, at+1, s.last)
		switch {
		case strict && next < len(raw):
			return damaged(at, fmt.Sprintf("there is no valid record after number %d, and more behind", s.last))
		case strict && (whole || !newest):
			return damaged(at, fmt.Sprintf("the record after number %d is not what was written", s.last))
		case next == len(raw):
			s.torn = true
		default:
			s.gap = true
		}
		at = next
	}
	return nil
}

// resync finds the next valid record at or after an offset; len(raw) when there is
// none. Its number must be near the last one's: that rules nearly every offset out
// before a checksum is made.
func resync(raw []byte, seed uint32, from int, last int64) int {
	for at := from; at+frameBytes <= len(raw); at++ {
		number := int64(binary.LittleEndian.Uint64(raw[at+8:]))
		if number <= last || number-last > maxSegmentBytes/frameBytes && last > 0 {
			continue
		}
		if _, _, whole, good := frame(raw[at:], seed); whole && good {
			return at
		}
	}
	return len(raw)
}

// blank tells whether there are only zeros: a file whose data never reached the disk.
func blank(raw []byte) bool {
	return !slices.ContainsFunc(raw, func(b byte) bool { return b != 0 })
}
