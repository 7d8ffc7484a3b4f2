package drives

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

const alice, bob identity.AccountID = 1, 2

// noon of a month with 31 days: at $0.31 a GB-month, a GB costs a cent a day.
var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// books are a store in which Alice has $100 and Bob nothing.
type books struct {
	t   testing.TB
	s   *store.Store
	now time.Time
}

func newBooks(t testing.TB) *books {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	b := &books{t: t, s: s, now: noon}
	t.Cleanup(func() {
		b.view(func(tx *store.Tx) error { _, err := ledger.Verify(tx); return err })
		s.Close()
	})
	b.must(func(tx *store.Tx) error {
		for _, name := range []string{"alice", "bob"} {
			if _, err := identity.CreateAccount(tx, name, b.now); err != nil {
				return err
			}
		}
		for _, item := range []price.Item{price.Drive, price.SharedFilesystem} {
			if _, err := price.Set(tx, item, 310_000, time.Time{}, b.now, ""); err != nil {
				return err
			}
		}
		_, err := ledger.Credit(tx, ledger.Entry{At: b.now, Account: alice, Amount: 100 * ledger.Dollar})
		return err
	})
	return b
}

func (b *books) update(fn func(*store.Tx) error) error { return b.s.Update(context.Background(), fn) }

func (b *books) must(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.update(fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *books) view(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.s.View(fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *books) create(n New) (d Drive, err error) {
	if n.Account == 0 {
		n.Account = alice
	}
	if n.Kind == "" {
		n.Kind = CloudDrive
	}
	err = b.update(func(tx *store.Tx) (err error) { d, err = Create(tx, n, b.now); return err })
	return d, err
}

// ready makes a drive that is available.
func (b *books) ready(n New) Drive {
	b.t.Helper()
	d, err := b.create(n)
	if err != nil {
		b.t.Fatal(err)
	}
	b.work(d.ID)
	return b.want(d.ID, Available)
}

// work does all that is to be done, as the machine would; a snapshot takes 1.5 GB.
func (b *books) work(id ID) {
	b.t.Helper()
	for range 100 {
		w, ok := b.read(id).Work()
		if !ok {
			return
		}
		b.must(func(tx *store.Tx) error { return Done(tx, id, w, Result{Bytes: 1_500_000_000}, b.now) })
	}
	b.t.Fatalf("the work for drive %d does not end: %+v", id, b.read(id))
}

func (b *books) read(id ID) (d Drive) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { d, _, err = Read(tx, id); return err })
	return d
}

func (b *books) want(id ID, st State) Drive {
	b.t.Helper()
	d := b.read(id)
	if d.State != st {
		b.t.Fatalf("drive %d is %s (%s), want %s: %+v", id, d.State, d.Problem, st, d.History)
	}
	return d
}

// do changes a drive of Alice's.
func (b *books) do(id ID, f func(tx *store.Tx, d Drive) (Drive, error)) error {
	return b.update(func(tx *store.Tx) error {
		d, err := Get(tx, alice, "", id)
		if err == nil {
			_, err = f(tx, d)
		}
		return err
	})
}

func (b *books) discard(id ID) error {
	return b.do(id, func(tx *store.Tx, d Drive) (Drive, error) { return Discard(tx, d, b.now) })
}

func (b *books) grow(id ID, gb int64) error {
	return b.do(id, func(tx *store.Tx, d Drive) (Drive, error) { return Grow(tx, d, gb, b.now) })
}

func (b *books) snapshot(id ID, name string) error {
	return b.do(id, func(tx *store.Tx, d Drive) (Drive, error) { return TakeSnapshot(tx, d, name, b.now) })
}

func (b *books) drop(id ID, name string) error {
	return b.do(id, func(tx *store.Tx, d Drive) (Drive, error) { return DropSnapshot(tx, d, name, b.now) })
}

func (b *books) restore(id ID, name string) error {
	return b.do(id, func(tx *store.Tx, d Drive) (Drive, error) { return Restore(tx, d, name, b.now) })
}

func (b *books) attach(id ID, user string) error {
	return b.update(func(tx *store.Tx) error {
		_, err := Attach(tx, Use{Account: alice, Drive: id, User: user, Name: user, Path: "/workspace"}, b.now)
		return err
	})
}

func (b *books) letGo(id ID, user string) {
	b.t.Helper()
	b.must(func(tx *store.Tx) error { return LetGo(tx, id, user, b.now) })
}

func (b *books) wantBilled(d Drive, gb int64) {
	b.t.Helper()
	b.view(func(tx *store.Tx) error {
		v, err := metering.GetVolume(tx, d.Resource())
		if v.GB != gb {
			b.t.Errorf("%s is billed as %d GB, want %d", d, v.GB, gb)
		}
		return err
	})
}

func (b *books) wantBalance(want string) {
	b.t.Helper()
	b.view(func(tx *store.Tx) error {
		w, err := ledger.WalletOf(tx, alice)
		if w.Available.String() != want {
			b.t.Errorf("the balance is %s, want %s", w.Available, want)
		}
		return err
	})
}

func wantError(t testing.TB, err, kind error, field string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || e.Field != field || e.Message == "" {
		t.Fatalf("got %v (%+v), want %v in %q", err, e, kind, field)
	}
}
