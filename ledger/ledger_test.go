package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const (
	alice identity.AccountID = 1
	bob   identity.AccountID = 2
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newStore is a store in which accounts 1 to 3 have no money yet.
func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	addAccounts(t, s)
	return s
}

func addAccounts(t testing.TB, s *store.Store) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		for _, name := range []string{"alice", "bob", "carol"} {
			if _, err := identity.CreateAccount(tx, name, noon); err != nil {
				return err
			}
		}
		return nil
	})
}

func update(t testing.TB, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func moneyOf(t testing.TB, s *store.Store, a identity.AccountID) (w Wallet) {
	t.Helper()
	err := s.View(func(tx *store.Tx) (err error) { w, err = WalletOf(tx, a); return err })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func verify(s *store.Store) (r Report, err error) {
	err = s.View(func(tx *store.Tx) (err error) { r, err = Verify(tx); return err })
	return r, err
}

func usd(s string) MicroUSD {
	m, err := ParseUSD(s)
	if err != nil {
		panic(err)
	}
	return m
}

func TestHoldExtendAndSettleMoveExactlyWhatTheyShould(t *testing.T) {
	s := newStore(t)
	var h Hold
	update(t, s, func(tx *store.Tx) (err error) {
		if _, err = Credit(tx, Entry{At: noon, Account: alice, Amount: usd("10"), Description: "invoice 7"}); err != nil {
			return err
		}
		h, err = PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("3.20"), Resource: "gpu-instance/1"}, HoldTerms{})
		return err
	})
	if w := moneyOf(t, s, alice); w != (Wallet{usd("6.80"), usd("3.20"), usd("10"), 0}) {
		t.Fatalf("after the hold: %+v", w)
	}
	update(t, s, func(tx *store.Tx) (err error) {
		_, _, err = ExtendHold(tx, h.ID, Entry{At: noon, Amount: usd("4.80")}, time.Time{})
		return err
	})
	if w := moneyOf(t, s, alice); w != (Wallet{usd("2"), usd("8"), usd("10"), 0}) {
		t.Fatalf("after the extension: %+v", w)
	}
	update(t, s, func(tx *store.Tx) (err error) {
		h, err = SettleHold(tx, h.ID, GPUUsage, usd("0.80"), Entry{At: noon.Add(time.Hour)})
		return err
	})
	err := s.Update(context.Background(), func(tx *store.Tx) error {
		_, err := SettleHold(tx, h.ID, GPUUsage, usd("0.90"), Entry{At: noon.Add(time.Hour)})
		return err
	})
	if !errors.Is(err, ErrHoldSettled) {
		t.Fatalf("second settlement: %v", err)
	}
	if w := moneyOf(t, s, alice); w != (Wallet{usd("9.20"), 0, usd("10"), usd("0.80")}) || h.Settled.Refunded != usd("7.20") {
		t.Fatalf("after the settlement: %+v, %+v", w, h.Settled)
	}
	var types []Type
	var signed []MicroUSD
	err = s.View(func(tx *store.Tx) error {
		for row, err := range Statement(tx, alice, 0) {
			if err != nil {
				return err
			}
			types, signed = append(types, row.Type), append(signed, row.Signed())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(types, signed); got != "[refund gpu_usage hold hold topup] [7.20 -0.80 -4.80 -3.20 10.00]" {
		t.Fatalf("statement: %s", got)
	}
	if r, err := verify(s); err != nil || r.Earned != usd("0.80") || r.InFlow != usd("10") || r.Open != 0 {
		t.Fatalf("verify: %+v, %v", r, err)
	}
}

func TestUseBeyondTheHoldIsChargedAsFarAsItsTermsGo(t *testing.T) {
	for name, c := range map[string]struct {
		have, used MicroUSD
		terms      HoldTerms
		want       Wallet // available and held
		unbilled   MicroUSD
		refused    bool
	}{
		"no overage":                    {have: usd("10"), used: usd("3.50"), refused: true, want: Wallet{Available: usd("7"), Held: usd("3")}},
		"overage":                       {have: usd("10"), used: usd("3.50"), terms: HoldTerms{Overage: usd("0.50")}, want: Wallet{Available: usd("6.50")}},
		"more than the overage":         {have: usd("10"), used: usd("3.51"), terms: HoldTerms{Overage: usd("0.50")}, refused: true, want: Wallet{Available: usd("7"), Held: usd("3")}},
		"overage without money":         {have: usd("3.10"), used: usd("3.50"), terms: HoldTerms{Overage: usd("0.50")}, want: Wallet{}, unbilled: usd("0.40")},
		"overage that may be overdrawn": {have: usd("3.10"), used: usd("3.50"), terms: HoldTerms{Overage: usd("0.50"), Overdraft: usd("0.20")}, want: Wallet{Available: usd("-0.20")}, unbilled: usd("0.20")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			var h Hold
			update(t, s, func(tx *store.Tx) (err error) {
				if _, err = Credit(tx, Entry{At: noon, Account: alice, Amount: c.have}); err != nil {
					return err
				}
				h, err = PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("3")}, c.terms)
				return err
			})
			err := s.Update(context.Background(), func(tx *store.Tx) (err error) {
				h, err = SettleHold(tx, h.ID, GPUUsage, c.used, Entry{At: noon})
				return err
			})
			var over *OverageError
			if errors.As(err, &over) != c.refused || !c.refused && err != nil {
				t.Fatalf("got %v", err)
			}
			if w := moneyOf(t, s, alice); w.Available != c.want.Available || w.Held != c.want.Held {
				t.Fatalf("%+v", w)
			}
			if !c.refused && h.Settled.Unbilled != c.unbilled {
				t.Fatalf("%+v", h.Settled)
			}
			if _, err := verify(s); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestHoldThatCannotBePaidLeavesNoTrace(t *testing.T) {
	s := newStore(t)
	err := s.Update(context.Background(), func(tx *store.Tx) error {
		_, err := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("3.20"), Key: "k"}, HoldTerms{})
		return err
	})
	var short *InsufficientError
	if !errors.As(err, &short) || short.Needed != usd("3.20") || short.Available != 0 {
		t.Fatalf("got %v", err)
	}
	if r, err := verify(s); err != nil || r.Rows != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestSameKeyGivesTheFirstAnswerAndAnotherRequestIsRefused(t *testing.T) {
	s := newStore(t)
	credit := func(amount MicroUSD) (row Transfer, err error) {
		err = s.Update(context.Background(), func(tx *store.Tx) (err error) {
			row, err = Credit(tx, Entry{At: noon, Account: alice, Amount: amount, Key: "invoice-7"})
			return err
		})
		return row, err
	}
	first, err := credit(usd("5"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := credit(usd("5"))
	first.Hash = again.Hash // which a row has once it is committed
	if err != nil || again != first {
		t.Fatalf("%+v, %v, want %+v", again, err, first)
	}
	if _, err := credit(usd("6")); !errors.Is(err, ErrKeyReused) {
		t.Fatalf("got %v", err)
	}
	if w := moneyOf(t, s, alice); w.Available != usd("5") {
		t.Fatalf("%+v", w)
	}
}
