package files

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep removes uploads that have stood still for UploadAge, and the folder of
// uploads once it is empty. It tells how many entries are left in that.
func (v Volume) Sweep(ctx context.Context, now time.Time) (left int, err error) {
	dir, err := v.uploads(false)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	before := now.Add(-UploadAge)
	for {
		entries, err := dir.batch()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return left, err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if e.IsDir() || !dir.stale(e.Name(), before) || dir.remove(e.Name(), false) != nil {
				left++
			}
		}
	}
	if left > 0 {
		return left, nil
	}
	root, err := v.folder(".")
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = root.remove(uploadFolder, true)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		err = nil // somebody has begun one, or swept as well
	}
	return 0, err
}

// stale tells whether an upload's file was not touched lately. A note is as old as
// the bytes that it belongs to.
func (f folder) stale(name string, before time.Time) bool {
	if id, ok := strings.CutSuffix(name, noteSuffix); ok {
		if st, err := f.stat(id + partSuffix); err == nil {
			return time.Unix(st.Mtim.Unix()).Before(before)
		}
	}
	st, err := f.stat(name)
	return err == nil && time.Unix(st.Mtim.Unix()).Before(before)
}
