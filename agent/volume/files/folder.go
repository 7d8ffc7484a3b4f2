package files

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Volume is the files below a root. Whoever opened the root closes it.
type Volume struct{ root *os.Root }

// In gives the volume of a root.
func In(root *os.Root) Volume { return Volume{root} }

// folder is an open folder. Its methods take single names and follow no link, so
// that they act in this very folder, whatever is moved or swapped meanwhile.
type folder struct{ *os.File }

// folder opens a folder by its path; links in it are followed inside the volume.
func (v Volume) folder(clean string) (folder, error) {
	// O_DIRECTORY, so that a FIFO in its place is not opened.
	f, err := v.root.OpenFile(clean, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	return folder{f}, err
}

// parent opens the folder that a clean path is in.
func (v Volume) parent(clean string) (folder, string, error) {
	dir, name := split(clean)
	f, err := v.folder(dir)
	return f, name, err
}

// fd is the folder's number, good until it is closed.
func (f folder) fd() int { return int(f.Fd()) }

// open opens a name in the folder, and never what a link leads to.
func (f folder) open(name string, flags int, mode uint32) (*os.File, error) {
	for {
		fd, err := unix.Openat(f.fd(), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, mode)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

func (f folder) sub(name string) (folder, error) {
	sub, err := f.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return folder{sub}, err
}

// stat tells of a name in the folder; of a link, of the link itself.
func (f folder) stat(name string) (st unix.Stat_t, err error) {
	if err := unix.Fstatat(f.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return st, nil
}

// link reads where a link leads; "" when it is none any more.
func (f folder) link(name string) string {
	buf := make([]byte, maxTargetBytes)
	n, err := unix.Readlinkat(f.fd(), name, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func (f folder) remove(name string, isFolder bool) error {
	flags := 0
	if isFolder {
		flags = unix.AT_REMOVEDIR
	}
	if err := unix.Unlinkat(f.fd(), name, flags); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// batch reads the next entries; none at the end.
func (f folder) batch() ([]fs.DirEntry, error) {
	entries, err := f.ReadDir(readBatch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, err
}

// move renames, in one step. Without replace it fails where something is.
func move(from folder, name string, to folder, newName string, replace bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	if err := unix.Renameat2(from.fd(), name, to.fd(), newName, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: name, New: newName, Err: err}
	}
	return nil
}

// isRegular tells a file with bytes from what only looks like one.
func isRegular(st unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }
