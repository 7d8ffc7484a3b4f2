package session

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gate waits until a descriptor can be read, or until it can be written. The
// runtime's poller waits for both at once, and so wakes this process for each key
// that goes into a PTY whose output alone it reads, and for all that comes from a
// socket that it only writes to: on a busy machine, before those whom the key is for.
//
// The descriptor stays the caller's. Safe for concurrent use, but only one goroutine
// may be in pass.
type gate struct {
	file *os.File // an epoll instance, which the runtime's poller waits for
	raw  syscall.RawConn
}

// newGate watches fd for events, EPOLLIN or EPOLLOUT.
func newGate(fd int, events uint32) (*gate, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch a descriptor: %w", err)
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events})
	if err == nil {
		err = unix.SetNonblock(epoll, true) // has os wait for it
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch a descriptor: %w", err), unix.Close(epoll))
	}
	g := &gate{file: os.NewFile(uintptr(epoll), "epoll")}
	if g.raw, err = g.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, g.file.Close())
	}
	return g, nil
}

// pass calls try until it reports that it need not wait any more. Between the calls
// it waits for the descriptor. It returns os.ErrDeadlineExceeded after the deadline,
// and os.ErrClosed after close.
func (g *gate) pass(try func() bool) error {
	err := g.raw.Read(func(uintptr) bool { return try() })
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrClosed
	}
	return err
}

// setDeadline bounds current and later calls of pass; the zero time does not.
func (g *gate) setDeadline(t time.Time) { _ = g.file.SetReadDeadline(t) }

// close ends pass. What pass tries must still have the descriptor, or its number may be
// another's.
func (g *gate) close() { _ = g.file.Close() }
