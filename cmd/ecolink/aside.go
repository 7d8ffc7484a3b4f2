package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// thereError: a file was not written since another has its name.
type thereError struct{ path string }

func (e *thereError) Error() string {
	return fmt.Sprintf("%s is there already, and stays as it is: choose another name, or replace it with --force", e.path)
}

// cannotWrite says why the file that the user named can't be written, whatever name
// it had meanwhile.
func cannotWrite(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s can't be written: its folder does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s can't be written: you may not write to its folder", path)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s can't be written: %s is not a folder", path, filepath.Dir(path))
	}
	return fmt.Errorf("%s can't be written: %w", path, bare(err))
}

// unreadableError: a file that the user named can't be read.
type unreadableError struct {
	path string
	err  error
}

func (e *unreadableError) Error() string {
	switch {
	case errors.Is(e.err, fs.ErrNotExist):
		return fmt.Sprintf("%s can't be read: there is no such file; check its name and folder", e.path)
	case errors.Is(e.err, fs.ErrPermission):
		return fmt.Sprintf("%s can't be read: you may not read it; ask its owner to let you", e.path)
	}
	return fmt.Sprintf("%s can't be read: %v", e.path, bare(e.err))
}

func (e *unreadableError) Unwrap() error { return e.err }

// cannotRead says why the file that the user named can't be read.
func cannotRead(path string, err error) error { return &unreadableError{path, err} }

// isAbout tells whether an error is the file's own, and not of what was to go there.
func isAbout(err error, f *os.File) bool {
	named := (*fs.PathError)(nil)
	return errors.As(err, &named) && named.Path == f.Name()
}

// bare is an error without the operation and the file name that it is about.
func bare(err error) error {
	if named := (*fs.PathError)(nil); errors.As(err, &named) {
		return named.Err
	}
	if linked := (*os.LinkError)(nil); errors.As(err, &linked) {
		return linked.Err
	}
	return err
}

// writeAside writes a file that only its owner can read, and gives it its name
// when it is whole, has passed check and is on disk. A file that has the name, at
// the beginning or at the end, is a thereError unless it is to be replaced. When it
// fails, what was there before stays.
func writeAside(path string, replace bool, write func(io.Writer) error, check func(path string) error) (size int64, err error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, cannotWrite(path, err)
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("%s is not a plain file: name a file, or write to standard output with -", path)
	case !replace:
		return 0, &thereError{path}
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return 0, cannotWrite(path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if size, err = counting(f, write); err != nil {
		if isAbout(err, f) { // its disk is full, say
			err = cannotWrite(path, err)
		}
		return 0, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, cannotWrite(path, err)
	}
	if err := check(f.Name()); err != nil {
		return 0, err
	}
	switch err := giveName(f.Name(), path, replace); {
	case errors.As(err, new(*thereError)):
		return 0, err
	case err != nil:
		return 0, cannotWrite(path, err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	return size, errors.Join(folder.Sync(), folder.Close())
}

// giveName renames a file. Another may have got the name meanwhile, as when two
// backups run at once: the kernel sees to it that one of them keeps it, where the
// file system can do that.
func giveName(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // NFS and FAT, or an old kernel
		if _, err := os.Lstat(to); err == nil {
			return &thereError{to}
		}
		return os.Rename(from, to)
	}
	if errors.Is(err, unix.EEXIST) {
		return &thereError{to}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
