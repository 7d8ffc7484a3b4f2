package history

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ringToAppend is the ring of a file, which it makes with this layout if it is
// not there.
func (h *History) ringToAppend(name string, l layout) (*ring, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.openRing(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := h.trim(ringSuffix, MaxDevices-1); err != nil {
			return nil, err
		}
		r, err = createRing(filepath.Join(h.dir, name), l)
	}
	if err != nil {
		return nil, err
	}
	h.rings[name] = r
	h.turn++
	h.appended[name] = h.turn
	return r, nil
}

// ringToRead is the ring of a file that is there.
func (h *History) ringToRead(name string) (*ring, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.openRing(name)
	if err == nil {
		h.rings[name] = r
	}
	return r, err
}

// openRing opens a file, unless that is done. One that is damaged is set aside and
// then not there. The lock is held.
func (h *History) openRing(name string) (*ring, error) {
	if h.closed {
		return nil, os.ErrClosed
	}
	if r := h.rings[name]; r != nil {
		return r, nil
	}
	path := filepath.Join(h.dir, name)
	r, resized, err := openRing(path)
	var damaged errDamaged
	switch {
	case errors.As(err, &damaged):
		if err := h.setAside(path); err != nil {
			return nil, err
		}
		h.log.Warn("history of a GPU is damaged and begun anew", "file", path, "reason", damaged.reason, "kept_as", path+asideSuffix)
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case err != nil:
		return nil, err
	case resized:
		h.log.Warn("history of a GPU had another size than it must have; what was cut off is a gap", "file", path)
	}
	return r, nil
}

func (h *History) setAside(path string) error {
	if err := h.trim(asideSuffix, maxSetAside-1); err != nil {
		return err
	}
	return os.Rename(path, path+asideSuffix)
}

// trim removes the files with a suffix that were written longest ago, until so
// many are left. One that was appended to in this run is newer than all others,
// whatever the clock did to their times. The lock is held.
func (h *History) trim(suffix string, keep int) error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	type candidate struct {
		name    string
		turn    int
		written time.Time
	}
	var all []candidate
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all = append(all, candidate{e.Name(), h.appended[e.Name()], info.ModTime()})
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.turn, b.turn), a.written.Compare(b.written))
	})
	for _, old := range all[:max(0, len(all)-keep)] {
		if err := h.remove(old.name); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) remove(name string) error {
	if r := h.rings[name]; r != nil {
		if err := r.close(); err != nil {
			return err
		}
	}
	delete(h.rings, name)
	delete(h.appended, name)
	if err := os.Remove(filepath.Join(h.dir, name)); err != nil {
		return err
	}
	if strings.HasSuffix(name, ringSuffix) {
		h.log.Info("history of the GPU that was not seen for the longest time is removed", "file", name, "most", MaxDevices)
	}
	return nil
}
