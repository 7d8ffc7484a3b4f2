package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const benchAccounts = 10_000

// benchWorld has accounts with money and, so that a first draw is not what is
// measured, leases.
func benchWorld(b *testing.B) *world {
	b.Helper()
	w := newWorld(b, Config{Idle: time.Hour})
	for first := 0; first < benchAccounts; first += 500 {
		w.update(func(tx *store.Tx) error {
			for n := range 500 {
				if first+n >= 3 {
					if _, err := identity.CreateAccount(tx, fmt.Sprint("account ", first+n), time.Now()); err != nil {
						return err
					}
				}
				e := ledger.Entry{At: time.Now(), Account: identity.AccountID(first + n + 1), Amount: 100_000 * ledger.Dollar}
				if _, err := ledger.Credit(tx, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 512 {
		wg.Go(func() {
			for n := next.Add(1); n <= benchAccounts; n = next.Add(1) {
				r, err := w.Reserve(context.Background(), identity.AccountID(n), 0, 1)
				if err != nil {
					b.Error(err)
					return
				}
				r.Release()
			}
		})
	}
	wg.Wait()
	return w
}

// serve charges n requests by so many callers, who rest between two for as long as
// their models would compute, and gives what the lease added to each.
func serve(b *testing.B, w *world, n, callers int, spread int64, rest time.Duration) (added []time.Duration) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	each := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				r, err := w.Reserve(context.Background(), identity.AccountID(1+rand.Int64N(spread)), 7, 200)
				if err != nil {
					b.Error(err)
					return
				}
				e := charge(125, "0192d3a0-0000-7000-8000-000000000000")
				var between time.Duration
				if rest > 0 {
					paused := time.Now()
					time.Sleep(rest/2 + rand.N(rest))
					between = time.Since(paused)
				}
				if err := r.Charge(e); err != nil {
					b.Error(err)
					return
				}
				each[c] = append(each[c], time.Since(began)-between)
			}
		})
	}
	wg.Wait()
	return slices.Concat(each...)
}

// BenchmarkSpend is Reserve and Charge as fast as they go, until the journal has
// all of it: what the callers wait for is the database's pace.
func BenchmarkSpend(b *testing.B) {
	w := benchWorld(b)
	for _, callers := range []int{1, 64, 512} {
		for _, spread := range []int64{benchAccounts, 1} {
			b.Run(fmt.Sprintf("callers=%d/accounts=%d", callers, spread), func(b *testing.B) {
				b.ReportAllocs()
				added := serve(b, w, b.N, callers, spread, 0)
				w.flush()
				report(b, added)
			})
		}
	}
	w.verify()
}

// BenchmarkRequest is what a lease adds to requests that take 20 to 60 ms.
func BenchmarkRequest(b *testing.B) {
	w := benchWorld(b)
	for _, callers := range []int{1, 64, 512} {
		for _, spread := range []int64{benchAccounts, 1} {
			b.Run(fmt.Sprintf("callers=%d/accounts=%d", callers, spread), func(b *testing.B) {
				added := serve(b, w, b.N, callers, spread, 40*time.Millisecond)
				w.flush()
				report(b, added)
			})
		}
	}
}

func report(b *testing.B, added []time.Duration) {
	slices.Sort(added)
	b.ReportMetric(float64(len(added))/b.Elapsed().Seconds(), "requests/s")
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(added[len(added)*p/100].Nanoseconds())/1000, fmt.Sprintf("p%d-µs", p))
	}
}
