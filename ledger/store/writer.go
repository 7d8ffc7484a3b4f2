package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// update is one caller's wish, waiting for the writer.
type update struct {
	fn     func(*Tx) error
	result chan outcome // buffered: the writer never waits for a caller
}

// outcome is what the writer tells a caller: an error, or a panic to go on with
// in the caller's own goroutine.
type outcome struct {
	err      error
	panicked any
}

func (o outcome) value() error {
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

// write is the only goroutine that changes the database. It takes whatever has
// queued up while the last commit was on its way to the disk and commits it as
// one group: under load many updates share an fsync, at rest none waits.
func (s *Store) write() {
	defer close(s.done)
	for {
		select {
		case u := <-s.queue:
			s.commit(s.gather(u))
		case <-s.closed:
			for {
				select {
				case u := <-s.queue:
					s.commit(s.gather(u))
				default:
					return
				}
			}
		}
	}
}

func (s *Store) gather(first *update) []*update {
	group := []*update{first}
	for len(group) < maxGroup {
		select {
		case u := <-s.queue:
			group = append(group, u)
		default:
			return group
		}
	}
	return group
}

// commit runs a group in one bbolt transaction. bbolt has no savepoints, so an
// update that fails after it has written forces the group to be run again
// without it. Nobody hears of a result before the commit: an update that failed
// may have failed because of what another one in its group wrote.
func (s *Store) commit(group []*update) {
	results := make(map[*update]outcome, len(group))
	for {
		committed, tx, err := s.attempt(group, results)
		if err != nil { // the disk said no: nothing of this group happened
			for _, u := range group {
				results[u] = outcome{err: err}
			}
			break
		}
		if committed {
			s.feed.publish(tx.changes)
			for _, f := range tx.onCommit {
				f()
			}
			break
		}
	}
	for _, u := range group {
		u.result <- results[u]
	}
}

// attempt runs those of the group that have no result yet. committed is false
// when an update failed after writing; its result is then set and the caller
// tries again.
func (s *Store) attempt(group []*update, results map[*update]outcome) (committed bool, tx *Tx, err error) {
	b, err := s.db.Begin(true)
	if err != nil {
		return true, nil, fmt.Errorf("begin: %w", err)
	}
	tx = &Tx{bolt: b}
	for _, u := range group {
		if _, failed := results[u]; failed {
			continue
		}
		changes, hooks := len(tx.changes), len(tx.onCommit)
		out := run(u.fn, tx)
		if out.err == nil && out.panicked == nil {
			continue
		}
		results[u] = out
		tx.onCommit = tx.onCommit[:hooks]
		if len(tx.changes) != changes {
			return false, nil, rollback(b)
		}
	}
	if len(tx.changes) == 0 {
		return true, tx, rollback(b) // nothing was written: nothing to flush
	}
	if err := b.Commit(); err != nil {
		return true, nil, fmt.Errorf("commit: %w", err)
	}
	return true, tx, nil
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
			out = outcome{panicked: p}
		}
	}()
	return outcome{err: fn(tx)}
}
