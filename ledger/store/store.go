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
	// update can take.
	maxGroup = 1024
	// maxRuns is how often the updates of a group are run, on average, because others
	// in it fail, before it is split.
	maxRuns = 4
	// queueLength is how many updates may wait for the writer; past it callers
	// block, which is the back-pressure.
	queueLength = 4096
	// gatherTime is how long a group is kept open for callers who are known to
	// come. An fsync takes as long. A lone caller does not wait for it, except once
	// after a group: nobody has told it that the others are gone.
	gatherTime = 150 * time.Microsecond
	// gatherYields bounds the same where time stands still, under a test's clock.
	gatherYields = 4096
	// lockTimeout is how long Open waits for another process to let go of the file.
	lockTimeout = 2 * time.Second
	// lockPause is how long it waits between two tries for one that is being created.
	lockPause = 50 * time.Millisecond
	// mapBytes is the address space that is set aside for the file. As long as it
	// is enough, writers that let the file grow need not wait for readers, nor
	// readers for them.
	mapBytes = 64 << 30
)

// Errors of the store as a whole.
var (
	// ErrClosed is returned by View and Update after Close.
	ErrClosed = errors.New("store: closed")
	// ErrLocked is returned by Open when another process has the file open.
	ErrLocked = errors.New("store: the database is open in another process")
	// ErrBroken is returned by Update once the disk has failed in a way that
	// leaves open what is on it. View goes on where bbolt still shows what was on
	// disk before. Where it shows the commit that failed, which it can't take back
	// before the file is opened anew, every View returns this error too.
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

	durable durable
	dead    dead

	writing sync.Mutex // held while a group is gathered and committed; guards the rest

	group    []*update // reused
	size     int       // of the group before it was split
	expected int       // how many callers are about to come again
	broken   error     // why nothing is written any more
	exiting  bool      // an update is ending this goroutine
}

// Close waits for the updates that were accepted, and for those who read, and closes
// the file. It must be called once.
func (s *Store) Close() error {
	s.queue.close()
	<-s.done
	s.writing.Lock() // an update that found the file free commits by itself
	defer s.writing.Unlock()
	return s.db.Close()
}

// View runs fn in a read-only transaction: one consistent moment, which writers
// neither change nor hold up. Nothing that fn got from the transaction may be used
// after it.
//
// The moment may be that of a commit which is being synced to disk. Then View
// returns when it is there: after fn, and at most one flush later. What fn has told
// others by itself, before View returned nil, a power cut can undo. If the commit
// fails, View returns ErrBroken.
func (s *Store) View(fn func(*Tx) error) error {
	defer guard()()
	b, err := s.begin(false)
	if err != nil {
		return err
	}
	seen := b.ID()
	err = s.read(b, fn)
	if lost := s.durable.await(seen); lost != nil {
		return lost
	}
	return err
}

// read runs fn and ends the transaction, whatever fn does.
func (s *Store) read(b *bbolt.Tx, fn func(*Tx) error) (err error) {
	tx := &Tx{bolt: b, store: s}
	defer func() {
		tx.ended = true
		if end := rollback(b); err == nil {
			err = end
		}
	}()
	defer catchDamage(&err)
	return fn(tx)
}

// Update runs fn in a read-write transaction and returns once its effects are
// on disk. An error from fn undoes all that fn did, and nothing else.
//
// Updates that wait at the same time share one commit and one fsync. For that
// fn may be run more than once: it must have no effect outside the transaction
// (use Tx.OnCommit for those) and must set, not accumulate, the variables that
// it captures.
//
// If ctx ends while the update waits its turn, nothing happens and its error is
// returned. Once begun, an update is waited for: that takes as long as the commit.
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
		if u.state.CompareAndSwap(waiting, gone) {
			return ctx.Err()
		}
		return s.finish(u, <-u.result)
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
	s.commit(s.group, make([]outcome, 1))
	return true
}
