package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// blockBytes is what a reader takes from a file at once. It holds any record,
// so a block without a newline is no record of ours.
const blockBytes = 64 << 10

// snapshot holds the files of a log open, oldest first, as they were at one
// moment; that they are held open keeps them readable after they rotate away.
type snapshot []*os.File

// snapshotTries bounds how often a snapshot is taken again because the whole
// log turned over in between. Each try takes some hundred microseconds at most.
const snapshotTries = 20

// openSnapshot opens what is there; nothing is a valid log. The numbers may
// have holes.
//
// A rotation meanwhile could make a newer file appear under an older one's
// number, so the snapshot counts only if its newest file is still there: then
// the search has met it on its way up, and everything behind it is older.
func openSnapshot(dir string) (snapshot, error) {
	for try := 1; ; try++ {
		newestFirst, err := openNewestFirst(dir)
		if err != nil {
			return nil, err
		}
		if newestFirst.settled(dir) {
			slices.Reverse(newestFirst)
			return newestFirst, nil
		}
		if try == snapshotTries {
			if len(newestFirst) > 1 { // of which nobody knows the order
				newestFirst[1:].close()
				newestFirst = newestFirst[:1]
			}
			return newestFirst, nil
		}
		newestFirst.close()
	}
}

// openNewestFirst goes from the newest to the oldest: a file that moves, moves
// to where we have not looked yet. When it is met again there, it is dropped,
// and so is what was met in between, which is either newer or about to be met
// again.
func openNewestFirst(dir string) (snapshot, error) {
	var found snapshot
	for n := range maxFiles + 1 {
		f, err := os.Open(path(dir, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			found.close()
			return nil, err
		}
		if i := found.index(f); i >= 0 {
			_ = f.Close()
			found[i+1:].close()
			found = found[:i+1]
			continue
		}
		found = append(found, f)
	}
	return found, nil
}

// settled reports whether the first file has not been deleted, or that there
// is none.
func (s snapshot) settled(dir string) bool {
	if len(s) == 0 {
		_, err := os.Stat(path(dir, 0))
		return err != nil
	}
	var info unix.Stat_t
	err := unix.Fstat(int(s[0].Fd()), &info)
	return err == nil && info.Nlink > 0
}

func (s snapshot) close() {
	for _, f := range s {
		_ = f.Close() // opened for reading: nothing can be lost
	}
}

// index returns the place of the file that f also is, or -1. It holds as long
// as both are open: a number of an inode that is in use is not given away.
func (s snapshot) index(f *os.File) int {
	info, err := f.Stat()
	if err != nil {
		return -1
	}
	for i, other := range s {
		if otherInfo, err := other.Stat(); err == nil && os.SameFile(info, otherInfo) {
			return i
		}
	}
	return -1
}

// tail returns where the last n records begin: a file's index and the offset
// in it. It reads backwards, so its cost depends on n and not on the log. An
// unreadable line counts as a record.
func (s snapshot) tail(n int) (file int, offset int64, err error) {
	for file = len(s) - 1; file >= 0; file-- {
		offset, n, err = tailOf(s[file], n)
		if err != nil || n == 0 {
			return file, offset, err
		}
	}
	return 0, 0, nil
}

// tailOf looks for the beginning of the last n records of one file, and returns
// it with the number of records that are to come from older files.
func tailOf(f *os.File, n int) (offset int64, missing int, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	block := make([]byte, blockBytes)
	offset = info.Size()
	newlines := 0
	for offset > 0 {
		size := min(offset, blockBytes)
		offset -= size
		if _, err := f.ReadAt(block[:size], offset); err != nil && err != io.EOF {
			return 0, 0, err
		}
		// The newline that ends the record before the nth last is the one
		// behind which we begin.
		for i := size; i > 0; i-- {
			if block[i-1] != '\n' {
				continue
			}
			if newlines == n {
				return offset + i, 0, nil
			}
			newlines++
		}
	}
	return 0, n - newlines, nil
}

// cursor delivers a file's records from an offset on.
//
// It keeps no half record between calls but reads it again from its first byte:
// the writer takes a torn end back when a write fails.
type cursor struct {
	file   *os.File
	offset int64 // of the first byte of a record
	since  time.Time
	block  []byte
}

// deliver calls each for every whole record between the cursor and the end of
// the file, and says whether it moved. each's error ends it and is returned as
// it is; that record counts as delivered.
func (c *cursor) deliver(each func(Line) error) (moved bool, err error) {
	for {
		n, err := c.file.ReadAt(c.block, c.offset)
		if err != nil && err != io.EOF {
			return moved, fmt.Errorf("read log: %w", err)
		}
		block := c.block[:n]
		whole := bytes.LastIndexByte(block, '\n') + 1
		if whole == 0 && n == len(c.block) {
			whole = n // foreign bytes
		}
		if whole == 0 {
			c.rewindIfCut()
			return moved, nil
		}
		moved = true
		for rest := block[:whole]; len(rest) > 0; {
			record, _, _ := bytes.Cut(rest, []byte{'\n'})
			consumed := min(len(record)+1, len(rest))
			rest = rest[consumed:]
			c.offset += int64(consumed)
			line, ok := parse(record)
			if !ok || line.Time.Before(c.since) {
				continue
			}
			if err := each(line); err != nil {
				return moved, err
			}
		}
		if n < len(c.block) {
			return moved, nil
		}
	}
}

// rewindIfCut goes to the beginning when somebody emptied the file by hand;
// the writer itself never takes a whole record back.
func (c *cursor) rewindIfCut() {
	if info, err := c.file.Stat(); err == nil && info.Size() < c.offset {
		c.offset = 0
	}
}
