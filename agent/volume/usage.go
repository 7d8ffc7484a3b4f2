package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is how full a volume is. It is the same whether it is mounted or not, and
// what of its capacity is not free is what df calls used.
type Usage struct {
	Bytes         int64 // its size: what was asked for and is paid
	CapacityBytes int64 // what files can have of it, used or not
	FreeBytes     int64 // what files can still have
}

// keptBack is how many of so many blocks a mounted ext4 gives to no file: it needs
// them where it has to split an extent while the disk is full (kernel: fs/ext4/super.c,
// ext4_set_resv_clusters).
func keptBack(blocks int64) int64 { return min(blocks/50, 4096) }

// usagePatience is how long Usage waits for who works on the volume: a mount is
// quick, and a copy may take minutes.
const usagePatience = 200 * time.Millisecond

// Usage asks the mounted file system or, when it is not mounted, what it wrote
// down when it last was. While the volume is copied or put back it is a BusyError.
func (p *Pool) Usage(ctx context.Context, id string) (Usage, error) {
	if err := checkNames(id); err != nil {
		return Usage{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	release, err := p.holdFor(ctx, id) // nobody unmounts it meanwhile
	if err != nil {
		return Usage{}, err
	}
	defer release()
	image, err := os.Open(p.image(id))
	if errors.Is(err, fs.ErrNotExist) {
		return Usage{}, fmt.Errorf("volume %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("volume %s: %w", id, err)
	}
	defer image.Close()
	st, err := image.Stat()
	if err != nil {
		return Usage{}, fmt.Errorf("volume %s: %w", id, err)
	}
	mounts, err := p.mounts()
	if err != nil {
		return Usage{}, err
	}
	for _, m := range mounts {
		if m.volume == id {
			var fsys unix.Statfs_t
			if err := unix.Statfs(m.path, &fsys); err != nil {
				return Usage{}, fmt.Errorf("volume %s: %w", id, err)
			}
			kept := int64(fsys.Bfree - fsys.Bavail)
			return Usage{Bytes: st.Size(), CapacityBytes: (int64(fsys.Blocks) - kept) * fsys.Bsize, FreeBytes: int64(fsys.Bavail) * fsys.Bsize}, nil
		}
	}
	sb, err := readSuperblock(image)
	if err != nil {
		return Usage{}, &CorruptError{Volume: id, Image: image.Name(), Report: err.Error()}
	}
	kept := min(keptBack(sb.blocks), sb.free)
	return Usage{Bytes: st.Size(), CapacityBytes: (sb.blocks - sb.overhead - kept) * blockSize, FreeBytes: (sb.free - kept) * blockSize}, nil
}
