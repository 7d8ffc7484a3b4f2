package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Abandoned is what nobody goes on with and nobody has removed.
type Abandoned struct {
	Uploads int   // that should have been swept away
	Parts   int   // bytes of uploads that were cut off as they began: nobody can go on with them
	Bytes   int64 // that both take
}

// UploadsIn is where a volume's unfinished uploads are, below where it is mounted.
func UploadsIn(mount string) string { return mount + "/" + uploadFolder }

// Abandoned counts what an hourly Sweep should have removed, and what it will. It
// changes nothing.
func (v Volume) Abandoned(ctx context.Context, now time.Time) (a Abandoned, err error) {
	err = v.eachAbandoned(ctx, now, func(dir folder, name string, st unix.Stat_t) error {
		a.Bytes += st.Blocks * 512
		id, part := strings.CutSuffix(name, partSuffix)
		switch _, err := dir.stat(id + noteSuffix); {
		case !part:
		case errors.Is(err, fs.ErrNotExist):
			a.Parts++
		default:
			a.Uploads++
		}
		return nil
	})
	return a, err
}

// RemoveAbandoned removes it.
func (v Volume) RemoveAbandoned(ctx context.Context, now time.Time) error {
	return v.eachAbandoned(ctx, now, func(dir folder, name string, _ unix.Stat_t) error {
		if err := dir.remove(name, false); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// eachAbandoned calls do for every file of it, and goes on past those that fail.
func (v Volume) eachAbandoned(ctx context.Context, now time.Time, do func(folder, string, unix.Stat_t) error) error {
	dir, err := v.uploads(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	var failed []error
	for {
		entries, err := dir.batch()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || len(entries) == 0 {
			return errors.Join(append(failed, err)...)
		}
		for _, e := range entries {
			st, err := dir.stat(e.Name())
			if err != nil || !isRegular(st) || !dir.abandoned(e.Name(), st, now) {
				continue
			}
			if err := do(dir, e.Name(), st); err != nil && len(failed) < maxFailures {
				failed = append(failed, &os.PathError{Op: "remove", Path: uploadFolder + "/" + e.Name(), Err: err})
			}
		}
	}
}

func (f folder) abandoned(name string, st unix.Stat_t, now time.Time) bool {
	if id, part := strings.CutSuffix(name, partSuffix); part {
		// The note follows the bytes' space within moments.
		_, err := f.stat(id + noteSuffix)
		if errors.Is(err, fs.ErrNotExist) && time.Unix(st.Mtim.Unix()).Before(now.Add(-partAge)) {
			return true
		}
	}
	return f.stale(name, now.Add(-UploadAge-sweepGrace))
}
