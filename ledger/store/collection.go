package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
)

// Collection is a bucket whose keys and values have types. Values are stored as
// JSON: a field may be added at any time, and an operator can read them. It
// holds no state; make one per bucket and share it.
type Collection[K comparable, V any] struct {
	name   string
	encode func(K) []byte
	decode func([]byte) K
}

// NewIntCollection keys a bucket by a number, in the numbers' order.
func NewIntCollection[K ~int64, V any](name string) Collection[K, V] {
	return Collection[K, V]{
		name:   name,
		encode: func(k K) []byte { return encodeInt64(int64(k)) },
		decode: func(b []byte) K { return K(decodeInt64(b)) },
	}
}

// NewStringCollection keys a bucket by a string, in byte order. A key must not be empty.
func NewStringCollection[K ~string, V any](name string) Collection[K, V] {
	return Collection[K, V]{
		name:   name,
		encode: func(k K) []byte { return []byte(k) },
		decode: func(b []byte) K { return K(b) },
	}
}

// NewPairCollection keys a bucket by a Pair.
func NewPairCollection[V any](name string) Collection[Pair, V] {
	return Collection[Pair, V]{name: name, encode: encodePair, decode: decodePair}
}

// Name is the bucket's name, as it appears in Change.
func (c Collection[K, V]) Name() string { return c.name }

// KeyOf turns a Change's key back into the collection's.
func (c Collection[K, V]) KeyOf(ch Change) K { return c.decode([]byte(ch.Key)) }

// Get reads one record; ok is false when there is none.
func (c Collection[K, V]) Get(tx *Tx, k K) (v V, ok bool, err error) {
	b, err := tx.bucket(c.name)
	if err != nil || b == nil {
		return v, false, err
	}
	raw := b.Get(c.encode(k))
	if raw == nil {
		return v, false, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("read %s %v: %w", c.name, k, err)
	}
	return v, true, nil
}

// Put writes a record in place of any that was there.
func (c Collection[K, V]) Put(tx *Tx, k K, v V) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s %v: %w", c.name, k, err)
	}
	return tx.put(c.name, c.encode(k), raw)
}

// Delete removes a record, if it is there.
func (c Collection[K, V]) Delete(tx *Tx, k K) error {
	return tx.delete(c.name, c.encode(k))
}

// Scan yields the records with from <= key <= to in rising order. After an error
// it yields it once and stops. The collection must not be written meanwhile.
func (c Collection[K, V]) Scan(tx *Tx, from, to K) iter.Seq2[Record[K, V], error] {
	return c.walk(tx, func(yield func(k, raw []byte) bool) error {
		b, err := tx.bucket(c.name)
		if err != nil || b == nil {
			return err
		}
		last := c.encode(to)
		cur := b.Cursor()
		for k, raw := cur.Seek(c.encode(from)); k != nil && bytes.Compare(k, last) <= 0; k, raw = cur.Next() {
			if !yield(k, raw) {
				return nil
			}
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
		first, last := c.encode(from), c.encode(to)
		cur := b.Cursor()
		k, raw := cur.Seek(first)
		switch {
		case k == nil:
			k, raw = cur.Last()
		case bytes.Compare(k, first) > 0:
			k, raw = cur.Prev()
		}
		for ; k != nil && bytes.Compare(k, last) >= 0; k, raw = cur.Prev() {
			if !yield(k, raw) {
				return nil
			}
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
		cur := b.Cursor()
		for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
			if !yield(k, raw) {
				return nil
			}
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
		err := rows(func(k, raw []byte) bool {
			rec := Record[K, V]{Key: c.decode(k)}
			if err := json.Unmarshal(raw, &rec.Value); err != nil {
				yield(rec, fmt.Errorf("read %s %v: %w", c.name, rec.Key, err))
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
