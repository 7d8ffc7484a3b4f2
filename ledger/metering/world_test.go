package metering

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

const (
	alice  identity.AccountID = 1
	laptop identity.KeyID     = 7 // an API key
	llama                     = "inference-instance/1"
	disk                      = "drive/1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func usd(s string) ledger.MicroUSD {
	m, err := ledger.ParseUSD(s)
	if err != nil {
		panic(err)
	}
	return m
}

// failer is a *testing.T or *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// box is a database in which account 1 is alice's, and a clock.
type box struct {
	t    failer
	path string
	s    *store.Store
	now  time.Time
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := openBox(t, filepath.Join(t.TempDir(), "ecolink.db"))
	t.Cleanup(func() { b.s.Close() })
	return b
}

func openBox(t failer, path string) *box {
	t.Helper()
	b := &box{t: t, path: path, now: noon}
	b.open()
	b.must(func(tx *store.Tx) error {
		_, err := identity.CreateAccount(tx, "alice", noon)
		return err
	})
	return b
}

func (b *box) open() {
	b.t.Helper()
	var err error
	if b.s, err = store.Open(b.path); err != nil {
		b.t.Fatalf("%v", err)
	}
}

func (b *box) update(fn func(*store.Tx) error) error { return b.s.Update(context.Background(), fn) }

func (b *box) must(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.update(fn); err != nil {
		b.t.Fatalf("%v", err)
	}
}

func (b *box) topUp(amount ledger.MicroUSD) {
	b.t.Helper()
	b.must(func(tx *store.Tx) error {
		_, err := ledger.Credit(tx, ledger.Entry{At: b.now, Account: alice, Amount: amount})
		return err
	})
}

// spend charges something else, as usage of the API.
func (b *box) spend(amount ledger.MicroUSD) {
	b.t.Helper()
	b.must(func(tx *store.Tx) error {
		_, err := ledger.Charge(tx, ledger.APIUsage, ledger.Entry{At: b.now, Account: alice, Amount: amount})
		return err
	})
}

func (b *box) correct(amount ledger.MicroUSD) error {
	return b.update(func(tx *store.Tx) error {
		_, err := ledger.Correct(tx, ledger.Entry{At: b.now, Account: alice, Amount: amount, Description: "by mistake"})
		return err
	})
}

func (b *box) price(i price.Item, amount ledger.MicroUSD) {
	b.t.Helper()
	b.must(func(tx *store.Tx) error {
		_, err := price.Set(tx, i, amount, time.Time{}, b.now, "")
		return err
	})
}

func (b *box) wallet() (w ledger.Wallet) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { w, err = ledger.WalletOf(tx, alice); return err })
	return w
}

func (b *box) view(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.s.View(fn); err != nil {
		b.t.Fatalf("%v", err)
	}
}

// money fails the test unless so much is available and held, and the books agree.
func (b *box) money(available, held string) {
	b.t.Helper()
	if w := b.wallet(); w.Available != usd(available) || w.Held != usd(held) {
		b.t.Fatalf("%s available and %s held, want %s and %s", w.Available, w.Held, available, held)
	}
	b.verify()
}

func (b *box) verify() {
	b.t.Helper()
	b.view(func(tx *store.Tx) error { _, err := ledger.Verify(tx); return err })
}

// rows are alice's newest rows, oldest first: type, amount and description.
func (b *box) rows(n int) (out []string) {
	b.t.Helper()
	b.view(func(tx *store.Tx) error {
		for row, err := range ledger.Statement(tx, alice, 0) {
			if err != nil || len(out) == n {
				return err
			}
			out = append([]string{fmt.Sprintf("%s %s %s", row.Type, row.Signed(), row.Description)}, out...)
		}
		return nil
	})
	return out
}

func (b *box) wantRows(want ...string) {
	b.t.Helper()
	got := b.rows(len(want))
	for n := range want {
		if n >= len(got) || got[n] != want[n] {
			b.t.Fatalf("rows:\n%q\nwant:\n%q", got, want)
		}
	}
}

func (b *box) start(rate string, units int) (c Cycle, err error) {
	err = b.update(func(tx *store.Tx) (err error) {
		c, err = StartCycle(tx, NewCycle{Account: alice, Resource: llama, Label: "llama", Rate: usd(rate), Reserve: units, Units: units}, b.now)
		return err
	})
	return c, err
}

func (b *box) mustStart(rate string, units int) Cycle {
	b.t.Helper()
	c, err := b.start(rate, units)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	return c
}

// outcome runs one of the functions that move a cycle on.
func (b *box) outcome(fn func(tx *store.Tx) (Outcome, error)) (o Outcome) {
	b.t.Helper()
	b.must(func(tx *store.Tx) (err error) { o, err = fn(tx); return err })
	return o
}

func (b *box) advance(id CycleID) Outcome {
	b.t.Helper()
	return b.outcome(func(tx *store.Tx) (Outcome, error) { return Advance(tx, id, b.now) })
}

func (b *box) setUnits(id CycleID, units int) Outcome {
	b.t.Helper()
	return b.outcome(func(tx *store.Tx) (Outcome, error) { return SetUnits(tx, id, units, b.now, b.now) })
}

func (b *box) stop(id CycleID) Outcome {
	b.t.Helper()
	return b.outcome(func(tx *store.Tx) (Outcome, error) { return StopCycle(tx, id, b.now, "terminated") })
}

func (b *box) due() (out []CycleID) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { out, err = DueCycles(tx, b.now, 10); return err })
	return out
}

func (b *box) add(gb int64) (v Volume, err error) {
	err = b.update(func(tx *store.Tx) (err error) {
		v, err = AddVolume(tx, NewVolume{Account: alice, Resource: disk, Item: price.Drive, GB: gb}, b.now)
		return err
	})
	return v, err
}

func (b *box) mustAdd(gb int64) Volume {
	b.t.Helper()
	v, err := b.add(gb)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	return v
}

// billed runs one of the functions that charge the volume.
func (b *box) billed(fn func(tx *store.Tx, resource string, now time.Time) (Bill, error)) (bill Bill) {
	b.t.Helper()
	b.must(func(tx *store.Tx) (err error) { bill, err = fn(tx, disk, b.now); return err })
	return bill
}

func (b *box) restore() (v Volume, err error) {
	err = b.update(func(tx *store.Tx) (err error) { v, err = Restore(tx, disk, b.now); return err })
	return v, err
}

func resize(gb int64) func(*store.Tx, string, time.Time) (Bill, error) {
	return func(tx *store.Tx, resource string, now time.Time) (Bill, error) {
		return ResizeVolume(tx, resource, gb, now)
	}
}

func insufficient(err error) bool {
	var e *ledger.InsufficientError
	return errors.As(err, &e)
}
