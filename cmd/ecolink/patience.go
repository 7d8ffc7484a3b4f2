package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process that is killed just as it starts another program leaves a child that is
// not that program yet. Until it is, a moment later, it holds the sockets and locks
// of the dead one, which an EcoLink that is started again finds taken.
const (
	heldTimeout = 3 * time.Second
	// autoHeldTimeout is the same for an address that nobody asked for: what listens
	// there may well be somebody else's, at each start.
	autoHeldTimeout = 500 * time.Millisecond
	heldPause       = 25 * time.Millisecond
)

// whenFree calls take until it fails with something else than busy, at most for
// limit, and gives its last error. The first failure is logged.
func whenFree(ctx context.Context, busy syscall.Errno, limit time.Duration, log *slog.Logger, take func() error) error {
	for begun := time.Now(); ; {
		err := take()
		if !errors.Is(err, busy) || time.Since(begun) >= limit {
			return err
		}
		if log != nil {
			log.Warn("taken, perhaps by a process that is about to end: trying again", "for", limit, "err", err)
			log = nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(heldPause):
		}
	}
}

// listen listens on a TCP address as soon as it is free, at most after limit.
func listen(ctx context.Context, address string, limit time.Duration, log *slog.Logger) (l net.Listener, err error) {
	err = whenFree(ctx, unix.EADDRINUSE, limit, log, func() error {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

// lockRunDir makes this the only EcoLink with the folder. The database's lock is
// of the data folder only, and a second process would take over the containerd
// and the sockets of the first.
func lockRunDir(ctx context.Context, dir string, limit time.Duration, log *slog.Logger) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = whenFree(ctx, unix.EWOULDBLOCK, limit, log, func() error {
		return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("another EcoLink runs with --run-dir %s: stop it or choose another folder: %w", dir, err), f.Close())
	}
	return f.Close, nil
}
