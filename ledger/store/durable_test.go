package store

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// unsynced makes a commit as readers see it while it is being synced.
func unsynced(t *testing.T, s *Store) {
	t.Helper()
	err := s.db.Update(func(b *bbolt.Tx) error {
		bucket, err := b.CreateBucketIfNotExists([]byte(notes.Name()))
		if err != nil {
			return err
		}
		key := encodeInt64(1)
		return bucket.Put(key, seal(notes.Name(), key, []byte(`{"text":"early"}`)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// looking reads in another goroutine; ran is closed once fn has run.
func looking(s *Store, fn func(*Tx) error) (ran chan struct{}, result chan error) {
	ran, result = make(chan struct{}), make(chan error, 1)
	go func() {
		result <- s.View(func(tx *Tx) error { defer close(ran); return fn(tx) })
	}()
	return ran, result
}

func TestViewOfACommitReturnsWhenItIsOnDisk(t *testing.T) {
	s := newStore(t)
	unsynced(t, s)
	ran, result := looking(s, func(*Tx) error { return errBoom })
	<-ran // fn does not wait
	select {
	case err := <-result:
		t.Fatalf("View returned before the flush: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.durable.reached(s.lastCommit())
	if err := <-result; !errors.Is(err, errBoom) {
		t.Fatalf("fn's result is %v", err)
	}
}

func TestViewOfACommitThatFailedSaysSo(t *testing.T) {
	s := newStore(t)
	unsynced(t, s)
	ran, result := looking(s, func(*Tx) error { return nil })
	<-ran
	s.writing.Lock()
	s.breaks(ErrBroken)
	s.writing.Unlock()
	if err := <-result; !errors.Is(err, ErrBroken) {
		t.Fatalf("got %v", err)
	}
	var copied bytes.Buffer
	if _, err := s.Backup(&copied); !errors.Is(err, ErrBroken) || copied.Len() > 0 {
		t.Fatalf("a backup of it: %v, %d bytes", err, copied.Len())
	}
}

func TestViewGoesOnWhenTheFailedCommitIsNotSeen(t *testing.T) {
	s := newStore(t)
	s.writing.Lock()
	s.breaks(ErrBroken)
	s.writing.Unlock()
	if err := s.View(func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestViewsWhileOthersWriteSeeOnlyWhatIsOnDisk(t *testing.T) {
	s := newStore(t)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				seen := 0
				err := s.View(func(tx *Tx) error { seen = tx.bolt.ID(); return nil })
				if durable := s.durable.commit.Load(); err != nil || int64(seen) > durable {
					t.Errorf("View showed commit %d and %d is on disk: %v", seen, durable, err)
					return
				}
			}
		})
	}
	for n := range 300 {
		if err := s.Update(context.Background(), write(int64(n), "x")); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}
