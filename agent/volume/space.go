package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Space is how much the pool has and has promised.
type Space struct {
	TotalBytes    int64 // of the host's file system
	FreeBytes     int64 // that can still be promised; 0 at least
	PromisedBytes int64 // sizes of volumes and snapshots
	ReserveBytes  int64 // kept for the host
}

// Space tells how full the pool is.
func (p *Pool) Space() (Space, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.space()
	s.FreeBytes = max(0, s.FreeBytes)
	return s, err
}

// space is computed from the disk each time: what others write there counts too.
// The caller holds p.mu.
func (p *Pool) space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(p.cfg.Dir, &st); err != nil {
		return Space{}, fmt.Errorf("how full the disk is: %w", err)
	}
	s := Space{TotalBytes: int64(st.Blocks) * st.Bsize, ReserveBytes: p.cfg.Reserve}
	s.FreeBytes = int64(st.Bavail)*st.Bsize - p.cfg.Reserve - p.pending
	ids, err := p.ids()
	if err != nil {
		return s, err
	}
	for _, id := range ids {
		size, allocated, err := allocation(p.image(id))
		if err != nil {
			return s, err
		}
		s.PromisedBytes += size
		s.FreeBytes -= max(0, size-allocated) // holes are promised, whoever made them
		names, err := snapshotNames(p.snapshotDir(id))
		if err != nil {
			return s, err
		}
		for _, name := range names {
			_, allocated, err := allocation(p.snapshot(id, name))
			if err != nil {
				return s, err
			}
			shared, err := sharedBytes(p.snapshot(id, name))
			if err != nil {
				return s, err
			}
			s.PromisedBytes += allocated
			s.FreeBytes -= shared // the first write to the original takes as much
		}
	}
	return s, nil
}

// allocation gives a file's size and how much of the disk is its own; zeros for
// one that has gone.
func allocation(path string) (size, allocated int64, err error) {
	var st unix.Stat_t
	err = unix.Stat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return st.Size, st.Blocks * 512, nil
}

// promise sets bytes aside until settle is called, after they are allocated or
// given up.
func (p *Pool) promise(bytes int64) (settle func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.space()
	if err != nil {
		return nil, err
	}
	if bytes > 0 && bytes > s.FreeBytes {
		return nil, &FullError{Needs: bytes, Free: max(0, s.FreeBytes), Reserve: p.cfg.Reserve}
	}
	p.pending += bytes
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pending -= bytes
	}, nil
}

// allocate gives a file its blocks up to size, without a change of what is in it
// or of its length. The disk's word is final: others may have filled it since we
// looked.
func (p *Pool) allocate(f *os.File, size int64) error {
	err := reserve(f, size)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return refuse("the file system of %s can't reserve space (fallocate): put the data folder on ext4, XFS or Btrfs", p.cfg.Dir)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EFBIG), errors.Is(err, unix.EDQUOT):
		p.mu.Lock()
		defer p.mu.Unlock()
		s, _ := p.space()
		return &FullError{Needs: size, Free: max(0, s.FreeBytes), Reserve: p.cfg.Reserve}
	case err != nil:
		return fmt.Errorf("reserve space for %s: %w", f.Name(), err)
	}
	return nil
}

// retryEINTR does what Go's own file calls do: the runtime's signals interrupt
// system calls that take long.
func retryEINTR(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
