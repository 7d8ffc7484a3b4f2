package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyStep is how much is copied between two looks at the context.
const copyStep = 16 << 20

// copyImage makes dst, which is empty, have what src has: by sharing its blocks
// where the host's file system can (reflink), else by copying those that are
// written. Reserved blocks that nobody has written become holes.
func copyImage(ctx context.Context, dst, src *os.File) error {
	err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("share the blocks of %s: %w", src.Name(), err)
	}
	st, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(st.Size()); err != nil {
		return err
	}
	return eachData(src, func(from, to int64) error {
		for from < to {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			at := from
			n, err := unix.CopyFileRange(int(src.Fd()), &at, int(dst.Fd()), &from, int(min(copyStep, to-from)), 0)
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return fmt.Errorf("copy %s: %w", src.Name(), err)
			case n == 0:
				return fmt.Errorf("copy %s: %w", src.Name(), io.ErrUnexpectedEOF)
			}
		}
		return nil
	})
}

// eachData calls do with every part of a file that is written, as [from, to).
func eachData(f *os.File, do func(from, to int64) error) error {
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no more data
			return nil
		}
		if err != nil {
			return fmt.Errorf("find what %s has: %w", f.Name(), err)
		}
		to, err := unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find what %s has: %w", f.Name(), err)
		}
		if err := do(from, to); err != nil {
			return err
		}
		at = to
	}
}

// dataBytes is how much of a file is written.
func dataBytes(f *os.File) (total int64, err error) {
	err = eachData(f, func(from, to int64) error {
		total += to - from
		return nil
	})
	return total, err
}

// asFull makes a disk that was full in the middle of a copy to path a FullError.
func (p *Pool) asFull(err error, src *os.File, path string) error {
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	data, _ := dataBytes(src)
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.space()
	return p.full(data, s, path)
}

// ownBlocks gives an image that many bytes, none of them shared with another file
// and all reserved. What is shared is copied by the kernel.
func (p *Pool) ownBlocks(ctx context.Context, image *os.File, size int64) error {
	if err := image.Truncate(size); err != nil {
		return err
	}
	if shared, err := sharedBytes(image.Name()); err != nil {
		return err
	} else if shared > 0 {
		for at := int64(0); at < size; at += copyStep {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := retryEINTR(func() error {
				return unix.Fallocate(int(image.Fd()), unix.FALLOC_FL_UNSHARE_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, min(copyStep, size-at))
			})
			if err != nil {
				return fmt.Errorf("give %s blocks of its own: %w", image.Name(), err)
			}
		}
	}
	return p.allocate(image, size)
}
