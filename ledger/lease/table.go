package lease

import "sync"

// shards of a table: requests of different accounts rarely meet.
const shards = 64

// table finds entries by number, for many goroutines at once.
type table[K ~int64, V any] [shards]shard[K, V]

type shard[K ~int64, V any] struct {
	mu sync.RWMutex
	m  map[K]*V
}

func (t *table[K, V]) shard(k K) *shard[K, V] { return &t[uint64(k)%shards] }

// get finds an entry, and makes it when there is none.
func (t *table[K, V]) get(k K, fresh func() *V) *V {
	s := t.shard(k)
	s.mu.RLock()
	v := s.m[k]
	s.mu.RUnlock()
	if v != nil {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v = s.m[k]; v == nil {
		if s.m == nil {
			s.m = map[K]*V{}
		}
		v = fresh()
		s.m[k] = v
	}
	return v
}

// peek finds an entry, if there is one.
func (t *table[K, V]) peek(k K) *V {
	s := t.shard(k)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[k]
}

// remove takes an entry out.
func (t *table[K, V]) remove(k K) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
}

// all lists the entries, as they are now.
func (t *table[K, V]) all() (out []*V) {
	for n := range t {
		s := &t[n]
		s.mu.RLock()
		for _, v := range s.m {
			out = append(out, v)
		}
		s.mu.RUnlock()
	}
	return out
}
