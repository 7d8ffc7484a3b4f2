package store

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// write commits, in groups, the updates that found the file busy: whatever has
// queued up while the last commit was on its way to the disk becomes the next. So
// under load many updates share an fsync, and at rest none waits. They are taken
// in the order in which they came.
func (s *Store) write() {
	drained := false
	defer func() {
		if drained {
			close(s.done)
			return
		}
		go s.write() // an update has ended this goroutine
	}()
	defer guard()()
	for open := true; open; _, open = <-s.queue.wake {
		for s.commitNext() {
		}
	}
	for s.commitNext() { // what came just before the queue was closed
	}
	drained = true
}

// commitNext commits a group; false when nobody waits.
func (s *Store) commitNext() bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	group := s.gather()
	if len(group) == 0 {
		return false
	}
	s.commit(group, make([]outcome, len(group)))
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
		group = s.queue.take(group, maxGroup)
	}
	s.group = group
	return group
}

// commit commits a group and tells each of its callers. An update that ends the
// goroutine (by runtime.Goexit, as a test that fails inside does) gets an error as
// its result, and the others go on before the goroutine ends.
func (s *Store) commit(group []*update, results []outcome) {
	s.exiting = false
	defer func() {
		if s.exiting {
			s.commit(group, results)
		}
	}()
	s.size = len(group)
	_ = s.commitParts(group, results, s.broken)
}

// commitParts commits a group in one bbolt transaction, or in two halves, one after
// the other, when so many of it fail that running it again and again would cost n²
// runs. What keeps a part from being committed keeps the rest too: it is returned.
func (s *Store) commitParts(group []*update, results []outcome, err error) error {
	if err == nil {
		var costly bool
		if costly, err = s.commitWhole(group, results); costly {
			half := len(group) / 2
			err = s.commitParts(group[:half], results[:half], nil)
			return s.commitParts(group[half:], results[half:], err)
		}
	}
	// Those who wait now and those of this group are different callers. Not all of
	// them come again: some do other things meanwhile.
	s.expected = ((s.size+s.queue.length())*15 + 15) / 16
	for n, u := range group {
		if u == nil { // it was told before another ended the goroutine
			continue
		}
		if err != nil { // the disk said no: nothing of this group happened
			results[n] = outcome{err: err}
		}
		u.result <- results[n]
		group[n], results[n].done = nil, true
	}
	return err
}

// commitWhole runs a group in one bbolt transaction. bbolt has no savepoints, so an
// update that fails after it has written forces the group to be run again without
// it; costly is true when that should be given up. Nobody hears of a result before
// the commit: an update that failed may have failed because of what another one in
// its group wrote.
func (s *Store) commitWhole(group []*update, results []outcome) (costly bool, err error) {
	for runs := 0; ; {
		tx, again, err := s.attempt(group, results, &runs)
		switch {
		case err != nil:
			return false, err
		case again && len(group) > 1 && runs > maxRuns*len(group):
			return true, nil
		case again:
			continue
		}
		s.feed.publish(tx.changes)
		for _, f := range tx.onCommit {
			f()
		}
		return false, nil
	}
}

// attempt runs those of the group that have no result yet. again is true when an
// update failed after writing; its result is then set, and the group is to be
// tried without it.
func (s *Store) attempt(group []*update, results []outcome, runs *int) (_ *Tx, again bool, err error) {
	defer catchDamage(&err)
	b, err := s.begin(true)
	if err != nil {
		return nil, false, err
	}
	tx, finished, committing := &Tx{bolt: b, store: s}, false, false
	defer func() {
		tx.ended = true
		if finished {
			return
		}
		// Something panicked: leave no lock behind. A commit that did not come to
		// its end leaves bbolt's picture of the file wrong.
		if committing {
			s.breaks(fmt.Errorf("%w: %w", ErrBroken, ErrDamaged))
		}
		s.abandon(b)
	}()
	again = s.runAll(tx, group, results, runs)
	if again || tx.written == 0 { // nothing was written: nothing to flush
		err = rollback(b)
		finished = true
		return tx, again, err
	}
	if err := errors.Join(flush(tx), stamp(b)); err != nil {
		err = errors.Join(err, rollback(b))
		finished = true
		return nil, false, err
	}
	id := b.ID() // which it forgets when it fails
	committing = true
	err = b.Commit()
	if finished = true; err != nil {
		return nil, false, s.refused(id, err)
	}
	s.durable.reached(id)
	return tx, false, nil
}

// runAll is true when an update failed in a way that leaves something behind: after
// it has written, or out of the midst of changing a Local.
func (s *Store) runAll(tx *Tx, group []*update, results []outcome, runs *int) (again bool) {
	for n, u := range group {
		if results[n].done {
			continue
		}
		*runs++
		written, changes, hooks, locals := tx.written, len(tx.changes), len(tx.onCommit), len(tx.locals)
		s.run(u.fn, tx, &results[n])
		switch {
		case !results[n].done:
		case results[n].unwound, tx.written != written:
			return true
		default:
			tx.changes, tx.onCommit, tx.locals = tx.changes[:changes], tx.onCommit[:hooks], tx.locals[:locals]
		}
	}
	return false
}

var errExited = errors.New("store: an update has ended its goroutine")

func (s *Store) run(fn func(*Tx) error, tx *Tx, out *outcome) {
	out.unwound = true
	defer func() {
		if !out.unwound {
			return
		}
		out.done = true
		p := recover()
		if p == nil {
			out.err, s.exiting = errExited, true
			return
		}
		stack := debug.Stack()
		if out.err = damage(p, stack); out.err == nil {
			out.panicked = &Panic{Value: p, Stack: stack}
		}
	}()
	err := fn(tx)
	*out = outcome{done: err != nil, err: err}
}

// flush has a panic end the group, and not the box: nobody's caller is above it.
func flush(tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			if err = damage(p, stack); err == nil {
				err = &Panic{Value: p, Stack: stack}
			}
		}
	}()
	return tx.flush()
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
	s.breaks(fmt.Errorf("%w: %w", ErrBroken, cause))
	return errors.Join(err, s.broken)
}

// breaks ends all writing, and the waiting of readers for what is not on disk.
func (s *Store) breaks(why error) {
	s.broken = why
	s.durable.lose(why)
}

// lastCommit is the number of the newest transaction that readers see; one above
// all when that can't be read.
func (s *Store) lastCommit() int {
	b, err := s.begin(false)
	if err != nil {
		return math.MaxInt
	}
	id := b.ID()
	_ = b.Rollback()
	return id
}

// abandon rolls back where bbolt has just panicked, and may do so again.
func (s *Store) abandon(b *bbolt.Tx) {
	defer func() {
		if p := recover(); p != nil {
			_ = s.die(p)
			releaseWriter(s.db)
		}
	}()
	_ = b.Rollback()
}

func rollback(b *bbolt.Tx) error {
	if err := b.Rollback(); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}
