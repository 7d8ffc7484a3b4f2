package store

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// Floor and Last find what a search through the sorted keys would, within an update
// that has just written and after it.
func TestFloorAndLastFindWhatASortedListWould(t *testing.T) {
	s := newStore(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		coll := NewIntCollection[int64, int64]("floor " + string(rune('a'+run%26)) + string(rune('a'+run/26%26)))
		near := rapid.OneOf(rapid.Int64Range(-20, 20), rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 0}))
		keys := rapid.SliceOfN(near, 0, 30).Draw(t, "keys")
		gone := rapid.SliceOfN(near, 0, 5).Draw(t, "gone")
		asked := rapid.SliceOfN(near, 1, 10).Draw(t, "asked")
		var have []int64
		for _, k := range keys {
			if !slices.Contains(gone, k) {
				have = append(have, k)
			}
		}
		slices.Sort(have)
		compare := func(tx *Tx) error {
			for _, k := range asked {
				n, found := slices.BinarySearch(have, k)
				if !found {
					n--
				}
				rec, ok, err := coll.Floor(tx, k)
				for found && n+1 < len(have) && have[n+1] == k {
					n++
				}
				if err != nil || ok != (n >= 0) || ok && (rec.Key != have[n] || rec.Value != have[n]/2) {
					t.Fatalf("Floor(%d) of %v is %+v, %v, %v", k, have, rec, ok, err)
				}
			}
			rec, ok, err := coll.Last(tx)
			if err != nil || ok != (len(have) > 0) || ok && rec.Key != have[len(have)-1] {
				t.Fatalf("Last of %v is %+v, %v, %v", have, rec, ok, err)
			}
			return nil
		}
		err := s.Update(context.Background(), func(tx *Tx) error {
			for _, k := range keys {
				if err := coll.Put(tx, k, k/2); err != nil {
					return err
				}
			}
			for _, k := range gone {
				if err := coll.Delete(tx, k); err != nil {
					return err
				}
			}
			return compare(tx)
		})
		if err := errors.Join(err, s.View(compare)); err != nil {
			t.Fatal(err)
		}
		err = s.Update(context.Background(), func(tx *Tx) error { // for a name that comes again
			for _, k := range keys {
				if err := coll.Delete(tx, k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Every way to a record checks it, and an intact neighbour is still to be had.
func TestDamagedRecordIsNeverGivenToAnybody(t *testing.T) {
	for what, spoil := range map[string]func(b *bbolt.Bucket, key, value []byte) error{
		"a flipped bit":         func(b *bbolt.Bucket, k, v []byte) error { v[2] ^= 4; return b.Put(k, v) },
		"a flipped checksum":    func(b *bbolt.Bucket, k, v []byte) error { v[len(v)-1] ^= 1; return b.Put(k, v) },
		"a value cut short":     func(b *bbolt.Bucket, k, v []byte) error { return b.Put(k, v[:len(v)-1]) },
		"a value without bytes": func(b *bbolt.Bucket, k, _ []byte) error { return b.Put(k, nil) },
		"its neighbour's value": func(b *bbolt.Bucket, k, _ []byte) error { return b.Put(k, bytes.Clone(b.Get(encodeInt64(1)))) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			err := s.Update(context.Background(), func(tx *Tx) error { return errors.Join(write(1, "one")(tx), write(2, "two")(tx)) })
			if err != nil {
				t.Fatal(err)
			}
			err = s.Update(context.Background(), func(tx *Tx) error {
				tx.Touch()
				bucket, key := tx.bolt.Bucket([]byte(notes.Name())), encodeInt64(2)
				return spoil(bucket, key, bytes.Clone(bucket.Get(key)))
			})
			if err != nil {
				t.Fatal(err)
			}
			last := func(seq func(func(Record[int64, note], error) bool)) (err error) {
				for _, err = range seq {
				}
				return err
			}
			err = s.View(func(tx *Tx) error {
				_, _, get := notes.Get(tx, 2)
				_, _, floor := notes.Floor(tx, 7)
				_, _, newest := notes.Last(tx)
				for way, err := range map[string]error{
					"Get": get, "Floor": floor, "Last": newest, "All": last(notes.All(tx)),
					"Scan": last(notes.Scan(tx, 0, 9)), "ScanDown": last(notes.ScanDown(tx, 9, 2)),
				} {
					if !errors.Is(err, ErrDamaged) {
						t.Errorf("%s: %v", way, err)
					}
				}
				_, ok, err := notes.Get(tx, 1)
				if !ok {
					t.Error("the intact record is not to be had")
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add("notes", []byte("key"), []byte("value"), uint16(3))
	f.Add("", []byte{}, []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, bucket string, key, value []byte, flip uint16) {
		if raw, err := unseal(bucket, key, value); err == nil && !bytes.Equal(seal(bucket, key, raw), value) {
			t.Fatalf("%x is taken for the sealed form of %x", value, raw)
		}
		sealed := seal(bucket, key, value)
		if raw, err := unseal(bucket, key, sealed); err != nil || !bytes.Equal(raw, value) {
			t.Fatalf("%x comes back as %x, %v", value, raw, err)
		}
		// A checksum of 32 bits finds every flipped bit.
		sealed[int(flip/8)%len(sealed)] ^= 1 << (flip % 8)
		if _, err := unseal(bucket, key, sealed); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a flipped bit was not noticed: %v", err)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(encodeInt64(-1))
	f.Add(encodePair(Pair{math.MinInt64, math.MaxInt64}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, p := decodeInt64(raw), decodePair(raw)
		switch {
		case len(raw) == 8:
			if !bytes.Equal(encodeInt64(n), raw) {
				t.Fatalf("%x is read as %d", raw, n)
			}
		case len(raw) == 16:
			if !bytes.Equal(encodePair(p), raw) {
				t.Fatalf("%x is read as %v", raw, p)
			}
		}
		if len(raw) != 8 && n != 0 || len(raw) != 16 && p != (Pair{}) {
			t.Fatalf("%x is read as %d and %v", raw, n, p)
		}
	})
}

// Pages that a transaction has emptied stay in the tree until its commit.
func TestScansAndFloorPassOverEmptiedPages(t *testing.T) {
	s := newStore(t)
	fill := func(tx *Tx) (err error) {
		for n := range int64(2000) {
			err = errors.Join(err, notes.Put(tx, n, note{"some text that takes some room in its page"}))
		}
		return err
	}
	for what, gone := range map[string][2]int64{
		"in the middle": {500, 1500}, "at the end": {500, 2000}, "at the beginning": {0, 1500}, "all": {0, 2000}, "none": {0, 0},
	} {
		t.Run(what, func(t *testing.T) {
			if err := s.Update(context.Background(), fill); err != nil {
				t.Fatal(err)
			}
			err := s.Update(context.Background(), func(tx *Tx) error {
				var have []int64
				for n := range int64(2000) {
					if n < gone[0] || n >= gone[1] {
						have = append(have, n)
					} else if err := notes.Delete(tx, n); err != nil {
						return err
					}
				}
				done := make(chan struct{})
				defer close(done)
				time.AfterFunc(20*time.Second, func() {
					select {
					case <-done:
					default:
						panic("a scan hangs")
					}
				})
				checkPages(t, tx, have)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func checkPages(t *testing.T, tx *Tx, have []int64) {
	t.Helper()
	keys := func(seq func(func(Record[int64, note], error) bool)) (out []int64) {
		for rec, err := range seq {
			if err != nil {
				t.Error(err)
			}
			out = append(out, rec.Key)
		}
		return out
	}
	for n := int64(-1); n <= 2000; n += 67 {
		at, found := slices.BinarySearch(have, n)
		up, down := have[at:], slices.Clone(have[:at])
		if found {
			down = have[:at+1]
		}
		down = slices.Clone(down)
		slices.Reverse(down)
		rec, ok, err := notes.Floor(tx, n)
		if err != nil || ok != (len(down) > 0) || ok && rec.Key != down[0] {
			t.Errorf("Floor(%d) is %d, %v, %v", n, rec.Key, ok, err)
		}
		if got := keys(notes.ScanDown(tx, n, 0)); !slices.Equal(got, down) {
			t.Errorf("down from %d: %d records, want %d", n, len(got), len(down))
		}
		if got := keys(notes.Scan(tx, n, 2000)); !slices.Equal(got, up) {
			t.Errorf("up from %d: %d records, want %d", n, len(got), len(up))
		}
	}
	if got := keys(notes.All(tx)); !slices.Equal(got, have) {
		t.Errorf("all: %d records, want %d", len(got), len(have))
	}
	rec, ok, err := notes.Last(tx)
	if err != nil || ok != (len(have) > 0) || ok && rec.Key != have[len(have)-1] {
		t.Errorf("Last is %d, %v, %v", rec.Key, ok, err)
	}
}
