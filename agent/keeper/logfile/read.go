package logfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	// followFast and followIdle bound how soon Follow looks for new lines: fast
	// while they come, slower while nothing does.
	followFast = 20 * time.Millisecond
	followIdle = 100 * time.Millisecond
)

// Options select the lines to begin with.
type Options struct {
	// TailLines limits the beginning to the last so many Lines; a long or
	// slowly printed line of output may be several. 0 is no limit, negative is
	// none of the old ones.
	TailLines int
	// Since leaves out Lines that are older. It applies after TailLines. The
	// zero value is no limit.
	Since time.Time
}

// Read calls each for the lines that the log in dir holds now, oldest first.
// A log that does not exist (yet) has no lines and is no error. Lines that
// can't be read, which a power cut may leave, are passed over.
//
// each's error ends it and is returned as it is. Memory does not grow with the
// log, which may be written and rotated meanwhile. Safe for concurrent use.
func Read(dir string, opts Options, each func(Line) error) error {
	files, err := openSnapshot(dir)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	defer files.close()
	_, err = deliverAll(files, opts, each)
	return err
}

// deliverAll delivers the lines of files that opts select and returns a cursor
// behind the last of them, which is nil when there are no files.
func deliverAll(files snapshot, opts Options, each func(Line) error) (*cursor, error) {
	first, offset := 0, int64(0)
	if opts.TailLines != 0 {
		var err error
		if first, offset, err = files.tail(max(0, opts.TailLines)); err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
	}
	var c *cursor
	for i := first; i < len(files); i++ {
		if c == nil {
			c = &cursor{since: opts.Since, block: make([]byte, blockBytes), offset: offset}
		} else {
			c.offset = 0
		}
		c.file = files[i]
		if i < len(files)-1 && allBefore(files[i], opts.Since) {
			continue
		}
		if _, err := c.deliver(each); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// mtimeSlack is more than the kernel's clock of file times, which advances in
// ticks of up to 10 ms, can be behind the clock of the records.
const mtimeSlack = time.Second

// allBefore says that nothing was written to f since t, so that a long log need
// not be read for its last minute.
func allBefore(f *os.File, t time.Time) bool {
	info, err := f.Stat()
	return err == nil && info.ModTime().Before(t.Add(-mtimeSlack))
}

// Follow is Read that then waits for more and goes on over rotations, without
// a gap and without repeating a line, until ctx is done or each fails; it
// returns that error. The log need not exist when it begins.
//
// New lines arrive within about 100 ms. It looks rather than uses inotify,
// because the kernel allows root only 128 inotify instances on a whole machine
// by default and a look costs a few system calls. When each is so slow that the
// log turns over completely, what has been deleted meanwhile can't be
// delivered; a Line on Stderr that begins with "ecolink:" then marks the place.
//
// Safe for concurrent use; each is called from the calling goroutine.
func Follow(ctx context.Context, dir string, opts Options, each func(Line) error) error {
	files, err := openSnapshot(dir)
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	f := &follower{dir: dir, held: files, each: func(line Line) error {
		if err := ctx.Err(); err != nil {
			return err // also a long history is left at once
		}
		return each(line)
	}}
	defer func() { f.held.close() }()
	if f.cursor, err = deliverAll(files, opts, f.each); err != nil {
		return err
	}
	if f.cursor == nil {
		f.cursor = &cursor{since: opts.Since, block: make([]byte, blockBytes)}
	}
	pause := followFast
	for {
		moved, err := f.step()
		if err != nil {
			return err
		}
		if moved {
			pause = followFast
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(pause*2, followIdle)
	}
}

// follower is the state of one Follow.
type follower struct {
	dir    string
	each   func(Line) error
	held   snapshot // open files, the cursor's among them
	cursor *cursor  // its file is nil until the log exists
	// several says that the log was seen to keep older files. It does not
	// change, but in the middle of a rotation it need not show.
	several bool
}

// step delivers what has come since the last one, and says whether there was
// anything.
func (f *follower) step() (moved bool, err error) {
	if f.cursor.file != nil {
		if moved, err = f.cursor.deliver(f.each); err != nil {
			return moved, err
		}
	}
	rotated, err := f.rotated()
	if err != nil || !rotated {
		return moved, err
	}
	return true, f.advance()
}

// rotated reports whether current.log is another file than the cursor's. For a
// moment during a rotation there is none; then we look again later.
func (f *follower) rotated() (bool, error) {
	info, err := os.Stat(path(f.dir, 0))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("follow log: %w", err)
	}
	if f.cursor.file == nil {
		return true, nil
	}
	own, err := f.cursor.file.Stat()
	if err != nil {
		return false, fmt.Errorf("follow log: %w", err)
	}
	return !os.SameFile(own, info), nil
}

// advance finishes the cursor's file and goes on to the current one over all
// files in between.
func (f *follower) advance() error {
	files, err := openSnapshot(f.dir)
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	f.several = f.several || len(files) > 1 || keepsOlder(f.dir)
	next := 0
	if f.cursor.file != nil {
		// Once more: the writer may have added lines between our last look and
		// its rotation. Since then it writes to another file.
		if _, err := f.cursor.deliver(f.each); err != nil {
			files.close()
			return err
		}
		own := files.index(f.cursor.file)
		if own < 0 && f.several {
			// Our file was rotated off the end. With a log of one file that
			// is every rotation's way and says nothing about a gap.
			if err := f.each(gap()); err != nil {
				files.close()
				return err
			}
		}
		next = own + 1
	}
	if next == len(files) { // somebody deletes files by hand, or a rotation is half-way
		files.close()
		return nil
	}
	f.held.close()
	f.held = files
	for _, file := range files[next:] {
		f.cursor.file, f.cursor.offset = file, 0
		if _, err := f.cursor.deliver(f.each); err != nil {
			return err
		}
	}
	return nil
}

// keepsOlder reports whether the log has files besides the current one. In the
// middle of a rotation the first of them is missing for a moment, and then the
// second is there; a rotation later it may be the other way round.
func keepsOlder(dir string) bool {
	for _, n := range []int{1, 2, 1} {
		if _, err := os.Stat(path(dir, n)); err == nil {
			return true
		}
	}
	return false
}

func gap() Line {
	return Line{
		Time:   time.Now().UTC(),
		Stream: Stderr,
		Text:   "ecolink: lines may be missing here: the log was rotated away before it was read",
	}
}
