package store

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// write commits, in groups, the updates that found the file busy: whatever has
// queued up while the last commit was on its way to the disk becomes the next. So
// under load many updates share an fsync, and at rest none waits. They are taken
// in the order in which they came.
func (s *Store) write() {
	defer close(s.done)
	for range s.queue.wake {
		for s.commitNext() {
		}
	}
	for s.commitNext() { // what came just before the queue was closed
	}
}

// commitNext commits a group; false when nobody waits.
func (s *Store) commitNext() bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	group := s.gather()
	if len(group) == 0 {
		return false
	}
	s.commit(group)
	return true
}

// gather takes what has queued up. The callers of the group before are about to
// come again: they are awaited for a moment, so that all share one commit and do
// not take turns in two.
func (s *Store) gather() []*update {
	group := s.queue.take(s.group[:0], maxGroup)
	var begun time.Time
	for yields := 0; len(group) > 0 && len(group) < min(s.expected, maxGroup) && yields < gatherYields; yields++ {
		if begun.IsZero() {
			begun = time.Now()
		} else if time.Since(begun) > gatherTime {
			break
		}
		runtime.Gosched()
		group = s.queue.take(group, maxGroup-len(group))
	}
	s.group = group
	return group
}

// commit runs a group in one bbolt transaction. bbolt has no savepoints, so an
// update that fails after it has written forces the group to be run again
// without it. Nobody hears of a result before the commit: an update that failed
// may have failed because of what another one in its group wrote.
func (s *Store) commit(group []*update) {
	results := make([]outcome, len(group))
	err := s.broken
	for again := err == nil; again; {
		var tx *Tx
		if tx, again, err = s.attempt(group, results); err != nil || again {
			continue
		}
		s.feed.publish(tx.changes)
		for _, f := range tx.onCommit {
			f()
		}
	}
	// Those who wait now and those of this group are different callers. Not all of
	// them come again: some do other things meanwhile.
	s.expected = ((len(group)+s.queue.length())*15 + 15) / 16
	for n, u := range group {
		if err != nil { // the disk said no: nothing of this group happened
			results[n] = outcome{err: err}
		}
		u.result <- results[n]
		group[n] = nil
	}
}

// attempt runs those of the group that have no result yet. again is true when an
// update failed after writing; its result is then set, and the group is to be
// tried without it.
func (s *Store) attempt(group []*update, results []outcome) (tx *Tx, again bool, err error) {
	defer catchDamage(&err)
	b, err := s.db.Begin(true)
	if err != nil {
		return nil, false, fmt.Errorf("begin: %w", err)
	}
	finished, committing := false, false
	defer func() {
		if finished {
			return
		}
		// Something panicked: leave no lock behind. A commit that did not come to
		// its end leaves bbolt's picture of the file wrong.
		if committing {
			s.broken = fmt.Errorf("%w: %w", ErrBroken, ErrDamaged)
		}
		_ = b.Rollback()
	}()
	tx = &Tx{bolt: b}
	for n, u := range group {
		if results[n].done {
			continue
		}
		written, changes, hooks, locals := tx.written, len(tx.changes), len(tx.onCommit), len(tx.locals)
		out := run(u.fn, tx)
		if out.err == nil && out.panicked == nil {
			continue
		}
		out.done = true
		results[n] = out
		if tx.written != written {
			finished = true
			return nil, true, rollback(b)
		}
		tx.changes, tx.onCommit, tx.locals = tx.changes[:changes], tx.onCommit[:hooks], tx.locals[:locals]
	}
	if tx.written == 0 {
		finished = true
		return tx, false, rollback(b) // nothing was written: nothing to flush
	}
	if err := errors.Join(tx.flush(), stamp(b)); err != nil {
		finished = true
		return nil, false, errors.Join(err, rollback(b))
	}
	id := b.ID() // which it forgets when it fails
	committing = true
	err = b.Commit()
	if finished = true; err != nil {
		return nil, false, s.refused(id, err)
	}
	return tx, false, nil
}

// refused decides what a failed commit means. While the disk has only refused to
// take a page (it is full, or read-only), the old state stands and the next
// commit may succeed. After anything else it is not known what is on the disk:
// an fsync that failed once may say yes the next time without having written
// (the kernel forgets the pages), so nothing is written any more until EcoLink
// opens the file anew.
func (s *Store) refused(id int, cause error) error {
	err := fmt.Errorf("commit: %w", cause)
	harmless := errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT) || errors.Is(cause, unix.EROFS)
	if harmless && s.lastCommit() < id {
		return fmt.Errorf("%w: nothing was changed; make room on the disk, or make it writable, and try again", err)
	}
	s.broken = fmt.Errorf("%w: %w", ErrBroken, cause)
	return errors.Join(err, s.broken)
}

// lastCommit is the number of the newest transaction that readers see.
func (s *Store) lastCommit() (id int) {
	_ = s.db.View(func(b *bbolt.Tx) error { id = b.ID(); return nil })
	return id
}

func rollback(b *bbolt.Tx) error {
	if err := b.Rollback(); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

func run(fn func(*Tx) error, tx *Tx) (out outcome) {
	defer func() {
		if p := recover(); p != nil {
			if err := damage(p); err != nil {
				out = outcome{err: err}
				return
			}
			out = outcome{panicked: p}
		}
	}()
	return outcome{err: fn(tx)}
}
