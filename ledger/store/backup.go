package store

import (
	"io"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// Backup writes a consistent copy of the whole database to w while others go on
// reading and writing, and gives its size in bytes.
func (s *Store) Backup(w io.Writer) (n int64, err error) {
	defer catchDamage(&err)
	defer guard()()
	err = s.db.View(func(b *bbolt.Tx) error {
		n, err = b.WriteTo(w)
		return err
	})
	return n, err
}

// Path is where the file lies.
func (s *Store) Path() string { return s.path }

// Size is how many bytes WriteTo writes.
func (tx *Tx) Size() int64 { return tx.bolt.Size() }

// WriteTo writes the whole database as it is at the moment of the transaction,
// which must be a read-only one. Others go on writing; what they free meanwhile
// can't be used again before the transaction ends, so the file may grow.
func (tx *Tx) WriteTo(w io.Writer) (int64, error) { return tx.bolt.WriteTo(w) }

// Folder is where the file lies, and whatever else belongs to it.
func (tx *Tx) Folder() string { return filepath.Dir(tx.bolt.DB().Path()) }
