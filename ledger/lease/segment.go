package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A segment is a file of the log: records with rising numbers, and nothing else.
// Which epoch it belongs to is in its name and, with the kernel's boot that wrote
// it, in the database: a power cut can take any part of a file's contents.
const (
	segmentSuffix = ".charges"
	bootIDPath    = "/proc/sys/kernel/random/boot_id"
)

// segmentName is the name of the file whose first record has the number.
func segmentName(first int64, epoch logID) string {
	return fmt.Sprintf("%016x-%s%s", first, epoch, segmentSuffix)
}

// parseName gives what segmentName was given.
func parseName(path string) (first int64, epoch logID, ok bool) {
	number, id, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), segmentSuffix), "-")
	first, err := strconv.ParseInt(number, 16, 64)
	if err != nil || first <= 0 || epoch.UnmarshalText([]byte(id)) != nil {
		return 0, logID{}, false
	}
	return first, epoch, true
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
	path    string
	records []record
	last    int64 // the number of its last record; the one before its first when it has none
	gap     bool  // something between is not what was written
	torn    bool  // the end is not whole
}

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

// segmentsOf lists those of an epoch.
func segmentsOf(paths []string, epoch logID) (out []string) {
	for _, path := range paths {
		if _, id, ok := parseName(path); ok && id == epoch && epoch != (logID{}) {
			out = append(out, path)
		}
	}
	return out
}

// mode is how much of what a segment should have may be missing.
type mode int

const (
	whole   mode = iota // nothing
	tornEnd             // its end, by the death of the process that wrote it
	gaps                // anything, by a power cut
)

// modeOf gives the mode of the nth of an epoch's segments. sameBoot tells that the
// kernel which wrote them still runs.
func modeOf(n, segments int, sameBoot bool) mode {
	switch {
	case !sameBoot:
		return gaps
	case n == segments-1:
		return tornEnd
	}
	return whole
}

// readSegment reads a file of an epoch, as far as it is what was written.
func readSegment(path string, m mode) (s segment, err error) {
	s.path = path
	first, epoch, _ := parseName(path)
	s.last = first - 1
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
	return s, s.read(raw, epoch.seed(), m)
}

// read takes the records from raw.
func (s *segment) read(raw []byte, seed uint32, m mode) error {
	damaged := func(at int, what string) error { return &DamagedError{Path: s.path, Offset: int64(at), What: what} }
	for at := 0; at < len(raw); {
		size, number, complete, good := frame(raw[at:], seed)
		if complete && good && number > s.last {
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
		case m != gaps && next < len(raw):
			return damaged(at, fmt.Sprintf("there is no valid record after number %d, and more behind", s.last))
		case m != gaps && (complete || m == whole):
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
		if number <= last || number-last > maxSegmentBytes/frameBytes {
			continue
		}
		if _, _, complete, good := frame(raw[at:], seed); complete && good {
			return at
		}
	}
	return len(raw)
}
