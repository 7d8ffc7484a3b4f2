package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// Tx is a transaction. It is used by one goroutine, and only inside the function
// that it was passed to.
type Tx struct {
	bolt     *bbolt.Tx
	changes  []Change
	onCommit []func()
}

// OnCommit has f called after the transaction is on disk, in the writer's
// goroutine: it must be quick and must not call Update. It is not called when
// the update fails.
func (tx *Tx) OnCommit(f func()) { tx.onCommit = append(tx.onCommit, f) }

// Writable tells whether the transaction may write.
func (tx *Tx) Writable() bool { return tx.bolt.Writable() }

// NextID gives the next number of a named sequence, from 1. Numbers are unique
// and rising, and are given back when the update fails.
func (tx *Tx) NextID(sequence string) (int64, error) {
	b, err := tx.bucket(sequencesBucket)
	if err != nil {
		return 0, err
	}
	var n int64
	if raw := b.Get([]byte(sequence)); raw != nil {
		n = decodeInt64(raw)
	}
	n++
	if err := tx.put(sequencesBucket, []byte(sequence), encodeInt64(n)); err != nil {
		return 0, err
	}
	return n, nil
}

// bucket returns the named bucket; in a writable transaction it makes it.
// In a read-only one a bucket that was never written is nil.
func (tx *Tx) bucket(name string) (*bbolt.Bucket, error) {
	b := tx.bolt.Bucket([]byte(name))
	if b != nil || !tx.bolt.Writable() {
		return b, nil
	}
	b, err := tx.bolt.CreateBucket([]byte(name))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	return b, nil
}

func (tx *Tx) put(bucket string, key, value []byte) error {
	b, err := tx.bucket(bucket)
	if err != nil {
		return err
	}
	// Noted before the write: a failed Put must count as one, so that the group
	// is rolled back.
	tx.changes = append(tx.changes, Change{Bucket: bucket, Key: string(key)})
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("write %s: %w", bucket, err)
	}
	return nil
}

func (tx *Tx) delete(bucket string, key []byte) error {
	b, err := tx.bucket(bucket)
	if err != nil {
		return err
	}
	tx.changes = append(tx.changes, Change{Bucket: bucket, Key: string(key)})
	if err := b.Delete(key); err != nil {
		return fmt.Errorf("delete from %s: %w", bucket, err)
	}
	return nil
}
