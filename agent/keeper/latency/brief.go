package latency

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are not announced to the Go runtime. An announced one that follows
// a rest wakes the runtime's watcher (sysmon), which then looks every 20 µs for some
// milliseconds whether it is still under way; beside what a key's echo costs, that is
// much. So they are for descriptors that do not block, and for a few bytes: one that
// waits holds up every goroutine of its processor, and in the end the whole process.

// Read is read(2) on a descriptor that does not block.
func Read(fd int, p []byte) (int, error) { return brief(unix.SYS_READ, fd, p, 0, 0) }

// Send is send(2) on a socket; it neither blocks nor raises SIGPIPE.
func Send(fd int, p []byte) (int, error) {
	return brief(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0)
}

// WriteAt is pwrite(2), into the page cache. A disk that can't keep up with what all
// write may hold it up all the same, and with it whoever has nothing else to do.
func WriteAt(fd int, p []byte, at int64) (int, error) {
	return brief(unix.SYS_PWRITE64, fd, p, uintptr(at), 0)
}

// KeepNonblocking has a descriptor not block that others may have made block; it
// reports whether it did not. They may do it again at any moment.
func KeepNonblocking(fd int) (kept bool) {
	flags, _, errno := syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0)
	if errno != 0 || flags&unix.O_NONBLOCK != 0 {
		return true
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK)
	return false
}

func brief(call uintptr, fd int, p []byte, a, b uintptr) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), a, b, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
