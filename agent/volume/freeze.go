package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// freezeTimeout is how long writes to a volume may be made to wait for a copy.
// Where blocks can be shared, it takes milliseconds.
const freezeTimeout = 30 * time.Second

// guardDelay is how much longer the guard of a stopped file system waits for us.
const guardDelay = 10 * time.Second

// whileFrozen stops all writing to a mounted file system, with everything that
// was written on the disk and the journal empty, while do works. It goes on after
// freezeTimeout, and even if this process is killed.
func whileFrozen(ctx context.Context, path string, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, freezeTimeout, refuse(
		"there is too much in it to copy while it is in use: writing to it would stand still for more than %s. Detach it and try again", freezeTimeout))
	defer cancel()
	// The guard's signal comes with the end of the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g, err := startGuard(path)
	if err != nil {
		return fmt.Errorf("guard a stopped file system: %w", err)
	}
	defer func() { err = errors.Join(err, g.dismiss()) }()
	if err := freeze(path); err != nil {
		return fmt.Errorf("stop writing to %s: %w", path, err)
	}
	defer func() {
		// If another let it go on before, the copy is not of one moment.
		if thawErr := thaw(path); thawErr != nil {
			err = errors.Join(err, fmt.Errorf("let writing to %s go on: %w", path, thawErr))
		}
	}()
	return do(ctx)
}

// guard is a process that lets a file system go on when this process is killed.
//
// That a pipe closes would not tell it: a killed process that has a thread
// waiting to write to that very file system keeps its files open until it may.
// The kernel tells it instead, with a signal, when the thread that started it
// ends. Should it miss that, it acts after a while.
type guard struct{ cmd *exec.Cmd }

const guardScript = `trap "" INT HUP; trap : TERM; echo ready
sleep "$1" >/dev/null 2>&1 &
wait $!; fsfreeze --unfreeze "$0" 2>/dev/null; kill $! 2>/dev/null; exit 0`

// startGuard must be called with the thread locked.
func startGuard(path string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, path, strconv.Itoa(int((freezeTimeout + guardDelay).Seconds())))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &guard{cmd}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		return nil, errors.Join(err, g.dismiss())
	}
	return g, nil
}

// dismiss ends the guard and waits for it, so that it can't let go of what
// another call stops after this one.
func (g *guard) dismiss() error {
	return errors.Join(g.cmd.Process.Signal(syscall.SIGTERM), g.cmd.Wait())
}

func freeze(path string) error { return onDir(path, fiFreeze) }

// thaw is an error, EINVAL, where nothing is frozen.
func thaw(path string) error { return onDir(path, fiThaw) }

func onDir(path string, request uint) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return retryEINTR(func() error { return unix.IoctlSetInt(int(dir.Fd()), request, 0) })
}
