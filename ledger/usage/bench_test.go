package usage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// BenchmarkFold folds rows of many accounts, and of one.
func BenchmarkFold(b *testing.B) {
	for _, accounts := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("accounts=%d", accounts), func(b *testing.B) {
			w := newWorld(b, b.TempDir())
			defer func() { w.st.Close() }()
			w.spend(b.N, accounts)
			b.ResetTimer()
			w.foldAll()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// spend charges n rows to accounts that it makes.
func (w *world) spend(n, accounts int) {
	w.update(func(tx *store.Tx) error {
		for a := range accounts {
			made, err := identity.CreateAccount(tx, fmt.Sprint("account ", a), noon)
			if err != nil {
				return err
			}
			if _, err := ledger.Credit(tx, ledger.Entry{At: noon, Account: made.ID, Amount: ledger.Dollar}); err != nil {
				return err
			}
		}
		return nil
	})
	for done := 0; done < n; done += 1000 {
		w.update(func(tx *store.Tx) error {
			for i := done; i < min(n, done+1000); i++ {
				_, err := ledger.Charge(tx, ledger.APIUsage, ledger.Entry{
					At: noon.Add(time.Duration(i) * 10 * time.Millisecond), Account: identity.AccountID(3 + i%accounts), Amount: 1,
					Resource: fmt.Sprint("model/", i%2000), APIKey: identity.KeyID(i%20 + 1), Tag: fmt.Sprint("tag ", i%7),
					Usage: ledger.Usage{Model: fmt.Sprint("model ", i%5), InputTokens: 10, OutputTokens: 20},
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// BenchmarkMonth reads a breakdown of 1000 resources, with a second of rows that
// have not been folded.
func BenchmarkMonth(b *testing.B) {
	w := newWorld(b, b.TempDir())
	defer func() { w.st.Close() }()
	w.spend(100_000, 1)
	for range 19 { // 5000 are left
		if _, err := Fold(context.Background(), w.st, 5000); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		w.month(3, noon)
	}
}
