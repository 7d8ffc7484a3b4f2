package store

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// dead is the reason why bbolt must not be touched any more, once there is one.
type dead struct{ cause atomic.Pointer[error] }

func (d *dead) err() error {
	if cause := d.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// begin starts a bbolt transaction. bbolt reads its meta pages meanwhile, with its
// locks held. When they are gone (somebody has cut the file short, or the disk
// can't read them) it panics and keeps the locks: everybody after it, Close too,
// would wait forever. So they are released, and the store is left alone from then on.
func (s *Store) begin(writable bool) (b *bbolt.Tx, err error) {
	if err := s.dead.err(); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = s.die(p)
			if writable {
				releaseWriter(s.db)
			} else {
				releaseReader(s.db)
			}
		}
	}()
	b, err = s.db.Begin(writable)
	if err != nil {
		if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			return nil, ErrClosed
		}
		return nil, fmt.Errorf("begin: %w", err)
	}
	return b, nil
}

// die has all that come from now on refused, for a panic that bbolt does not
// recover from.
func (s *Store) die(p any) error {
	cause := damage(p, debug.Stack())
	if cause == nil {
		cause = fmt.Errorf("%v", p)
	}
	err := fmt.Errorf("the database file was cut short or overwritten under EcoLink, and nothing is read or written until it is restarted: %w", cause)
	s.dead.cause.CompareAndSwap(nil, &err)
	s.durable.lose(err)
	return err
}

// releaseReader releases what bbolt holds when the begin of a read-only transaction
// panics. There is no other way to them; a test tells when they are gone or of
// another type.
func releaseReader(db *bbolt.DB) {
	lockOf[sync.RWMutex](db, "mmaplock").RUnlock()
	lockOf[sync.Mutex](db, "metalock").Unlock()
}

// releaseWriter does so for the writer, which is known to be the only one.
func releaseWriter(db *bbolt.DB) {
	lock := lockOf[sync.Mutex](db, "rwlock")
	_ = lock.TryLock() // whether it is held or not
	lock.Unlock()
}

func lockOf[T any](db *bbolt.DB, name string) *T {
	field := reflect.ValueOf(db).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		panic("store: bbolt has no lock " + name)
	}
	return (*T)(field.Addr().UnsafePointer())
}
