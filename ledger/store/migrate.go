package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

const metaBucket = "meta"

// Keys of metaBucket.
const (
	schemaKey = "schema"
	// commitKey has the number of the newest commit, see stamp.
	commitKey = "commit"
	// bucketsKey has the sum of the names of all buckets, see enrol.
	bucketsKey = "buckets"
)

var sequences = NewStringCollection[string, int64]("sequences").With(Codec[int64]{
	Encode: func(n int64) ([]byte, error) { return encodeInt64(n), nil },
	Decode: func(b []byte) (int64, error) { return decodeInt64(b), nil },
})

// migration takes the file from the schema before it to its own.
type migration struct {
	schema int64
	why    string
	apply  func(*bbolt.Tx) error
}

// oldest is the first schema that was ever released. Trials had schema 1: JSON
// journals without checksums.
const oldest = 2

// migrations in rising order of schema. One that has been released is never changed.
var migrations = []migration{
	{oldest, "the first released schema", func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte(metaBucket)) != nil {
			return nil
		}
		for _, name := range []string{metaBucket, sequences.Name()} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return enrol(tx, sequences.Name())
	}},
}

// migrate brings the file to the newest schema in one transaction. A file that is
// newer than this program is refused: guessing at its meaning could lose money.
func migrate(db *bbolt.DB, steps []migration) error {
	newest := steps[len(steps)-1].schema
	have, err := schemaOf(db)
	if err != nil || have == newest {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		if have > newest {
			return fmt.Errorf("the file has schema %d and this version knows only up to %d: install the newer EcoLink, or restore a backup", have, newest)
		}
		if have > 0 && have < oldest {
			return fmt.Errorf("the file is of a trial version (schema %d), which can't be taken over: move it away and set the box up anew", have)
		}
		for _, m := range steps {
			if m.schema <= have {
				continue
			}
			if err := m.apply(tx); err != nil {
				return fmt.Errorf("migrate to schema %d (%s): %w", m.schema, m.why, err)
			}
		}
		if err := putMetaNumber(tx, schemaKey, newest); err != nil {
			return err
		}
		return stamp(tx)
	})
}

// schemaOf reads the file's schema; 0 for a new file. It writes nothing, so that
// a file on a read-only disk can be opened for as far as it goes.
func schemaOf(db *bbolt.DB) (have int64, err error) {
	err = db.View(func(tx *bbolt.Tx) (err error) {
		have, err = schemaIn(tx)
		return err
	})
	return have, err
}

func schemaIn(tx *bbolt.Tx) (int64, error) {
	if meta := tx.Bucket([]byte(metaBucket)); meta != nil {
		if raw := meta.Get([]byte(schemaKey)); len(raw) == 8 {
			return decodeInt64(raw), nil // of a trial: it had no checksums
		}
	}
	return metaNumber(tx, schemaKey)
}
