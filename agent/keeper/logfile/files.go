package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// files is the writing side of a log's folder.
//
// Invariants: current.log holds whole records, save for a torn last one after
// a power cut or a failed write, and then the next record begins on a line of
// its own; a record that was once whole on the disk is never changed; no file
// exceeds MaxBytes unless one record alone does.
type files struct {
	config Config
	now    func() time.Time

	current *os.File // nil before it is opened and after a failed rotation
	size    int64    // of current

	lostRecords, lostBytes int64
	lostTo                 error // why, as of the last loss
}

// write appends whole records, or counts those that could not be written. It
// reports no error: there is nobody to tell but the log itself. Earlier losses
// are noted first, at their place in the log.
func (w *files) write(records []byte) {
	if err := w.noteLosses(); err != nil {
		w.lose(records, err)
		return
	}
	if n, err := w.append(records); err != nil {
		w.lose(records[n:], err)
	}
}

func (w *files) lose(records []byte, err error) {
	w.lostRecords += int64(bytes.Count(records, []byte{'\n'}))
	w.lostBytes += int64(len(records))
	w.lostTo = err
}

// noteLosses writes how much was lost, and forgets it when that succeeds.
func (w *files) noteLosses() error {
	if w.lostRecords == 0 {
		return nil
	}
	text := fmt.Sprintf("ecolink: %d log records (%d bytes) are missing here, they could not be written: %v",
		w.lostRecords, w.lostBytes, w.lostTo)
	text = strings.ReplaceAll(text, "\n", " ") // the error may name any path
	note := appendRecord(nil, appendStamp(nil, w.now()), Stderr, []byte(text), false)
	if _, err := w.append(note); err != nil {
		return err
	}
	w.lostRecords, w.lostBytes, w.lostTo = 0, 0, nil
	return nil
}

// append writes whole records, rotating where needed. On an error, n says how
// many bytes, always whole records, are in the log.
func (w *files) append(records []byte) (n int, err error) {
	for n < len(records) {
		if err := w.open(); err != nil {
			return n, err
		}
		fit := wholeRecords(records[n:], w.config.MaxBytes-w.size)
		if fit == 0 && w.size > 0 {
			if err := w.rotate(); err != nil {
				return n, err
			}
			continue
		}
		if fit == 0 { // longer than MaxBytes by itself
			fit = bytes.IndexByte(records[n:], '\n') + 1
		}
		k, err := w.current.Write(records[n : n+fit])
		if err != nil {
			whole := bytes.LastIndexByte(records[n:n+k], '\n') + 1
			w.cutTorn(int64(k - whole))
			return n + whole, err
		}
		w.size += int64(k)
		n += k
	}
	return n, nil
}

// wholeRecords returns the length of the longest prefix of whole records that
// is no longer than room.
func wholeRecords(records []byte, room int64) int {
	switch {
	case room <= 0:
		return 0
	case int64(len(records)) <= room:
		return len(records)
	}
	return bytes.LastIndexByte(records[:room], '\n') + 1
}

// cutTorn takes the last bytes, left by a failed write, off the file again.
// Closing it makes the next open look at what is really there, should the cut
// fail too.
func (w *files) cutTorn(bytes int64) {
	if info, err := w.current.Stat(); err == nil && bytes > 0 {
		_ = w.current.Truncate(info.Size() - bytes)
	}
	_ = w.current.Close()
	w.current = nil
}

// open makes current usable. A torn last record, which a power cut or a killed
// writer leaves, gets a newline, so that only it is unreadable.
func (w *files) open() error {
	if w.current != nil {
		return nil
	}
	if err := os.MkdirAll(w.config.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path(w.config.Dir, 0), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := endOnNewline(f)
	if err != nil {
		_ = f.Close()
		return err
	}
	w.current, w.size = f, size
	return nil
}

func endOnNewline(f *os.File) (size int64, err error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return info.Size(), nil
	}
	_, err = f.Write([]byte{'\n'})
	return info.Size() + 1, err
}

// rotate renames every file to its next number, from the oldest, which falls
// off, to the current one. A crash in between leaves a hole in the numbers,
// which readers and the next rotation take in their stride. Files only ever
// move to higher numbers; the readers rely on that.
func (w *files) rotate() error {
	last := w.config.Files - 1
	if last == 0 {
		if err := os.Remove(path(w.config.Dir, 0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for n := last; n > 0; n-- {
		err := os.Rename(path(w.config.Dir, n-1), path(w.config.Dir, n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_ = w.current.Close() // its name is taken away, its records are written
	w.current = nil
	return w.open()
}
