package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/lease"
	"ecolink/ledger/store"
)

// A gateway's load: so many requests at once, each of which is served for a while
// before it is charged, of fewer accounts than there are.
const (
	leaseCallers  = 64
	leaseAccounts = 500
	leaseServing  = 10 * time.Millisecond
	leaseEstimate = 2 * chargeMicroUSD
)

// measureLeases measures what a charge adds to a request that is served in
// between: committed by itself, and out of a lease.
func measureLeases(ctx context.Context, opts options, dir string, rep *report) (err error) {
	b, err := newBooks(ctx, filepath.Join(dir, "leases"), leaseAccounts, time.Now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	during := time.Duration(opts.seconds) * time.Second
	committed, err := paced(during, func(account identity.AccountID, serve func()) error {
		serve()
		entry, err := chargeOf(account, time.Now())
		if err != nil {
			return err
		}
		return b.store.Update(ctx, func(tx *store.Tx) error { return charge(tx, entry) })
	})
	if err != nil {
		return fmt.Errorf("requests with commits: %w", err)
	}
	spender, _, err := lease.Open(ctx, b.store, filepath.Join(dir, "leases", "log"), lease.Config{Idle: time.Hour})
	if err != nil {
		return err
	}
	leased, err := paced(during, func(account identity.AccountID, serve func()) error {
		r, err := spender.Reserve(ctx, account, chargeAPIKey, leaseEstimate)
		if err != nil {
			return err
		}
		defer r.Release()
		serve()
		entry, err := chargeOf(account, time.Now())
		if err != nil {
			return err
		}
		entry.Key = ""
		return r.Charge(entry)
	})
	if err := errors.Join(err, spender.Close()); err != nil {
		return fmt.Errorf("requests with leases: %w", err)
	}
	what := fmt.Sprintf("added to a request, %d at once", leaseCallers)
	rep.compare(what+", leased, p50", leased.p50, "a commit of its own", committed.p50, 0)
	rep.compare(what+", leased, p99", leased.p99, "a commit of its own", committed.p99, 0)
	return b.store.View(func(tx *store.Tx) error {
		if _, err := ledger.Verify(tx); err != nil {
			return fmt.Errorf("verify the books: %w", err)
		}
		return nil
	})
}

// paced has callers make requests, and takes the time that each took without the
// serving.
func paced(during time.Duration, request func(account identity.AccountID, serve func()) error) (rate, error) {
	latencies, errs := make([][]time.Duration, leaseCallers), make([]error, leaseCallers)
	var wg sync.WaitGroup
	began := time.Now()
	for n := range leaseCallers {
		wg.Go(func() {
			for time.Since(began) < during && errs[n] == nil {
				var served time.Duration
				start := time.Now()
				errs[n] = request(1+rand.N(identity.AccountID(leaseAccounts)), func() {
					from := time.Now()
					time.Sleep(leaseServing/2 + rand.N(leaseServing))
					served = time.Since(from)
				})
				latencies[n] = append(latencies[n], time.Since(start)-served)
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for n, each := range latencies {
		if errs[n] != nil {
			return rate{}, errs[n]
		}
		all = append(all, each...)
	}
	return newRate(all, time.Since(began))
}
