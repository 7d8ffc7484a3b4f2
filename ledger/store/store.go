package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Limits of the write path.
const (
	// maxGroup is how many updates may share one commit. It bounds how much
	// work is thrown away when one of them fails after having written.
	maxGroup = 256
	// queueLength is how many updates may wait for the writer; past it callers
	// block, which is the back-pressure.
	queueLength = 1024
	// lockTimeout is how long Open waits for another process to let go of the file.
	lockTimeout = 2 * time.Second
)

// ErrClosed is returned by Update after Close.
var ErrClosed = errors.New("store: closed")

// ErrLocked is returned by Open when another process has the file open.
var ErrLocked = errors.New("store: the database is open in another process")

// Store is an open database. Its methods may be called from many goroutines.
type Store struct {
	db     *bbolt.DB
	queue  chan *update
	closed chan struct{} // closed by Close: no more updates are accepted
	done   chan struct{} // closed by the writer when it has drained the queue
	feed   feed
}

// Open opens or creates the database file at path (mode 0600) and migrates it
// to the newest schema. The caller must Close it.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := migrate(db, migrations); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	s := &Store{
		db:     db,
		queue:  make(chan *update, queueLength),
		closed: make(chan struct{}),
		done:   make(chan struct{}),
	}
	go s.write()
	return s, nil
}

// Close waits for the updates that were accepted and closes the file.
// It must be called once.
func (s *Store) Close() error {
	close(s.closed)
	<-s.done
	return s.db.Close()
}

// View runs fn in a read-only transaction: one consistent moment, never blocked
// by writers. Nothing that fn got from the transaction may be used after it.
func (s *Store) View(fn func(*Tx) error) error {
	return s.db.View(func(b *bbolt.Tx) error { return fn(&Tx{bolt: b}) })
}

// Backup writes a consistent copy of the whole database to w while others go on
// reading and writing.
func (s *Store) Backup(w io.Writer) error {
	return s.db.View(func(b *bbolt.Tx) error {
		_, err := b.WriteTo(w)
		return err
	})
}

// Update runs fn in a read-write transaction and returns once its effects are
// on disk. An error from fn undoes all that fn did, and nothing else.
//
// Updates that wait at the same time share one commit and one fsync. For that
// fn may be run more than once: it must have no effect outside the transaction
// (use Tx.OnCommit for those) and must set, not accumulate, the variables that
// it captures.
//
// If ctx ends first, Update returns its error; the update may still happen.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	u := &update{fn: fn, result: make(chan outcome, 1)}
	select {
	case <-s.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case s.queue <- u:
	}
	select {
	case out := <-u.result:
		return out.value()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		select { // the writer may have answered just before it ended
		case out := <-u.result:
			return out.value()
		default:
			return ErrClosed
		}
	}
}
