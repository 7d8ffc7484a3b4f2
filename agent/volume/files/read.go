package files

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// File is an open file of a volume, to be read and closed.
type File struct {
	*os.File
	Size    int64 // when it was opened
	ModTime time.Time
	// ETag is another one after any write: it has the time of the inode's change,
	// which no program can set back.
	ETag string
}

// Open opens a regular file to read. It never opens anything else: a FIFO would
// block, and a device do what devices do. (Volumes are mounted with nodev, too.)
func (v Volume) Open(p string) (*File, error) {
	clean, err := entry("path", p)
	if err != nil {
		return nil, err
	}
	at, err := v.root.Stat(clean)
	if err != nil {
		return nil, explain(err, "path", clean)
	}
	if at.IsDir() {
		return nil, fail(Conflict, "path", "%s is a folder: download it as an archive", show(clean))
	}
	if !at.Mode().IsRegular() {
		return nil, notAFile(clean)
	}
	// Without blocking, should a FIFO have come into its place.
	f, err := v.root.OpenFile(clean, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, explain(err, "path", clean)
	}
	out, err := opened(f, clean)
	if err != nil {
		f.Close()
	}
	return out, err
}

func opened(f *os.File, clean string) (*File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if !isRegular(st) {
		return nil, notAFile(clean)
	}
	return &File{
		File: f, Size: st.Size, ModTime: time.Unix(st.Mtim.Unix()),
		ETag: fmt.Sprintf(`"%x-%x-%x"`, st.Ino, st.Ctim.Nano(), st.Size),
	}, nil
}

func notAFile(clean string) error {
	return fail(Conflict, "path", "%s is no file but a FIFO, a socket or a device: it can't be read", show(clean))
}

// Space is how large a volume is and how much of it is free, in bytes.
type Space struct{ Total, Free int64 }

// Space asks the volume's file system.
func (v Volume) Space() (Space, error) {
	root, err := v.folder(".")
	if err != nil {
		return Space{}, err
	}
	defer root.Close()
	return root.space()
}

func (f folder) space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(f.fd(), &st); err != nil {
		return Space{}, err
	}
	return Space{Total: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize}, nil
}
