package store

import (
	"fmt"

	"go.etcd.io/bbolt"
)

const (
	metaBucket      = "meta"
	sequencesBucket = "sequences"
	schemaKey       = "schema"
)

// migration takes the file from the schema before it to its own.
type migration struct {
	schema int64
	why    string
	apply  func(*bbolt.Tx) error
}

// migrations in rising order of schema. One that has been released is never changed.
var migrations = []migration{
	{1, "the first schema", func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(sequencesBucket))
		return err
	}},
}

// migrate brings the file to the newest schema in one transaction. A file that is
// newer than this program is refused: guessing at its meaning could lose money.
func migrate(db *bbolt.DB, steps []migration) error {
	return db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		var have int64
		if raw := meta.Get([]byte(schemaKey)); raw != nil {
			have = decodeInt64(raw)
		}
		newest := steps[len(steps)-1].schema
		if have > newest {
			return fmt.Errorf("the file has schema %d and this version knows only up to %d: install the newer EcoLink, or restore a backup", have, newest)
		}
		for _, m := range steps {
			if m.schema <= have {
				continue
			}
			if err := m.apply(tx); err != nil {
				return fmt.Errorf("migrate to schema %d (%s): %w", m.schema, m.why, err)
			}
		}
		return meta.Put([]byte(schemaKey), encodeInt64(newest))
	})
}
