package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// unfinished is what a database is called until its creation is on disk.
const unfinished = ".new"

// Open opens or creates the database file at path (mode 0600) and migrates it
// to the newest schema. The caller must Close it.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("open or create database %s: %w", path, err)
	}
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if err := prepare(db, path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, errors.Join(err, db.Close()))
	}
	s := &Store{db: db, path: path, queue: newQueue(), done: make(chan struct{})}
	go func() {
		defer guard()()
		s.write()
	}()
	return s, nil
}

func prepare(db *bbolt.DB, path string) (err error) {
	defer catchDamage(&err)
	defer guard()()
	if err := whole(db, path); err != nil {
		return err
	}
	return migrate(db, migrations)
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
	// Its lock says whether another process is creating it right now.
	db, err := bbolt.Open(aside, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) {
		// A power cut ended an earlier attempt. Nothing was ever in it.
		if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		db, err = bbolt.Open(aside, 0o600, &bbolt.Options{Timeout: lockTimeout})
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("%w: %s", ErrLocked, path)
	}
	if err != nil {
		return err
	}
	err = errors.Join(migrate(db, migrations), db.Sync())
	if err == nil {
		// Under its lock: whoever comes meanwhile finds one or the other.
		err = os.Rename(aside, path)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// openFile opens a bbolt file that exists.
func openFile(path string) (db *bbolt.DB, err error) {
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
			file, err = os.OpenFile(name, flag, mode)
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

// syncFolder puts a folder's names on disk.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
