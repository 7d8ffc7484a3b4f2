package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// unfinished is what a database is called until its creation is on disk.
const unfinished = ".new"

// Open opens or creates the database file at path (mode 0600) and migrates it
// to the newest schema. The caller must Close it.
func Open(path string) (*Store, error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("open or create database %s: %w", path, err)
	}
	db, err := openFile(path, nil)
	if err != nil {
		return nil, err
	}
	if err := prepare(db, path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, errors.Join(err, db.Close()))
	}
	s := &Store{db: db, path: path, queue: newQueue(), done: make(chan struct{})}
	s.durable.risen.L = &s.durable.mu
	newest := s.lastCommit()
	if err := s.dead.err(); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, errors.Join(err, db.Close()))
	}
	s.durable.reached(newest)
	go s.write()
	return s, nil
}

// makeFolder makes a folder and those above it, and puts their names on disk.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return SyncFolder(parent)
}

func prepare(db *bbolt.DB, path string) (err error) {
	defer catchDamage(&err)
	defer guard()()
	if err := whole(db, path); err != nil {
		return err
	}
	if err := migrate(db, migrations); err != nil {
		return err
	}
	return db.Sync() // the newest commit may be that of a process that was killed before it had
}

// create makes a new database aside, puts it on disk and only then gives it its
// name: a power cut leaves a database or none, never half of one.
func create(path string) error {
	switch info, err := os.Stat(path); {
	case err == nil && info.Size() == 0: // bbolt would make a new one of it
		return fmt.Errorf("it is empty: %w", ErrDamaged)
	case !errors.Is(err, os.ErrNotExist):
		return err // there, or not to be seen
	}
	aside := path + unfinished
	db, err := openFile(aside, func(f *os.File) error { return emptied(f, aside, path) })
	switch {
	case errors.Is(err, errMade):
		return nil
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("%w: %s", ErrLocked, path)
	case err != nil:
		return err
	}
	err = errors.Join(migrate(db, migrations), db.Sync())
	if err == nil {
		// Under its lock: whoever waits for that finds it done.
		err = os.Rename(aside, path)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

var errMade = errors.New("another process has made it meanwhile")

// emptied takes the lock of an unfinished database (bbolt takes it again, which
// changes nothing) and throws away what a power cut has left in it: nothing was ever
// in it.
func emptied(f *os.File, aside, path string) error {
	if err := lock(f); err != nil {
		return err
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	// Another process may have finished it while this one waited for the lock: then
	// the file is the database.
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		if there, err := os.Stat(aside); err == nil && os.SameFile(there, mine) {
			_ = os.Remove(aside) // this one made it, after that
		}
		return errors.Join(errMade, err)
	}
	if there, err := os.Stat(aside); err != nil || !os.SameFile(there, mine) {
		return errors.Join(errMade, err)
	}
	return f.Truncate(0)
}

// lock waits for a file's lock as bbolt does.
func lock(f *os.File) error {
	for begun := time.Now(); ; time.Sleep(lockPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Since(begun) > lockTimeout {
			return bolterrors.ErrTimeout
		}
	}
}

// openFile opens a bbolt file; before, if not nil, is called with it before bbolt
// looks into it.
func openFile(path string, before func(*os.File) error) (db *bbolt.DB, err error) {
	var file *os.File
	defer func() {
		if err != nil && file != nil {
			// bbolt leaves it mapped and locked when it panics. The lock would
			// outlive the descriptor for as long as the mapping is there.
			_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
			_ = file.Close()
		}
	}()
	defer catchDamage(&err)
	defer guard()()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			if file, err = os.OpenFile(name, flag, mode); err == nil && before != nil {
				err = before(file)
			}
			return file, err
		},
		Timeout:         lockTimeout,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapBytes,
		NoStatistics:    true,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch),
		err != nil && strings.HasPrefix(err.Error(), "file size too small"):
		return nil, fmt.Errorf("open database %s: %w: %w", path, err, ErrDamaged)
	case err != nil:
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return db, nil
}
