package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what containerd says.
const (
	maxLogBytes = 8 << 20          // of containerd.log, and as much of containerd.log.1
	logInterval = 10 * time.Second // between two looks at its size
)

// logBounds keep the file of containerd's output small. Containerd has the file
// itself and not a pipe: it goes on when EcoLink ends, and can't open another one.
// So the file is made shorter at its beginning, while containerd appends to its end.
type logBounds struct {
	bytes    int64
	interval time.Duration
}

func (c Config) logFile() string { return filepath.Join(c.DataDir, "containerd.log") }

// openLog begins a file of output, and keeps the one before: what the containerd
// that died said last.
func (c Config) openLog() (*os.File, error) {
	name := c.logFile()
	_ = os.Rename(name, name+".1")
	// Appending, as whoever does not writes on behind the end of a shortened file.
	return os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
}

// appendTo makes what the process says go to the end of its log, however it was
// started: an older EcoLink did not open the file for appending. Such a process would
// write on where the end was before the file became shorter, and leave a hole. How a
// file is open belongs to all who share it, so it is set through a copy of theirs.
func (p *process) appendTo(log string) error {
	var want unix.Stat_t
	if err := unix.Stat(log, &want); err != nil {
		return fmt.Errorf("containerd's log %s: %w", log, err)
	}
	for _, fd := range []int{unix.Stdout, unix.Stderr} {
		if err := p.appendWith(fd, want); err != nil {
			return fmt.Errorf("containerd's log %s is left as it is: %w", log, err)
		}
	}
	return nil
}

// appendWith does so for one of its descriptors, unless that is of another file.
func (p *process) appendWith(fd int, log unix.Stat_t) error {
	own, err := unix.PidfdGetfd(p.pidfd, fd, 0)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) {
		return nil // it has closed it, or has ended
	}
	if err != nil {
		return fmt.Errorf("pidfd_getfd of %d: %w", p.pid, err)
	}
	defer unix.Close(own)
	var st unix.Stat_t
	if err := unix.Fstat(own, &st); err != nil {
		return err
	}
	if st.Dev != log.Dev || st.Ino != log.Ino {
		return nil
	}
	flags, err := unix.FcntlInt(uintptr(own), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_APPEND == 0 {
		_, err = unix.FcntlInt(uintptr(own), unix.F_SETFL, flags|unix.O_APPEND)
	}
	return err
}

// shorten moves the older part of a file that has become too long to name.1. What
// is written meanwhile stays: name.1 and name are always one piece, if either is
// not lost. After a crash half-way both have the same lines for a while.
func (b logBounds) shorten(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// A hole at the beginning is what an earlier call took away.
	first, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return nil // it is empty
	}
	if err != nil {
		return fmt.Errorf("containerd's log %s: %w", name, err)
	}
	if info.Size()-first <= b.bytes {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("containerd's log %s: %w", name, err)
	}
	end := info.Size() / fs.Bsize * fs.Bsize // what is cut off must be whole blocks
	if end == info.Size() {
		end -= fs.Bsize // nor may it be all
	}
	if end <= first {
		return nil
	}
	// The text comes out before it is cut off.
	if err := keep(f, max(first, end-b.bytes), end, name+".1"); err != nil {
		return fmt.Errorf("containerd's log %s: %w", name, err)
	}
	if err := cut(f, end); err != nil {
		return fmt.Errorf("containerd's log %s: %w", name, err)
	}
	return nil
}

// keep copies a part of the file to another, in one step.
func keep(f *os.File, from, to int64, name string) error {
	out, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, from, to-from))
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return os.Rename(out.Name(), name)
}

// cut takes the beginning of the file away. ext4 and XFS do it in one step that no
// writer can come between; elsewhere the blocks are given back and zeros are read
// there: truncating could lose lines that are just being written.
func cut(f *os.File, end int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, end)
	if err == nil || errors.Is(err, unix.EINTR) {
		return nil // the next look tries again
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, end)
}
