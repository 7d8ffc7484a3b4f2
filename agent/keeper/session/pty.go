package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/keeper/latency"
)

// pty is the master's side of the terminal's PTY, and the shell on the other.
type pty struct {
	file  *os.File        // does not block, and the runtime does not wait for it
	raw   syscall.RawConn // for Control alone
	out   *gate           // opens when there is output
	shell int             // its process id
	pidfd int             // the same, which can't come to mean another process
	exit  *gate           // opens when the shell has exited
	turn  chan struct{}   // holds one token: whoever has it may write

	exited atomic.Bool // the shell has, and reads end
}

// adoption is an ADOPT and its answer.
type adoption struct {
	pid    int
	window Window
	answer chan error
}

// takeOver passes the shell's process id to adopt, and its answer back.
func (h *host) takeOver(pid int, w Window) error {
	a := adoption{pid, w, make(chan error, 1)}
	select {
	case h.adoption <- a:
		return <-a.answer
	case <-h.adopted:
		return errors.New("it has its shell already")
	case <-h.ended:
		return ErrEnded
	case <-time.After(handshakeTimeout):
		return errors.New("its shell does not begin")
	}
}

// adopt waits for the shell and takes its PTY over.
func (h *host) adopt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	hush := func() { _ = h.announce.SetReadDeadline(time.Unix(1, 0)) }
	defer hush()
	stop := context.AfterFunc(ctx, hush)
	defer stop()
	said := h.listen()
	var number int
	if err := (<-said).want("PTY %d", &number); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return errors.New("nobody told which process the shell is")
	case w := <-said: // it waits for us in silence, so it is gone
		if ctx.Err() != nil {
			return errors.New("nobody told which process the shell is")
		}
		return w.failure()
	case a := <-h.adoption:
		var err error
		h.pty, err = openPTY(a.pid, number)
		if err == nil {
			h.window.is = a.window
			h.pty.resize(a.window)
			err = h.letGo(said)
		}
		if err == nil {
			close(h.adopted) // first: who is told may attach at once
		}
		a.answer <- err
		return err
	}
}

// word is a line of what the shell says before it begins, or why there is none.
type word struct {
	line string
	err  error
}

// listen gives the two lines that a shell says. The end of them shows that it is
// gone, or its container with it.
func (h *host) listen() <-chan word {
	said := make(chan word, 2)
	h.work.Go(func() {
		for range cap(said) {
			line, _, err := readLine(h.announce)
			said <- word{line, err}
			if err != nil {
				return
			}
		}
	})
	return said
}

// want reads the line that must come now.
func (w word) want(format string, args ...any) error {
	if n, err := fmt.Sscanf(w.line, format, args...); w.err != nil || err != nil || n != len(args) {
		return w.failure()
	}
	return nil
}

func (w word) failure() error {
	if w.err != nil {
		return fmt.Errorf("the shell did not begin: %w", w.err)
	}
	return fmt.Errorf("the shell did not begin: %s", w.line)
}

// letGo lets the shell begin, which waits for a byte from its terminal, and
// waits until it has.
func (h *host) letGo(said <-chan word) error {
	if err := h.pty.write([]byte{'\n'}, func() bool { return true }); err != nil {
		return err
	}
	return (<-said).want("GO")
}

// openPTY takes the master's side of a PTY from another process.
func openPTY(pid, number int) (*pty, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("find the shell: %w", err)
	}
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err == nil {
		// The process is the user's, who may put anything there. A PTY is
		// nothing but what the user may have anyway.
		if _, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		_ = unix.Close(pidfd)
		return nil, fmt.Errorf("take over the shell's PTY: %w", err)
	}
	p := &pty{shell: pid, pidfd: pidfd, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	if err := p.open(fd); err != nil {
		_ = p.file.Close()
		p.forget()
		return nil, fmt.Errorf("take over the shell's PTY: %w", err)
	}
	return p, nil
}

// open takes the master over.
func (p *pty) open(fd int) (err error) {
	blocks := unix.SetNonblock(fd, false) // while os looks: it would wait for what does not
	p.file = os.NewFile(uintptr(fd), "pty")
	if err := errors.Join(blocks, unix.SetNonblock(fd, true)); err != nil {
		return err
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return err
	}
	if p.exit, err = newGate(p.pidfd, unix.EPOLLIN); err != nil {
		return err
	}
	if p.out, err = newGate(fd, unix.EPOLLIN); err != nil {
		p.exit.close()
	}
	return err
}

// close ends all reads and outlive, and writes within blockedCheck. The kernel then
// hangs up on the shell. forget must follow when nobody uses p any more.
func (p *pty) close() {
	p.exit.close()
	p.out.close()
	_ = p.file.Close()
}
func (p *pty) forget() { _ = unix.Close(p.pidfd) }

