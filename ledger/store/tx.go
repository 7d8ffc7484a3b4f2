package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// Tx is a transaction. It is used by one goroutine, and only inside the function
// that it was passed to.
type Tx struct {
	bolt     *bbolt.Tx
	store    *Store
	ended    bool
	buckets  map[string]*bucket
	written  int // writes so far, those of a Local's that are still to come included
	changes  []Change
	onCommit []func()
	locals   []local
	flushed  int // how many of them have been flushed
	stale    any // key of a flushed one that was asked for last
}

// alive panics when the transaction has ended: its pages may hold anything by now.
func (tx *Tx) alive() {
	if tx.ended {
		panic("store: a transaction is used after its end")
	}
}

// Local is something that a package keeps in memory for the updates that share a
// commit, so that what they all touch is read once and written once: the newest
// row of the journal, a hot account's balance.
type Local interface {
	// Flush writes what the updates have changed. It is called once, before the
	// commit, in the order in which the Locals were made. An error undoes the
	// whole group.
	Flush(*Tx) error
}

type local struct {
	key   any
	value Local
}

// Local gives the group's Local with the key, and makes it when the group has
// none yet. The key should be of a type that only the calling package has. When
// an update of the group fails after it has written, all Locals are thrown away
// and made anew. In a read-only transaction a Local is a cache that ends with it,
// and its Flush is not called.
func (tx *Tx) Local(key any, make func() (Local, error)) (Local, error) {
	tx.alive()
	tx.stale = nil
	for n, l := range tx.locals {
		if l.key == key {
			if n < tx.flushed {
				tx.stale = key
			}
			return l.value, nil
		}
	}
	value, err := make()
	if err != nil {
		return nil, err
	}
	tx.locals = append(tx.locals, local{key, value})
	return value, nil
}

// Touch says that a Local has been changed and that its Flush will write: if the
// update fails from here on, its group is run again without it. One that has been
// flushed must not be changed by the Flush of another: that would be lost, so Touch
// panics if it was the last that was asked for.
func (tx *Tx) Touch() {
	tx.alive()
	if tx.stale != nil {
		panic(fmt.Sprintf("store: %T is changed after its flush", tx.stale))
	}
	tx.written++
}

func (tx *Tx) flush() error {
	for n := 0; n < len(tx.locals); n++ { // a Flush may make another
		if err := tx.locals[n].value.Flush(tx); err != nil {
			return err
		}
		tx.flushed = n + 1
	}
	return nil
}

// OnCommit has f called after the transaction is on disk, in the writer's
// goroutine: it must be quick and must not call Update. It is not called when
// the update fails.
func (tx *Tx) OnCommit(f func()) { tx.alive(); tx.onCommit = append(tx.onCommit, f) }

// Writable tells whether the transaction may write.
func (tx *Tx) Writable() bool { return tx.bolt.Writable() }

// NextID gives the next number of a named sequence, from 1. Numbers are unique
// and rising, and are given back when the update fails.
func (tx *Tx) NextID(sequence string) (int64, error) {
	n, _, err := sequences.Get(tx, sequence)
	if err != nil {
		return 0, err
	}
	n++
	return n, sequences.Put(tx, sequence, n)
}

// LastID is the newest number that NextID gave for a sequence; 0 when it gave none.
func (tx *Tx) LastID(sequence string) (int64, error) {
	n, _, err := sequences.Get(tx, sequence)
	return n, err
}

// bucket returns the named bucket; in a writable transaction it makes it.
// In a read-only one a bucket that was never written is nil.
func (tx *Tx) bucket(name string) (*bucket, error) {
	tx.alive()
	if b := tx.buckets[name]; b != nil {
		return b, nil
	}
	b := tx.bolt.Bucket([]byte(name))
	if b == nil {
		if !tx.bolt.Writable() {
			return nil, nil
		}
		var err error
		if b, err = tx.bolt.CreateBucket([]byte(name)); err == nil {
			err = enrol(tx.bolt, name)
		}
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", name, err)
		}
	}
	if tx.buckets == nil {
		tx.buckets = map[string]*bucket{}
	}
	have := &bucket{Bucket: b}
	tx.buckets[name] = have
	return have, nil
}

func (tx *Tx) put(name string, key, value []byte, fill float64) error {
	b, err := tx.bucket(name)
	if err != nil {
		return err
	}
	if fill > 0 {
		b.FillPercent = fill
	}
	tx.note(b, name, key)
	if err := b.Put(key, seal(name, key, value)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (tx *Tx) delete(name string, key []byte) error {
	b, err := tx.bucket(name)
	if err != nil {
		return err
	}
	tx.note(b, name, key)
	b.thinned = true
	if err := b.Delete(key); err != nil {
		return fmt.Errorf("delete from %s: %w", name, err)
	}
	return nil
}

// note is called before a write: a failed one must count, so that the group is
// rolled back.
func (tx *Tx) note(b *bucket, name string, key []byte) {
	b.writes++
	tx.written++
	tx.changes = append(tx.changes, Change{Bucket: name, Key: string(key)})
}
