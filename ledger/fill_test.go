package ledger

import (
	"fmt"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// fill gives alice and bob money, and alice a settled hold, an open one, and n charges.
func fill(t testing.TB, s *store.Store, n int) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		for _, a := range []identity.AccountID{alice, bob} {
			if _, err := Credit(tx, Entry{At: noon, Account: a, Amount: usd("1000")}); err != nil {
				return err
			}
		}
		h, err := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("4"), Resource: "gpu-instance/1"}, HoldTerms{})
		if err != nil {
			return err
		}
		if _, err = SettleHold(tx, h.ID, GPUUsage, usd("3"), Entry{At: noon}); err != nil {
			return err
		}
		_, err = PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("5"), Resource: "gpu-instance/2"}, HoldTerms{})
		return err
	})
	for done := 0; done < n; done += 50 {
		update(t, s, func(tx *store.Tx) error {
			for i := done; i < min(n, done+50); i++ {
				_, err := Charge(tx, APIUsage, Entry{
					At: noon.Add(time.Duration(i) * time.Second), Account: alice, Amount: 125, Resource: "model/llama",
					RequestID: fmt.Sprint("request ", i), Key: fmt.Sprint("row ", i), Tag: "web", Usage: Usage{Model: "llama", InputTokens: 10, OutputTokens: 20},
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	update(t, s, func(tx *store.Tx) error { // by itself, so that it stays in the tail with its wallet
		_, err := Credit(tx, Entry{At: noon.Add(time.Hour), Account: alice, Amount: usd("1")})
		return err
	})
}

// crowd adds the accounts 4 to 300, each with a dollar: more wallets than are hot.
func crowd(t testing.TB, s *store.Store) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		for n := 4; n <= 300; n++ {
			a, err := identity.CreateAccount(tx, fmt.Sprint("account ", n), noon)
			if err != nil {
				return err
			}
			if _, err := Credit(tx, Entry{At: noon, Account: a.ID, Amount: Dollar}); err != nil {
				return err
			}
		}
		return nil
	})
}
