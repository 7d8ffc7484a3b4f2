package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// BenchmarkCharge is the whole durable path: key, balance, row, chain, commit.
// cmd/ecolink-bench has it beside others.
func BenchmarkCharge(b *testing.B) {
	const accounts = 10_000
	s, err := store.Open(filepath.Join(b.TempDir(), "ecolink.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	update(b, s, func(tx *store.Tx) error {
		for n := range accounts {
			a, err := identity.CreateAccount(tx, fmt.Sprint("account ", n), time.Now())
			if err != nil {
				return err
			}
			if _, err := Credit(tx, Entry{At: time.Now(), Account: a.ID, Amount: 1_000_000 * Dollar}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, callers := range []int{1, 16, 64, 512, 2048} {
		for _, spread := range []int64{accounts, 1} {
			b.Run(fmt.Sprintf("callers=%d/accounts=%d", callers, spread), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				b.ResetTimer()
				for range callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							id := uuid.Must(uuid.NewV7()).String()
							e := Entry{
								At: time.Now(), Account: identity.AccountID(rand.Int64N(spread) + 1), Amount: 125, Resource: "model/llama",
								RequestID: id, Key: id, APIKey: 7, Tag: "web", Usage: Usage{Model: "llama", InputTokens: 100, OutputTokens: 200},
							}
							err := s.Update(context.Background(), func(tx *store.Tx) error {
								_, err := Charge(tx, APIUsage, e)
								return err
							})
							if err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "charges/s")
			})
		}
	}
}
