package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// whole refuses a file that bbolt would take, and that is not as the last commit
// left it: cut short, or with the state of an older commit in front.
func whole(db *bbolt.DB, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := metasAgree(f, db.Info().PageSize); err != nil {
		return err
	}
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("it has %d bytes and should have %d: %w", info.Size(), tx.Size(), ErrDamaged)
		}
		switch have, err := schemaIn(tx); {
		case err != nil:
			return err
		case have != 0 && have != migrations[len(migrations)-1].schema:
			return nil // which migrate takes, or refuses in its own words
		}
		return errors.Join(stamped(tx), enrolled(tx))
	})
}

// metasAgree checks both of bbolt's meta pages. Commits write them in turn, so
// they are of the newest commit and of the one before it. When one can't be read,
// bbolt takes the other without a word, and the newest commit may be undone. A
// power cut does not do that: a meta fits one sector of the disk, which is
// written wholly or not at all.
func metasAgree(file io.ReaderAt, pageSize int) error {
	first, err0 := metaCommit(file, 0)
	second, err1 := metaCommit(file, int64(pageSize))
	if err := errors.Join(err0, err1); err != nil {
		return fmt.Errorf("a meta page, and with it perhaps the last commit, can't be read: %w: %w", err, ErrDamaged)
	}
	if first != second+1 && second != first+1 {
		return fmt.Errorf("its meta pages are of commits %d and %d: %w", first, second, ErrDamaged)
	}
	return nil
}

var errMeta = errors.New("it does not match its checksum")

// metaCommit reads the number of the commit that wrote a meta page.
func metaCommit(file io.ReaderAt, at int64) (uint64, error) {
	// As bbolt has them: a page's header, then the meta, whose last two fields are
	// the commit's number and a checksum over all before it.
	const header, size = 16, 64
	var meta [size]byte
	if _, err := file.ReadAt(meta[:], at+header); err != nil {
		return 0, err
	}
	sum := fnv.New64a()
	sum.Write(meta[:size-8])
	if sum.Sum64() != binary.NativeEndian.Uint64(meta[size-8:]) {
		return 0, errMeta
	}
	return binary.NativeEndian.Uint64(meta[size-16:]), nil
}

// stamp writes the commit's own number into it. The meta bucket lies in the page
// that leads to all others, which every commit writes anew. If the disk loses that
// write, an older page stands there, with an older ledger or none below it, and
// nothing but its number tells.
func stamp(tx *bbolt.Tx) error { return putMetaNumber(tx, commitKey, int64(tx.ID())) }

// stamped checks what stamp wrote.
func stamped(tx *bbolt.Tx) error {
	n, err := metaNumber(tx, commitKey)
	if err == nil && n != int64(tx.ID()) {
		err = fmt.Errorf("its newest commit is number %d and left %d: a write was lost: %w", tx.ID(), n, ErrDamaged)
	}
	return err
}

// enrol adds a new bucket's name to the sum of all names. A name has no checksum
// of its own, and a bucket whose name was damaged would be one that was never
// written: without records, and without an error.
func enrol(tx *bbolt.Tx, name string) error {
	sum, err := metaNumber(tx, bucketsKey)
	if err != nil {
		return err
	}
	return putMetaNumber(tx, bucketsKey, sum+nameSum([]byte(name)))
}

// enrolled checks that all buckets are there.
func enrolled(tx *bbolt.Tx) error {
	want, err := metaNumber(tx, bucketsKey)
	if err != nil {
		return err
	}
	var sum int64
	err = tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if string(name) != metaBucket {
			sum += nameSum(name)
		}
		return nil
	})
	if err == nil && sum != want {
		err = fmt.Errorf("a bucket is missing, or is called otherwise than it was: %w", ErrDamaged)
	}
	return err
}

// nameSum is added up over the names, so it wraps around.
func nameSum(name []byte) int64 {
	sum := fnv.New64a()
	sum.Write(name)
	return int64(sum.Sum64())
}

// metaNumber reads a number of the meta bucket; 0 when it isn't there.
func metaNumber(tx *bbolt.Tx, key string) (int64, error) {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil {
		return 0, nil
	}
	sealed := meta.Get([]byte(key))
	if sealed == nil {
		return 0, nil
	}
	raw, err := unseal(metaBucket, []byte(key), sealed)
	return decodeInt64(raw), err
}

func putMetaNumber(tx *bbolt.Tx, key string, n int64) error {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil {
		return fmt.Errorf("it has lost its bucket %q: %w", metaBucket, ErrDamaged)
	}
	return meta.Put([]byte(key), seal(metaBucket, []byte(key), encodeInt64(n)))
}
