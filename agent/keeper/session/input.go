package session

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// input is the terminal's keyboard: it writes what clients type into the FIFO
// that the shim reads, one piece after the other.
//
// There is no queue here. A program that does not read fills the PTY, then the
// FIFO (64 KiB), then each client's socket, and then the client waits. So
// nothing is lost of a long paste, and nothing grows.
type input struct {
	fifo *os.File
	turn chan struct{} // holds one token: whoever has it may write
}

// openInput opens the FIFO for reading and writing. That never waits for the
// shim to open its end, and as long as it is open the shim sees no end of
// input, which would close the console: the session must not end because
// EcoLink, the other writer, was stopped. Nothing is read from it here.
func openInput(path string) (*input, error) {
	fifo, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := fifo.Stat()
	if err == nil && info.Mode().Type() != os.ModeNamedPipe {
		err = &os.PathError{Op: "open", Path: path, Err: errors.New("not a FIFO")}
	}
	if err != nil {
		_ = fifo.Close()
		return nil, err
	}
	in := &input{fifo: fifo, turn: make(chan struct{}, 1)}
	in.turn <- struct{}{}
	return in, nil
}

// close ends all writes, waiting ones included.
func (in *input) close() { _ = in.fifo.Close() }

// write writes p, inputBytes at most, undivided by other clients' input. While
// the program does not read, it waits, and asks now and then whether the client
// is gone; then it gives up, so that dead clients do not pile up behind a
// program that never reads again.
func (in *input) write(p []byte, gone func() bool) error {
	for waiting := true; waiting; {
		select {
		case <-in.turn:
			waiting = false
		case <-time.After(blockedCheck):
			if gone() {
				return errLeft
			}
		}
	}
	defer func() { in.turn <- struct{}{} }()
	for len(p) > 0 {
		// Only the holder of the turn touches the deadline. A closed FIFO
		// shows in the write.
		_ = in.fifo.SetWriteDeadline(time.Now().Add(blockedCheck))
		n, err := in.fifo.Write(p)
		p = p[n:]
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if gone() {
				return errLeft
			}
		case err != nil:
			return err
		}
	}
	return nil
}
