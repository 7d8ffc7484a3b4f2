package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// IDs is how many users, and as many groups, a namespace has: as many as images,
// and the programs in them, expect.
const IDs = 1 << 16

// LayerRoot is the host's root in the files of a container's layer.
const LayerRoot = IDs

// The host's ids that ranges lie in. systemd leaves 524288 to 1879048191 to
// containers (systemd.io/UIDS-GIDS); from the lower end on, adduser gives out ranges
// to people (/etc/subuid). All are below 2^31: to some programs and some settings of
// the kernel, such as the groups that may ping, larger ones are negative.
const (
	firstID = 1 << 30
	// MaxRanges is how many namespaces there can be at once, beside a trial's.
	MaxRanges = 1<<13 - 1
	endID     = firstID + (MaxRanges+1)*IDs
)

// Range is a namespace's ids on the host: root is First, the others follow. The zero
// Range is none.
type Range struct {
	First uint32 `json:"first_id,omitempty"`
}

// RangeAt is the n-th range, from 0 to MaxRanges-1.
func RangeAt(n int) Range { return Range{First: uint32(firstID + n*IDs)} }

// TrialRange is for finding out whether there can be any.
func TrialRange() Range { return RangeAt(MaxRanges) }

// Valid tells whether it is one of the ranges.
func (r Range) Valid() bool {
	return r.First >= firstID && r.First < endID && r.First%IDs == 0
}

// subordinates are where the host's administrator gives out ids.
func subordinates() []string { return []string{"/etc/subuid", "/etc/subgid"} }

// CheckFree makes sure that nobody else has been given any of the ranges.
func CheckFree() error {
	var errs []error
	for _, path := range subordinates() {
		errs = append(errs, checkFree(path))
	}
	return errors.Join(errs...)
}

// checkFree reads lines such as `ana:100000:65536`.
func checkFree(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 {
			continue
		}
		first, firstErr := strconv.ParseInt(fields[1], 10, 64)
		count, countErr := strconv.ParseInt(fields[2], 10, 64)
		if firstErr == nil && countErr == nil && first < endID && first+count > firstID {
			return fmt.Errorf("%s gives ids from %d on to %s, and containers would have them: give out others than %d to %d",
				path, first, fields[0], firstID, endID-1)
		}
	}
	return lines.Err()
}
