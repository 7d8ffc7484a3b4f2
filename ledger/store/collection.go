package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
)

// Collection is a bucket whose keys and values have types. It holds no state;
// make one per bucket and share it.
type Collection[K comparable, V any] struct {
	name   string
	fill   float64
	keys   keyCodec[K]
	values Codec[V]
}

// Codec turns values into bytes and back. Decode may keep parts of raw only until
// the transaction ends, in a writable one only until the next write: the file's
// memory moves when it grows.
type Codec[V any] struct {
	Encode func(V) ([]byte, error)
	Decode func(raw []byte) (V, error)
}

// JSON is the codec of most collections: a field may be added at any time, and an
// operator can read them.
func JSON[V any]() Codec[V] {
	return Codec[V]{
		Encode: func(v V) ([]byte, error) { return json.Marshal(v) },
		Decode: func(raw []byte) (v V, err error) { return v, json.Unmarshal(raw, &v) },
	}
}

// Raw stores bytes as they are. What Get and the scans give is valid only inside
// the transaction, in a writable one only until the next write, and must not be
// changed.
func Raw() Codec[[]byte] {
	same := func(b []byte) ([]byte, error) { return b, nil }
	return Codec[[]byte]{Encode: same, Decode: same}
}

// NewIntCollection keys a bucket by a number, in the numbers' order.
func NewIntCollection[K ~int64, V any](name string) Collection[K, V] {
	return Collection[K, V]{name: name, keys: intKeys[K](), values: JSON[V]()}
}

// NewStringCollection keys a bucket by a string, in byte order. A key must not be empty.
func NewStringCollection[K ~string, V any](name string) Collection[K, V] {
	return Collection[K, V]{name: name, keys: stringKeys[K](), values: JSON[V]()}
}

// NewPairCollection keys a bucket by a Pair.
func NewPairCollection[V any](name string) Collection[Pair, V] {
	return Collection[Pair, V]{name: name, keys: pairKeys(), values: JSON[V]()}
}

// With is the collection with another codec for its values.
func (c Collection[K, V]) With(codec Codec[V]) Collection[K, V] {
	c.values = codec
	return c
}

// Appending is the collection for keys that mostly rise: pages are filled to the
// brim in place of being left half empty.
func (c Collection[K, V]) Appending() Collection[K, V] {
	c.fill = 0.95
	return c
}

// Name is the bucket's name, as it appears in Change.
func (c Collection[K, V]) Name() string { return c.name }

// KeyOf turns a Change's key back into the collection's.
func (c Collection[K, V]) KeyOf(ch Change) K { return c.keys.decode([]byte(ch.Key)) }

// Get reads one record; ok is false when there is none.
func (c Collection[K, V]) Get(tx *Tx, k K) (v V, ok bool, err error) {
	b, err := tx.bucket(c.name)
	if err != nil || b == nil {
		return v, false, err
	}
	key := c.keys.encode(k)
	sealed := b.Get(key)
	if sealed == nil {
		return v, false, nil
	}
	v, err = c.value(key, sealed)
	return v, err == nil, err
}

// Floor reads the record with the greatest key that is not above k.
func (c Collection[K, V]) Floor(tx *Tx, k K) (found Record[K, V], ok bool, err error) {
	b, err := tx.bucket(c.name)
	if err != nil || b == nil {
		return found, false, err
	}
	_, key, sealed := b.floor(c.keys.encode(k))
	if key == nil {
		return found, false, nil
	}
	found.Key = c.keys.decode(key)
	found.Value, err = c.value(key, sealed)
	return found, err == nil, err
}

// Last reads the record with the greatest key.
func (c Collection[K, V]) Last(tx *Tx) (found Record[K, V], ok bool, err error) {
	b, err := tx.bucket(c.name)
	if err != nil || b == nil {
		return found, false, err
	}
	key, sealed := b.last(b.Cursor())
	if key == nil {
		return found, false, nil
	}
	found.Key = c.keys.decode(key)
	found.Value, err = c.value(key, sealed)
	return found, err == nil, err
}

// Put writes a record in place of any that was there.
func (c Collection[K, V]) Put(tx *Tx, k K, v V) error {
	raw, err := c.values.Encode(v)
	if err != nil {
		return fmt.Errorf("write %s %v: %w", c.name, k, err)
	}
	return tx.put(c.name, c.keys.encode(k), raw, c.fill)
}

// Delete removes a record, if it is there.
func (c Collection[K, V]) Delete(tx *Tx, k K) error {
	return tx.delete(c.name, c.keys.encode(k))
}

func (c Collection[K, V]) value(key, sealed []byte) (v V, err error) {
	raw, err := unseal(c.name, key, sealed)
	if err != nil {
		return v, err
	}
	if v, err = c.values.Decode(raw); err != nil {
		return v, fmt.Errorf("read %s %v: %w", c.name, c.keys.decode(key), err)
	}
	return v, nil
}

// Scan yields the records with from <= key <= to in rising order. After an error
// it yields it once and stops. If the collection is written meanwhile, which leaves
// bbolt's cursor anywhere, the scan panics when it goes on.
func (c Collection[K, V]) Scan(tx *Tx, from, to K) iter.Seq2[Record[K, V], error] {
	return c.walk(tx, func(yield func(k, raw []byte) bool) error {
		b, err := tx.bucket(c.name)
		if err != nil || b == nil {
			return err
		}
		last := c.keys.encode(to)
		cur, writes := b.Cursor(), b.writes
		for k, raw := cur.Seek(c.keys.encode(from)); k != nil && bytes.Compare(k, last) <= 0; k, raw = cur.Next() {
			if !yield(k, raw) {
				return nil
			}
			b.unchanged(writes, c.name)
		}
		return nil
	})
}

// ScanDown yields the records with from >= key >= to in falling order.
func (c Collection[K, V]) ScanDown(tx *Tx, from, to K) iter.Seq2[Record[K, V], error] {
	return c.walk(tx, func(yield func(k, raw []byte) bool) error {
		b, err := tx.bucket(c.name)
		if err != nil || b == nil {
			return err
		}
		last := c.keys.encode(to)
		cur, k, raw := b.floor(c.keys.encode(from))
		for writes := b.writes; k != nil && bytes.Compare(k, last) >= 0; k, raw = b.prev(cur, k) {
			if !yield(k, raw) {
				return nil
			}
			b.unchanged(writes, c.name)
		}
		return nil
	})
}

// All yields every record in rising order of keys.
func (c Collection[K, V]) All(tx *Tx) iter.Seq2[Record[K, V], error] {
	return c.walk(tx, func(yield func(k, raw []byte) bool) error {
		b, err := tx.bucket(c.name)
		if err != nil || b == nil {
			return err
		}
		cur, writes := b.Cursor(), b.writes
		for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
			if !yield(k, raw) {
				return nil
			}
			b.unchanged(writes, c.name)
		}
		return nil
	})
}

// Record is a key with its value, as a scan yields it.
type Record[K comparable, V any] struct {
	Key   K
	Value V
}

func (c Collection[K, V]) walk(tx *Tx, rows func(yield func(k, raw []byte) bool) error) iter.Seq2[Record[K, V], error] {
	return func(yield func(Record[K, V], error) bool) {
		stopped := false
		err := rows(func(k, sealed []byte) bool {
			rec := Record[K, V]{Key: c.keys.decode(k)}
			var err error
			if rec.Value, err = c.value(k, sealed); err != nil {
				yield(rec, err)
				stopped = true
				return false
			}
			stopped = !yield(rec, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(Record[K, V]{}, err)
		}
	}
}
