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
	// Volumes is what of the pool is counted as each volume's: its size, or that
	// which it is being given. Its snapshots are not in it.
	Volumes map[string]int64
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
	s := Space{ReserveBytes: p.cfg.Reserve, Volumes: map[string]int64{}}
	if err := p.lookAtDisk(&s); err != nil {
		return s, err
	}
	s.FreeBytes -= p.cfg.Reserve
	for _, g := range p.promised {
		if g.volume != "" {
			s.Volumes[g.volume] = g.bytes
		}
	}
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
		s.Volumes[id] = max(size, s.Volumes[id])
		if _, grows := p.promised[p.image(id)]; !grows {
			s.FreeBytes -= max(0, size-allocated) // holes are promised, whoever made them
		}
		if err := p.countSnapshots(&s, id); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (p *Pool) countSnapshots(s *Space, id string) error {
	names, err := snapshotNames(p.snapshotDir(id))
	if err != nil {
		return err
	}
	for _, name := range names {
		_, allocated, err := allocation(p.snapshot(id, name))
		if err != nil {
			return err
		}
		shared, err := sharedBytes(p.snapshot(id, name))
		if err != nil {
			return err
		}
		s.PromisedBytes += allocated
		s.FreeBytes -= shared // the first write to the original takes as much
	}
	return nil
}

// maxLooks is how often the disk is looked at while its files grow.
const maxLooks = 8

// lookAtDisk tells what the disk has, and what of it is free when all that is being
// made has been made. Both can't be asked for in one: what a file gets in between
// makes that less than it is. So while one grows it looks again, and takes the most.
func (p *Pool) lookAtDisk(s *Space) error {
	for n := range maxLooks {
		before, err := p.missing()
		if err != nil {
			return err
		}
		var st unix.Statfs_t
		if err := unix.Statfs(p.cfg.Dir, &st); err != nil {
			return fmt.Errorf("how full the disk is: %w", err)
		}
		s.TotalBytes = int64(st.Blocks) * st.Bsize
		if free := int64(st.Bavail)*st.Bsize - before; n == 0 || free > s.FreeBytes {
			s.FreeBytes = free
		}
		after, err := p.missing()
		if err != nil || before == after {
			return err
		}
	}
	return nil
}

// missing is what the files that are being made lack of what they were promised.
// What a new one shares with others is not its own yet. What one that grows shares
// with its snapshots is counted with those.
func (p *Pool) missing() (total int64, err error) {
	for path, g := range p.promised {
		_, allocated, err := allocation(path)
		if err != nil {
			return 0, err
		}
		shared := int64(0)
		if path != p.image(g.volume) {
			if shared, err = sharedOf(path, 0); err != nil {
				return 0, err
			}
		}
		total += max(0, g.bytes-allocated+shared)
	}
	return total, nil
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

// promised is what a file is to have of the disk, in all.
type promised struct {
	volume string // whose image the file is, or will be; "" when it is more than that
	bytes  int64
}

// promise sets bytes aside for the file at path, which may not be there yet, until
// settle is called after it has been given up, or install gives it its name. What it
// has of them already is counted once. The caller holds the volume.
func (p *Pool) promise(path string, g promised) (settle func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.space()
	if err != nil {
		return nil, err
	}
	size, allocated, err := allocation(path)
	if err != nil {
		return nil, err
	}
	if more := g.bytes - max(size, allocated); more > 0 && more > s.FreeBytes {
		return nil, p.full(more, s, path)
	}
	p.promised[path] = g
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.promised, path)
	}, nil
}

// full is the error for the file at path, which has no room for that many bytes. A
// copy that shares blocks with more than one other file counts twice until they are
// its own, so the word is final only when nothing else is being made. The caller
// holds p.mu.
func (p *Pool) full(needs int64, s Space, path string) error {
	others := len(p.promised)
	if _, own := p.promised[path]; own {
		others--
	}
	return &FullError{Needs: needs, Free: max(0, s.FreeBytes), Reserve: p.cfg.Reserve, Working: others > 0}
}

// install gives what was made the name that it is found by, and settles the promise
// of the file at path in the same moment.
func (p *Pool) install(path, from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := os.Rename(from, to); err != nil {
		return err
	}
	delete(p.promised, path)
	return nil
}

// allocate gives a file its blocks up to size, without a change of what is in it
// or of its length. The disk's word is final: others may have filled it since we
// looked.
func (p *Pool) allocate(f *os.File, size int64) error {
	err := reserve(f, size, &p.mu)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return refuse("the file system of %s can't reserve space (fallocate): put the data folder on ext4, XFS or Btrfs", p.cfg.Dir)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EFBIG), errors.Is(err, unix.EDQUOT):
		p.mu.Lock()
		defer p.mu.Unlock()
		s, _ := p.space()
		return p.full(size, s, f.Name())
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
