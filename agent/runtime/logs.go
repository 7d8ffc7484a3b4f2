package runtime

import (
	"context"
	"errors"
	"iter"

	"ecolink/agent/keeper/logfile"
)

// errEnough ends a reading whose consumer has left.
var errEnough = errors.New("enough")

// Logs yields the last `tail` lines of a container's output (0: all that is
// kept), and with follow goes on until ctx ends, which is no error.
func (r *Runtime) Logs(ctx context.Context, id string, tail int, follow bool) iter.Seq2[logfile.Line, error] {
	return func(yield func(logfile.Line, error) bool) {
		each := func(l logfile.Line) error {
			if !yield(l, nil) {
				return errEnough
			}
			return nil
		}
		opts := logfile.Options{TailLines: tail}
		var err error
		if follow {
			err = logfile.Follow(ctx, r.logDir(id), opts, each)
		} else {
			err = logfile.Read(r.logDir(id), opts, each)
		}
		if err != nil && !errors.Is(err, errEnough) && ctx.Err() == nil {
			yield(logfile.Line{}, err)
		}
	}
}
