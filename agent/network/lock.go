package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockRunDir takes the one lock of a RunDir. It waits a while, as plugins of a
// process that was killed inherited the lock and may be about to end. Closing
// the file lets go, and so does the end of the process.
func lockRunDir(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%w: another process holds %s: stop it first", ErrInUse, f.Name()), f.Close())
		case <-time.After(lockPause):
		}
	}
}

// locks are the right to run a network: alone in its RunDir and, of those on
// this host, alone with its name, which the marks and tables bear.
type locks struct{ dir, name *os.File }

func takeLocks(ctx context.Context, cfg Config) (l locks, err error) {
	if l.dir, err = lockRunDir(ctx, cfg.RunDir); err != nil {
		return l, err
	}
	if l.name, err = lockName(ctx, cfg.Name); err != nil {
		return l, errors.Join(err, l.dir.Close())
	}
	return l, nil
}

// Close lets go of both.
func (l locks) Close() error { return errors.Join(l.name.Close(), l.dir.Close()) }

// lockName takes an abstract Unix address, as those belong to the same network
// namespace as the bridge and the tables do, and end with the process. Plugins
// do not inherit it; only a child that a killed process left before it became a
// program has it, for a moment.
func lockName(ctx context.Context, name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "lock of the name "+name)
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	for {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: "@ecolink-network-" + name})
		if !errors.Is(err, unix.EADDRINUSE) || !sleep(ctx, lockPause) {
			break
		}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: another process runs a network of this name in another folder: stop it or choose another name", ErrInUse)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// claim is what this network has claimed on the host. It is written before the
// bridge is made, so that a bridge which a crash left unmarked is known again,
// and a changed configuration finds what to clear away.
type claim struct {
	Name   string       `json:"name"`
	Bridge string       `json:"bridge"`
	Subnet netip.Prefix `json:"subnet"`
}

func (c Config) claim() claim { return claim{Name: c.Name, Bridge: c.Bridge, Subnet: c.Subnet} }

func claimFile(dir string) string { return filepath.Join(dir, "network.json") }

// readClaim answers the zero claim when there is none, or none that can be
// read: it is written in one step, so that only a power cut leaves such a one,
// and no bridge outlives that.
func readClaim(dir string) (claim, error) {
	text, err := os.ReadFile(claimFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return claim{}, nil
	}
	if err != nil {
		return claim{}, err
	}
	var c claim
	if json.Unmarshal(text, &c) != nil {
		return claim{}, nil
	}
	return c, nil
}

func writeClaim(dir string, c claim) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(claimFile(dir)+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(claimFile(dir)+".new", claimFile(dir))
}
