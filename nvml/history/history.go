package history

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	ringSuffix  = ".ring"
	asideSuffix = ".damaged"
	tempSuffix  = ".new"
)

// History is a folder with a file for each device. It is safe for concurrent use.
type History struct {
	dir string
	log *slog.Logger

	mu       sync.Mutex
	closed   bool
	rings    map[string]*ring // by file name
	appended map[string]int   // when each was last appended to, in turns
	turn     int
}

// Open opens the folder, and makes it if it is not there. The log is told of
// files that are damaged or go. The caller must Close it.
func Open(dir string, log *slog.Logger) (*History, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open GPU history: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
	if err != nil {
		return nil, fmt.Errorf("open GPU history: %w", err)
	}
	for _, path := range left { // of a crash
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("open GPU history: %w", err)
		}
	}
	return &History{dir: dir, log: log, rings: map[string]*ring{}, appended: map[string]int{}}, nil
}

// Append keeps what a device measured in the second that at is in, in place of
// what was kept of this second. A device that is new gets a file; when there are
// MaxDevices, the one that was not appended to for the longest time loses its.
func (h *History) Append(device string, at time.Time, figures Figures) error {
	name, err := fileName(device)
	if err != nil {
		return err
	}
	if at.Unix() < 0 {
		return fmt.Errorf("keep figures of %s: the clock says %s: set the clock", device, at.UTC().Format(time.DateTime))
	}
	r, err := h.ringToAppend(name, layout{figures.known})
	if err == nil {
		err = r.append(&second{at.Unix(), figures})
	}
	if err != nil {
		return fmt.Errorf("keep figures of %s: %w", device, err)
	}
	return nil
}

// Query gives a device's points from one time until before another, in order.
// Times are rounded down to a step, and steps up to whole seconds, or to whole
// minutes from one minute on. Steps below a minute are of the last hour; for more,
// take a minute at least. A step in which nothing was measured has no point, and
// a device without a file none at all. More than MaxPoints steps are an error.
func (h *History) Query(device string, from, to time.Time, step time.Duration) ([]Point, error) {
	name, err := fileName(device)
	if err != nil {
		return nil, err
	}
	seconds := wholeStep(step)
	begin := max(0, from.Unix())
	begin -= begin % seconds
	end := to.Unix()
	if end <= begin {
		return []Point{}, nil
	}
	if (end-begin)/seconds > MaxPoints {
		return nil, fmt.Errorf("%s to %s has %d steps of %d seconds: ask for %d at most, by a longer step",
			from.UTC().Format(time.DateTime), to.UTC().Format(time.DateTime), (end-begin)/seconds, seconds, MaxPoints)
	}
	if seconds >= minuteSeconds { // whole minutes
		end = (end + minuteSeconds - 1) / minuteSeconds * minuteSeconds
	}
	r, err := h.ringToRead(name)
	if errors.Is(err, fs.ErrNotExist) {
		return []Point{}, nil
	}
	if err == nil {
		var points []Point
		if points, err = r.query(begin, end, seconds); err == nil {
			return points, nil
		}
	}
	return nil, fmt.Errorf("read history of %s: %w", device, err)
}

func wholeStep(step time.Duration) int64 {
	seconds := max(1, int64((step+time.Second-1)/time.Second))
	if seconds > minuteSeconds {
		seconds = (seconds + minuteSeconds - 1) / minuteSeconds * minuteSeconds
	}
	return seconds
}

// Close closes all files. Append and Query fail afterwards.
func (h *History) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	var errs []error
	for name, r := range h.rings {
		errs = append(errs, r.close())
		delete(h.rings, name)
	}
	return errors.Join(errs...)
}

// fileName is of a device's file: a MIG device's name of older drivers has slashes.
func fileName(device string) (string, error) {
	name := url.PathEscape(device)
	if device == "" || len(name) > maxNameBytes || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%.40q cannot be a device's name: it must have 1 to %d bytes and begin with no dot", device, maxNameBytes)
	}
	return name + ringSuffix, nil
}
