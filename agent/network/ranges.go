package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ecolink/agent/userns"
)

// rangesDir is where all networks of a machine note which ranges of ids they use: the
// one folder that those of several boxes, with nothing else in common, all know.
const rangesDir = "/run/ecolink-ids"

// rangeLinks are the notes: for each range a link, to the user namespace that has it.
// A link counts for as long as the record of that namespace is there, which is
// written before the link is made and removed after the namespace is gone. So what a
// box that is stopped keeps running keeps its ids, what a killed one has left half
// made gives them back when it is taken apart, and a box that was deleted has none.
// Networks in several processes may use the folder at once.
type rangeLinks struct{ dir string }

func (l rangeLinks) path(r userns.Range) string {
	return filepath.Join(l.dir, strconv.FormatUint(uint64(r.First), 10))
}

// lock keeps the others off, for the few system calls that a change takes.
func (l rangeLinks) lock() (unlock func() error, err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := lockRunDir(context.Background(), l.dir) // which doesn't wait for ever
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// take notes that user, the path of a user namespace that has a record, has the
// range. ok is false when another one has it.
func (l rangeLinks) take(r userns.Range, user string) (ok bool, err error) {
	unlock, err := l.lock()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	path := l.path(r)
	has, err := os.Readlink(path)
	if err == nil {
		if has == user {
			return true, nil
		}
		if hasRecord(has) {
			return false, nil
		}
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, os.Symlink(user, path)
}

// free lets others have the range, if user has it.
func (l rangeLinks) free(r userns.Range, user string) (err error) {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if has, err := os.Readlink(l.path(r)); err != nil || has != user {
		return nil // it counts for nothing any more, and somebody has seen that already
	}
	return os.Remove(l.path(r))
}

// sweep removes the links that count for nothing, whoever has left them.
func (l rangeLinks) sweep() (err error) {
	if _, err := os.Stat(l.dir); errors.Is(err, fs.ErrNotExist) {
		return nil // nobody has had user namespaces yet
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(l.dir, entry.Name())
		if has, err := os.Readlink(path); err != nil || hasRecord(has) {
			continue // not a link: the lock
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// hasRecord tells whether the network that a user namespace belongs to has a record.
// It looks in the order that records move in, so that it misses none that does so
// meanwhile. In doubt there is one.
func hasRecord(user string) bool {
	id := filepath.Base(user)
	dir := filepath.Join(filepath.Dir(filepath.Dir(user)), "records")
	for _, state := range []string{stateMaking, stateWarm, stateOwned, stateRemoving} {
		if state != stateOwned {
			if _, err := os.Lstat(filepath.Join(dir, state, id)); !errors.Is(err, fs.ErrNotExist) {
				return true
			}
			continue
		}
		entries, err := os.ReadDir(filepath.Join(dir, state))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), id+"@") {
				return true
			}
		}
	}
	return false
}

// takeFromAll takes a range that this network does not use from the others of this
// machine. ok is false when one of them uses it.
func (n *Network) takeFromAll(r userns.Range, id string) (ok bool, err error) {
	ok, err = rangeLinks{rangesDir}.take(r, n.userFiles(id).Path)
	if err != nil {
		err = fmt.Errorf("take the ids from %d on: %w", r.First, err)
	}
	return ok, err
}