// outlive ends reads when the shell has exited, whoever else has the PTY open. It
// returns then, or after close.
func (p *pty) outlive() {
	over := func() bool { // pidfd_open(2)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, 0)
		return n > 0 && err == nil
	}
	if p.exit.pass(over) == nil {
		p.exited.Store(true)
		p.interrupt()
	}
}

// interrupt ends reads.
func (p *pty) interrupt() { p.out.setDeadline(time.Unix(1, 0)) }

// read waits for output. In a flood it takes as much as there is: the kernel gives
// 4 KiB at a time. Bytes that come with an error are good.
func (p *pty) read(buf []byte, flood bool) (n int, err error) {
	waitErr := p.out.pass(func() bool {
		for n < len(buf) {
			var k int
			if k, err = p.take(buf[n:]); err != nil || k == 0 {
				return err != nil || n > 0
			}
			if n += k; !flood {
				return true
			}
		}
		return true
	})
	if err == nil {
		err = waitErr
	}
	return n, err
}

// take gives what output there is; 0: none.
func (p *pty) take(buf []byte) (n int, err error) {
	closed := p.raw.Control(func(fd uintptr) {
		latency.KeepNonblocking(int(fd)) // whoever got hold of it in the container
		n, err = latency.Read(int(fd), buf)
	})
	switch {
	case closed != nil:
		return 0, os.ErrClosed
	case err == unix.EAGAIN:
		return 0, nil
	case err == nil && n == 0:
		return 0, unix.EIO
	}
	return n, err
}

// give sends an answer and with it the PTY's master, for keys that need not take
// the way through this process.
func (p *pty) give(conn *net.UnixConn, answer []byte) error {
	sent := 0
	err := p.raw.Control(func(fd uintptr) {
		sent, _, _ = conn.WriteMsgUnix(answer, unix.UnixRights(int(fd)), nil)
	})
	if err == nil && sent < len(answer) {
		_, err = conn.Write(answer[sent:])
	}
	return err
}

// resize sets the window; the kernel tells the programs. A PTY that is about to
// end has none.
func (p *pty) resize(w Window) {
	_ = p.raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: w.Rows, Col: w.Cols})
	})
}

// write types p, undivided by other clients' input. There is no queue here: a
// program that does not read fills the PTY, then each client's socket, and then
// the client waits. So nothing is lost of a long paste, and nothing grows. While
// it waits it asks now and then whether the client is gone; then it gives up, so
// that dead clients do not pile up behind a program that never reads again.
func (p *pty) write(b []byte, gone func() bool) error {
	select {
	case <-p.turn:
	default:
		if err := p.wait(gone); err != nil {
			return err
		}
	}
	defer func() { p.turn <- struct{}{} }()
	for len(b) > 0 {
		n, err := p.put(b)
		if b = b[n:]; err != nil {
			return err
		}
		if len(b) > 0 && !p.takes(blockedCheck) && gone() {
			return errLeft
		}
	}
	return nil
}

// put types what the PTY takes at once.
func (p *pty) put(b []byte) (n int, err error) {
	closed := p.raw.Control(func(fd uintptr) {
		for err = unix.EINTR; err == unix.EINTR; {
			n, err = unix.Write(int(fd), b)
		}
	})
	switch {
	case closed != nil:
		return 0, os.ErrClosed
	case err == unix.EAGAIN:
		return 0, nil
	}
	return max(n, 0), err
}

// takes waits until the PTY may take more, for a while at most.
func (p *pty) takes(most time.Duration) bool {
	var in *gate
	var err error
	closed := p.raw.Control(func(fd uintptr) { in, err = newGate(int(fd), unix.EPOLLOUT) })
	if closed != nil || err != nil {
		time.Sleep(holdCheck)
		return false
	}
	defer in.close()
	in.setDeadline(time.Now().Add(most))
	return in.pass(func() bool {
		room := 0
		closed := p.raw.Control(func(fd uintptr) {
			room, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		})
		return room > 0 || closed != nil
	}) == nil
}

func (p *pty) wait(gone func() bool) error {
	tick := time.NewTicker(blockedCheck)
	defer tick.Stop()
	for {
		select {
		case <-p.turn:
			return nil
		case <-tick.C:
			if gone() {
				return errLeft
			}
		}
	}
}

// foreground is the process that has the terminal, and its name.
func (p *pty) foreground() (pid int, name string) {
	_ = p.raw.Control(func(fd uintptr) {
		if group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil {
			pid = group
		}
	})
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return pid, ""
	}
	return pid, strings.TrimSpace(string(text))
}

// resting reports whether the shell is at its prompt and has started nothing that
// still runs.
func (p *pty) resting() bool {
	if group, _ := p.foreground(); group != p.shell {
		return false
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.shell))
	if err != nil {
		return false
	}
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", p.shell, task.Name()))
		if err != nil || len(children) > 0 {
			return false
		}
	}
	return true
}
