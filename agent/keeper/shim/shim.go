package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The descriptors that the shim puts in place, in the order of its ExtraFiles.
const (
	stdoutFD = 3
	stderrFD = 4
	readyFD  = 5
)

// Handover is what the shim gave this process.
type Handover struct {
	// Stdout and Stderr are the reading ends of the container's pipes. They
	// do not block, so reads honour deadlines. With a PTY all output comes on
	// Stdout, and Stderr carries nothing.
	Stdout, Stderr *os.File

	ready *os.File
}

// TakeOver claims descriptors 3, 4 and 5. It must be called at most once and
// before anything else opens a file. It fails when one of them is not open,
// which means that somebody other than a shim started the program.
func TakeOver() (*Handover, error) {
	for _, fd := range []int{stdoutFD, stderrFD, readyFD} {
		var info unix.Stat_t
		if err := unix.Fstat(fd, &info); err != nil {
			return nil, fmt.Errorf("descriptor %d: %w: this role is for containerd's shim to start", fd, err)
		}
	}
	for _, fd := range []int{stdoutFD, stderrFD} {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return &Handover{
		Stdout: os.NewFile(stdoutFD, "container-stdout"),
		Stderr: os.NewFile(stderrFD, "container-stderr"),
		ready:  os.NewFile(readyFD, "shim-ready"),
	}, nil
}

// Ready lets the shim go on to start the container's process; call it once,
// when everything is in place to take its output.
//
// It writes a byte before it closes the pipe: a "binary-v2" URI takes a close
// without one for a crash, and a plain "binary" URI accepts both.
func (h *Handover) Ready() error {
	_, err := h.ready.Write([]byte{0})
	if closeErr := h.ready.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("tell the shim that we are ready: %w", err)
	}
	return nil
}

// ParseArgs turns the shim's alternating arguments, `key value key value…`,
// into a map. The shim makes them from a URI's query by ranging over a Go map,
// so their order is random and means nothing. An odd count or a repeated key
// is an error.
func ParseArgs(args []string) (map[string]string, error) {
	if len(args)%2 != 0 {
		return nil, fmt.Errorf("arguments must come in pairs, got %d", len(args))
	}
	pairs := make(map[string]string, len(args)/2)
	for i := 0; i < len(args); i += 2 {
		key := args[i]
		if _, seen := pairs[key]; seen {
			return nil, fmt.Errorf("argument %q is given twice", key)
		}
		pairs[key] = args[i+1]
	}
	return pairs, nil
}
