package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const booksName = "ecolink"

// What a charge says. The peers write the same.
const (
	chargeResource = "model/llama"
	chargeModel    = "llama"
	chargeTag      = "web"
	chargeAPIKey   = 7
	chargeInput    = 100
	chargeOutput   = 200
)

// creditGroup is how many accounts get their credit in one update.
const creditGroup = 500

// books is the contender: EcoLink's ledger through its public API.
type books struct {
	path  string
	store *store.Store
	rows  atomic.Int64 // acknowledged
}

// newBooks makes a database with the accounts 1 to n, each of which got its
// credit at the given time.
func newBooks(ctx context.Context, dir string, n int, at time.Time) (*books, error) {
	b := &books{path: filepath.Join(dir, "ecolink.db")}
	var err error
	if b.store, err = store.Open(b.path); err != nil {
		return nil, err
	}
	for first := 1; first <= n; first += creditGroup {
		last := min(first+creditGroup-1, n)
		err := b.store.Update(ctx, func(tx *store.Tx) error { return creditAccounts(tx, first, last, at) })
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make accounts %d to %d: %w", first, last, err), b.close())
		}
		b.rows.Add(int64(last - first + 1))
	}
	return b, nil
}

func creditAccounts(tx *store.Tx, first, last int, at time.Time) error {
	for n := first; n <= last; n++ {
		made, err := identity.CreateAccount(tx, fmt.Sprintf("account %d", n), at)
		if err != nil {
			return err
		}
		if made.ID != identity.AccountID(n) {
			return fmt.Errorf("account %d was made in place of %d", made.ID, n)
		}
		_, err = ledger.Credit(tx, ledger.Entry{
			At: at, Account: made.ID, Amount: creditMicroUSD,
			Key: fmt.Sprintf("credit-%d", n), Description: "for the benchmark",
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *books) name() string { return booksName }

// pay has every caller charge in updates of its own; which of them share a
// commit is the store's business.
func (b *books) pay(ctx context.Context, l load, during time.Duration) (rate, error) {
	latencies, errs := make([][]time.Duration, l.callers), make([]error, l.callers)
	var wg sync.WaitGroup
	began := time.Now()
	for n := range l.callers {
		wg.Go(func() { latencies[n], errs[n] = b.caller(ctx, l.hot, began.Add(during)) })
	}
	wg.Wait()
	elapsed := time.Since(began)
	var all []time.Duration
	for n, each := range latencies {
		if errs[n] != nil { // the others say the same
			return rate{}, errs[n]
		}
		all = append(all, each...)
	}
	return newRate(all, elapsed)
}

// caller charges until the time is over.
func (b *books) caller(ctx context.Context, hot bool, until time.Time) ([]time.Duration, error) {
	var latencies []time.Duration
	for began := time.Now(); began.Before(until); {
		account := identity.AccountID(hotAccount)
		if !hot {
			account = 1 + rand.N(identity.AccountID(accounts))
		}
		entry, err := chargeOf(account, began)
		if err != nil {
			return nil, err
		}
		err = b.store.Update(ctx, func(tx *store.Tx) error { return charge(tx, entry) })
		if err != nil {
			return nil, err
		}
		b.rows.Add(1)
		now := time.Now()
		latencies = append(latencies, now.Sub(began))
		began = now
	}
	return latencies, nil
}

// chargeOf is a charge with a new key. Keys are ordered by time, as those that
// clients make are (RFC 9562, version 7).
func chargeOf(account identity.AccountID, at time.Time) (ledger.Entry, error) {
	key, err := uuid.NewV7()
	if err != nil {
		return ledger.Entry{}, err
	}
	id := key.String()
	return ledger.Entry{
		At: at, Account: account, Amount: chargeMicroUSD, Resource: chargeResource, RequestID: id, Key: id,
		APIKey: chargeAPIKey, Tag: chargeTag,
		Usage: ledger.Usage{Model: chargeModel, InputTokens: chargeInput, OutputTokens: chargeOutput},
	}, nil
}

func charge(tx *store.Tx, e ledger.Entry) error {
	_, err := ledger.Charge(tx, ledger.APIUsage, e)
	return err
}

// close may be called again.
func (b *books) close() error {
	if b.store == nil {
		return nil
	}
	open := b.store
	b.store = nil
	return open.Close()
}

// reopen closes the file and opens it again, so that what is read next is what
// is on the disk.
func (b *books) reopen() error {
	if err := b.close(); err != nil {
		return err
	}
	var err error
	b.store, err = store.Open(b.path)
	return err
}

// verify fails unless the books agree and hold every row that was acknowledged.
func (b *books) verify() error {
	_, err := b.verified()
	return err
}

func (b *books) verified() (found ledger.Report, err error) {
	err = b.store.View(func(tx *store.Tx) (err error) {
		if found, err = ledger.Verify(tx); err != nil {
			return fmt.Errorf("verify the books: %w", err)
		}
		if want := b.rows.Load(); found.Rows != want {
			return fmt.Errorf("verify the books: %d rows were acknowledged, %d are there: report this", want, found.Rows)
		}
		return nil
	})
	return found, err
}
