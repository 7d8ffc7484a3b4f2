package store

import (
	"io"
	"path/filepath"
)

// Backup writes a consistent copy of the whole database to w while others go on
// reading and writing, and gives its size in bytes. The copy has only what is on
// disk.
func (s *Store) Backup(w io.Writer) (n int64, err error) {
	err = s.View(func(tx *Tx) error {
		n, err = tx.WriteTo(w)
		return err
	})
	return n, err
}

// Path is where the file lies.
func (s *Store) Path() string { return s.path }

// Size is how many bytes WriteTo writes.
func (tx *Tx) Size() int64 { tx.alive(); return tx.bolt.Size() }

// WriteTo writes the whole database as it is at the moment of the transaction,
// which must be a read-only one. It begins when that moment is on disk. Others go on
// writing. The pages that it reads are not used again before it ends, even when
// others replace them, so the file may grow; pages that came and went meanwhile are.
func (tx *Tx) WriteTo(w io.Writer) (int64, error) {
	tx.alive()
	if err := tx.store.durable.await(tx.bolt.ID()); err != nil {
		return 0, err
	}
	return tx.bolt.WriteTo(w)
}

// Folder is where the file lies, and whatever else belongs to it.
func (tx *Tx) Folder() string { return filepath.Dir(tx.store.path) }
