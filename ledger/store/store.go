package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Limits of the write path.
const (
	// maxGroup is how many updates may share one commit. It bounds how long an
	// update can take, and how much work is thrown away when one of them fails
	// after having written.
	maxGroup = 1024
	// queueLength is how many updates may wait for the writer; past it callers
	// block, which is the back-pressure.
	queueLength = 4096
	// gatherTime is how long a group is kept open for callers who are known to
	// come. An fsync takes as long; a lone caller never waits for it.
	gatherTime = 150 * time.Microsecond
	// gatherYields bounds the same where time stands still, under a test's clock.
	gatherYields = 4096
	// lockTimeout is how long Open waits for another process to let go of the file.
	lockTimeout = 2 * time.Second
	// mapBytes is the address space that is set aside for the file. As long as it
	// is enough, writers that let the file grow need not wait for readers, nor
	// readers for them.
	mapBytes = 64 << 30
)

// Errors of the store as a whole.
var (
	// ErrClosed is returned by Update after Close.
	ErrClosed = errors.New("store: closed")
	// ErrLocked is returned by Open when another process has the file open.
	ErrLocked = errors.New("store: the database is open in another process")
	// ErrBroken is returned by Update once the disk has failed in a way that
	// leaves open what is on it. Reading goes on.
	ErrBroken = errors.New("the disk failed while the database was written, and nothing more is written to it: mend the disk and restart EcoLink")
)

// Store is an open database. Its methods may be called from many goroutines.
type Store struct {
	db    *bbolt.DB
	path  string
	queue queue
	done  chan struct{} // closed by the writer when it has drained the queue
	feed  feed
	used  sync.Pool // of *update

	writing sync.Mutex // held while a group is gathered and committed; guards the rest

	group    []*update // reused
	expected int       // how many callers are about to come again
	broken   error     // why nothing is written any more
}

// Close waits for the updates that were accepted and closes the file.
// It must be called once.
func (s *Store) Close() error {
	s.queue.close()
	<-s.done
	s.writing.Lock() // an update that found the file free commits by itself
	defer s.writing.Unlock()
	return s.db.Close()
}

// View runs fn in a read-only transaction: one consistent moment, never blocked
// by writers. Nothing that fn got from the transaction may be used after it.
func (s *Store) View(fn func(*Tx) error) (err error) {
	defer catchDamage(&err)
	defer guard()()
	return s.db.View(func(b *bbolt.Tx) error { return fn(&Tx{bolt: b}) })
}

// Update runs fn in a read-write transaction and returns once its effects are
// on disk. An error from fn undoes all that fn did, and nothing else.
//
// Updates that wait at the same time share one commit and one fsync. For that
// fn may be run more than once: it must have no effect outside the transaction
// (use Tx.OnCommit for those) and must set, not accumulate, the variables that
// it captures.
//
// If ctx ends while the update waits for others, Update returns its error; the
// update may still happen.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u := s.newUpdate(fn)
	if s.alone(u) {
		return s.finish(u, <-u.result)
	}
	if err := s.queue.add(ctx, u); err != nil {
		return err
	}
	if ctx.Done() == nil {
		return s.finish(u, <-u.result)
	}
	select {
	case out := <-u.result:
		return s.finish(u, out)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alone commits the update in its caller's goroutine if nobody else is writing
// or waiting to: handing it to the writer and back would cost two switches.
func (s *Store) alone(u *update) bool {
	if !s.writing.TryLock() {
		return false
	}
	defer s.writing.Unlock()
	if s.expected > 1 || !s.queue.idle() { // others came first, or are about to: share
		return false
	}
	defer guard()()
	s.group = append(s.group[:0], u)
	s.commit(s.group)
	return true
}
