package session

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Shell is the beginning of a terminal's shell, inside its container: it makes a
// PTY, shows it to the host on standard output, waits until the host has taken
// it over, and becomes the shell argv on the other side of it. It returns only
// when that fails.
//
// The shim's own PTY would do, but every byte would go through the shim, twice
// for a key and its echo.
func Shell(argv []string) error {
	if len(argv) == 0 {
		return errors.New("a terminal needs a program to run")
	}
	master, slave, err := newPTY()
	if err != nil {
		return fmt.Errorf("make a PTY: %w", err)
	}
	before, err := unix.IoctlGetTermios(slave, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("make a PTY: %w", err)
	}
	before.Iflag |= unix.IUTF8
	raw := *before
	raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	raw.Iflag &^= unix.ICRNL | unix.IXON
	if err := unix.IoctlSetTermios(slave, unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("make a PTY: %w", err)
	}
	if _, err := fmt.Fprintf(os.Stdout, "PTY %d\n", master); err != nil {
		return err
	}
	if err := awaitHost(slave); err != nil {
		return err
	}
	if err := unix.IoctlSetTermios(slave, unix.TCSETS, before); err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: runc has done it
		return fmt.Errorf("begin a session: %w", err)
	}
	if err := unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take the PTY as terminal: %w", err)
	}
	// The shim keeps its end of our output open, so that no end of it tells.
	if _, err := fmt.Fprint(os.Stdout, "GO\n"); err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("run %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}

// awaitHost waits for the host's first byte.
func awaitHost(slave int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(slave), Events: unix.POLLIN}}, int(adoptTimeout.Milliseconds()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return errors.New("nobody takes the terminal over")
		}
		_, err = unix.Read(slave, make([]byte, 1))
		return err
	}
}

// newPTY opens both sides of a new PTY; neither outlives an exec.
func newPTY() (master, slave int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, 0, errors.Join(err, unix.Close(master))
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		slave, err = unix.Open(fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return 0, 0, errors.Join(err, unix.Close(master))
	}
	return master, slave, nil
}
