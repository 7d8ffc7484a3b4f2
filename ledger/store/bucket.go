package store

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// bucket is a bbolt bucket in a transaction.
type bucket struct {
	*bbolt.Bucket
	writes  int  // so far
	thinned bool // a record was deleted: pages may be empty until the commit
}

// floor puts a cursor at the greatest key that is not above the given one; key is
// nil when there is none.
func (b *bucket) floor(want []byte) (cur *bbolt.Cursor, key, value []byte) {
	cur = b.Cursor()
	switch key, value = cur.Seek(want); {
	case key == nil:
		key, value = b.last(cur)
	case !bytes.Equal(key, want):
		key, value = b.prev(cur, key)
	}
	return cur, key, value
}

// last moves to the greatest key. bbolt's Last does not come back when all pages
// are empty.
func (b *bucket) last(cur *bbolt.Cursor) (key, value []byte) {
	if b.thinned {
		if key, _ := cur.First(); key == nil {
			return nil, nil
		}
	}
	return cur.Last()
}

// prev moves to the key before the one at which the cursor is. bbolt's Prev gives
// nil at a page that this transaction has emptied, as at the beginning: where there
// is a smaller key, it lies beyond.
func (b *bucket) prev(cur *bbolt.Cursor, at []byte) (key, value []byte) {
	key, value = cur.Prev()
	if key != nil || !b.thinned {
		return key, value
	}
	if first, _ := b.Cursor().First(); first == nil || bytes.Compare(first, at) >= 0 {
		return nil, nil
	}
	for key == nil {
		key, value = cur.Prev()
	}
	return key, value
}

// unchanged panics when the bucket was written since it had that many writes.
func (b *bucket) unchanged(writes int, name string) {
	if b.writes != writes {
		panic(fmt.Sprintf("store: %s is written while it is scanned", name))
	}
}
