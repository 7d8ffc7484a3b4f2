package history

import (
	"fmt"
	"os"
	"sync"
)

// ring is the open file of one device.
type ring struct {
	path string

	mu     sync.RWMutex
	file   *os.File // nil: closed
	layout layout
	open   int64 // the minute that seconds are appended to, not in the coarse ring yet; -1: none
	record []byte
}

// createRing makes the file with room for these figures, in one step: a crash
// leaves it whole or not at all.
func createRing(path string, l layout) (*ring, error) {
	file, err := newFile(path, l, func(*os.File) error { return nil })
	if err != nil {
		return nil, err
	}
	return &ring{path: path, file: file, layout: l, open: -1}, nil
}

// newFile writes a file beside path by fill and puts it in path's place. The
// folder is not synced: the old file, which a power cut may bring back, is whole.
func newFile(path string, l layout, fill func(*os.File) error) (_ *os.File, err error) {
	file, err := os.OpenFile(path+tempSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(path + tempSuffix)
		}
	}()
	if _, err := file.WriteAt(l.header(), 0); err != nil {
		return nil, err
	}
	if err := file.Truncate(l.fileBytes()); err != nil {
		return nil, err
	}
	if err := fill(file); err != nil {
		return nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, err
	}
	if err := os.Rename(path+tempSuffix, path); err != nil {
		return nil, err
	}
	return file, nil
}

// errDamaged says that a file cannot be gone on with.
type errDamaged struct{ reason string }

func (e errDamaged) Error() string { return "it is damaged: " + e.reason }

// openRing goes on with a file. A file that lost its end gets it back, as gaps;
// resized tells of it.
func openRing(path string) (_ *ring, resized bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	raw := make([]byte, headerBytes)
	n, err := readAt(file, raw, 0)
	if err != nil {
		return nil, false, err
	}
	l, err := parseHeader(raw[:n])
	if err != nil {
		return nil, false, errDamaged{err.Error()}
	}
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	if resized = info.Size() != l.fileBytes(); resized {
		if err := file.Truncate(l.fileBytes()); err != nil {
			return nil, false, err
		}
	}
	r := &ring{path: path, file: file, layout: l, open: -1}
	return r, resized, r.recover()
}

// recover brings into the coarse ring what a crash kept from it: every minute of
// the fine ring but the last, which goes on.
func (r *ring) recover() error {
	minutes := map[int64]bool{}
	err := r.eachSecond(0, FineSeconds, func(s *second) { minutes[minuteOf(s.time)] = true })
	if err != nil {
		return err
	}
	for m := range minutes {
		r.open = max(r.open, m)
	}
	for m := range minutes {
		_, there, err := r.minuteAt(m)
		if err != nil {
			return err
		}
		if m != r.open && !there {
			if err := r.rollUp(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// append writes what was measured in a second, and the minute before it when that
// is over.
func (r *ring) append(s *second) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return os.ErrClosed
	}
	if !r.layout.has(s.known) {
		if err := r.widen(layout{r.layout.figures | s.known}); err != nil {
			return fmt.Errorf("make room for more figures: %w", err)
		}
	}
	if m := minuteOf(s.time); m != r.open {
		if r.open >= 0 {
			if err := r.rollUp(r.open); err != nil {
				return err
			}
		}
		r.open = m
	}
	size := r.layout.fineBytes()
	r.layout.encodeSecond(r.scratch(size), s)
	_, err := r.file.WriteAt(r.record[:size], headerBytes+finePlace(s.time)*size)
	return err
}

// scratch is where a record is put together. The lock is held.
func (r *ring) scratch(size int64) []byte {
	if int64(cap(r.record)) < size {
		r.record = make([]byte, size)
	}
	return r.record[:size]
}

// rollUp writes a minute from its seconds. The lock is held.
func (r *ring) rollUp(time int64) error {
	m, any, err := r.sumMinute(time)
	if err != nil || !any {
		return err
	}
	size := r.layout.coarseBytes()
	r.layout.encodeMinute(r.scratch(size), &m)
	_, err = r.file.WriteAt(r.record[:size], r.layout.coarseAt()+coarsePlace(time)*size)
	return err
}

// sumMinute adds up the seconds that are there of a minute. The lock is held.
func (r *ring) sumMinute(time int64) (_ minute, any bool, err error) {
	var of sum
	err = r.eachSecond(finePlace(time), minuteSeconds, func(s *second) {
		if minuteOf(s.time) == time {
			of.addSecond(s)
		}
	})
	return of.minute(time), of.any, err
}

// minuteAt reads a minute of the coarse ring. The lock is held.
func (r *ring) minuteAt(time int64) (m minute, ok bool, err error) {
	err = r.eachMinute(coarsePlace(time), 1, func(found *minute) {
		if found.time == time {
			m, ok = *found, true
		}
	})
	return m, ok, err
}

func (r *ring) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}
