package volume

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// extent is a part of a file that has blocks of the disk, written or not.
type extent struct {
	from, to int64
	shared   bool // with another file, so that the first write to either takes more
}

// fiemapExtent and fiemapRequest are struct fiemap of linux/fiemap.h.
type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type fiemapRequest struct {
	start, length           uint64
	flags, mapped, capacity uint32
	_                       uint32
	extents                 [128]fiemapExtent
}

const (
	fiemapSync   = 0x1 // of a request: write what is in memory first
	fiemapLast   = 0x1 // of an extent
	fiemapShared = 0x2000
)

// errNoExtents is what a file system gives that can't tell.
var errNoExtents = errors.New("this file system does not tell where its files are")

// eachExtent calls do with every part of a file that has blocks, in order. With
// fiemapSync for its flags, what is still in memory alone has its blocks by then.
func eachExtent(f *os.File, flags uint32, do func(extent) error) error {
	request := &fiemapRequest{length: ^uint64(0), flags: flags, capacity: uint32(len(fiemapRequest{}.extents))}
	for {
		request.length = ^uint64(0) - request.start
		err := retryEINTR(func() error { return ioctl(f, fiemap, unsafe.Pointer(request)) })
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) {
			return errNoExtents
		}
		if err != nil {
			return fmt.Errorf("how %s is stored: %w", f.Name(), err)
		}
		for _, e := range request.extents[:request.mapped] {
			if err := do(extent{int64(e.logical), int64(e.logical + e.length), e.flags&fiemapShared != 0}); err != nil {
				return err
			}
			if e.flags&fiemapLast != 0 {
				return nil
			}
			request.start = e.logical + e.length
		}
		if request.mapped == 0 {
			return nil
		}
	}
}

// sharedBytes is how much of a file shares its blocks with others; 0 for one that
// has gone and where the file system can't share.
func sharedBytes(path string) (total int64, err error) { return sharedOf(path, fiemapSync) }

// sharedOf is sharedBytes for a file that may be written now: without fiemapSync it
// waits for nothing.
func sharedOf(path string, flags uint32) (total int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = eachExtent(f, flags, func(e extent) error {
		if e.shared {
			total += e.to - e.from
		}
		return nil
	})
	if errors.Is(err, errNoExtents) {
		err = nil
	}
	return total, err
}

// reserveStep is what is reserved at once, while all who count wait.
const reserveStep = 128 << 20

// reserve gives the holes of a file, up to size, blocks of the disk. What has
// blocks is left alone: XFS asks for free space for the whole range that it is
// told to reserve, and not only for what is missing of it. Each step is done with
// counting held: in its midst XFS has taken all of a step from what is free, and not
// yet given it to the file, so that who counts would count it twice.
func reserve(f *os.File, size int64, counting sync.Locker) error {
	at := int64(0)
	step := func(n int64) error {
		counting.Lock()
		defer counting.Unlock()
		return retryEINTR(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, at, n) })
	}
	hole := func(to int64) error {
		for at < to {
			n := min(to-at, reserveStep)
			if err := step(n); err != nil {
				return err
			}
			at += n
		}
		return nil
	}
	err := eachExtent(f, fiemapSync, func(e extent) error {
		if err := hole(min(e.from, size)); err != nil {
			return err
		}
		at = max(at, e.to)
		return nil
	})
	if err != nil && !errors.Is(err, errNoExtents) {
		return err
	}
	return hole(size)
}
