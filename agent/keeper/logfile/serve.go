package logfile

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBytes is the most that is taken from a pipe at once.
	readBytes = 64 << 10
	// pipeBytes is what we ask the kernel to hold between the container and
	// us, so that a short stall of the disk does not reach the container.
	pipeBytes = 256 << 10
	// partialAfter is how long an unfinished line waits for its newline before
	// it is written as it is: a prompt must be seen.
	partialAfter = 100 * time.Millisecond
	// gatherFor is the pause after a small read, in which more lines collect
	// for one write. It bounds both the delay of a line and our share of a CPU.
	gatherFor = 2 * time.Millisecond
	// retryAfter is how often a note of lost records is tried again while the
	// container is silent.
	retryAfter = time.Second
)

// Serve writes what comes from the two pipes into the log until both have
// ended, then returns nil. It calls ready once when it can take output. It
// returns an error only for a wrong config, unusable descriptors or a failed
// ready; trouble with the disk is counted and noted in the log instead.
//
// It uses the calling goroutine alone and about 300 KiB of memory.
//
// A caller that is a process of its own should ignore SIGTERM: the shim sends
// it after closing its ends of the pipes, and what they still hold is to be
// written; at any other time, a writer that leaves would kill the container
// with SIGPIPE.
func Serve(config Config, stdout, stderr *os.File, ready func() error) error {
	if err := config.check(); err != nil {
		return fmt.Errorf("log writer: %w", err)
	}
	w := &files{config: config, now: time.Now}
	b := &batch{write: w.write}
	out, err := newPipe(Stdout, stdout)
	if err != nil {
		return fmt.Errorf("log writer: %w", err)
	}
	errs, err := newPipe(Stderr, stderr)
	if err != nil {
		return fmt.Errorf("log writer: %w", err)
	}
	_ = w.open() // when it fails, so does the first write, which counts
	if err := ready(); err != nil {
		return fmt.Errorf("log writer: %w", err)
	}
	copyAll(&pipes{out, errs}, b, w)
	w.write(nil) // the last chance to note losses
	return nil
}

// copyAll is the writer's loop: wait, read what is there, write it at once.
func copyAll(p *pipes, b *batch, w *files) {
	buf := make([]byte, readBytes)
	for p.wait(p.timeout(w.lostRecords > 0)) {
		now := time.Now()
		b.at(now)
		got := 0
		for _, one := range p {
			if one.ready {
				n := one.read(buf)
				one.feed(b, buf[:n], now)
				got += n
			}
			if one.ended || one.overdue(now) {
				one.flush(b)
			}
		}
		b.flush()
		switch {
		case got == 0:
			w.write(nil)
		case got < readBytes/2:
			time.Sleep(gatherFor)
		}
	}
}

// pipes are the container's stdout and stderr.
type pipes [2]*pipe

// timeout says how long to wait for output before something else is due;
// negative is for ever.
func (p *pipes) timeout(lossesToNote bool) time.Duration {
	due := time.Duration(-1)
	if lossesToNote {
		due = retryAfter
	}
	for _, one := range p {
		if len(one.pending) == 0 {
			continue
		}
		left := max(0, partialAfter-time.Since(one.since))
		if due < 0 || left < due {
			due = left
		}
	}
	return due
}

// wait blocks until a pipe can be read or the time is over, and marks the pipes
// that can be read. It answers false when both have ended.
func (p *pipes) wait(limit time.Duration) bool {
	var fds [len(p)]unix.PollFd
	open := false
	for i, one := range p {
		fds[i] = unix.PollFd{Fd: int32(one.fd), Events: unix.POLLIN}
		if one.ended {
			fds[i].Fd = -1 // poll(2) skips negative descriptors
		}
		open = open || !one.ended
	}
	if !open {
		return false
	}
	ms := -1
	if limit >= 0 {
		ms = int((limit + time.Millisecond - 1) / time.Millisecond) // up, or it would spin below 1 ms
	}
	if _, err := unix.Poll(fds[:], ms); err != nil && err != unix.EINTR {
		time.Sleep(partialAfter) // the kernel is out of memory: no reason to give up, none to spin
	}
	for i, one := range p {
		one.ready = fds[i].Revents != 0
	}
	return true
}

// pipe is one of the container's output pipes, read with plain system calls:
// poll(2) over two descriptors needs no goroutines and no locks.
type pipe struct {
	stream
	file  *os.File // keeps fd open
	fd    int
	ready bool // there is something to read, be it the end
	ended bool
}

func newPipe(name string, file *os.File) (*pipe, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &pipe{stream: stream{name: name}, file: file}
	if err := conn.Control(func(fd uintptr) { p.fd = int(fd) }); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := unix.SetNonblock(p.fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	_, _ = unix.FcntlInt(uintptr(p.fd), unix.F_SETPIPE_SZ, pipeBytes) // a wish: the default size will do
	return p, nil
}

// read takes what is there, readBytes at most, and marks the end of the pipe.
func (p *pipe) read(buf []byte) int {
	for {
		n, err := unix.Read(p.fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0
		case err != nil || n == 0:
			p.ended = true
			return 0
		default:
			return n
		}
	}
}
