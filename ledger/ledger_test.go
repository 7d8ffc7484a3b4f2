package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

const alice identity.AccountID = 1

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func update(t testing.TB, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func wallet(t testing.TB, s *store.Store, a identity.AccountID) (w Wallet) {
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
		h, err = PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("3.20"), Resource: "gpu-instance/1"})
		return err
	})
	if w := wallet(t, s, alice); w != (Wallet{usd("6.80"), usd("3.20")}) {
		t.Fatalf("after the hold: %+v", w)
	}
	update(t, s, func(tx *store.Tx) (err error) {
		_, err = ExtendHold(tx, h.ID, Entry{At: noon, Amount: usd("4.80")})
		return err
	})
	if w := wallet(t, s, alice); w != (Wallet{usd("2"), usd("8")}) {
		t.Fatalf("after the extension: %+v", w)
	}
	for range 2 { // the second settlement moves nothing
		update(t, s, func(tx *store.Tx) (err error) {
			h, err = SettleHold(tx, h.ID, GPUUsage, usd("0.80"), Entry{At: noon.Add(time.Hour)})
			return err
		})
	}
	if w := wallet(t, s, alice); w != (Wallet{usd("9.20"), 0}) || h.Settled.Refunded != usd("7.20") {
		t.Fatalf("after the settlement: %+v, %+v", w, h.Settled)
	}
	var types []Type
	var signed []MicroUSD
	err := s.View(func(tx *store.Tx) error {
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

func TestUseBeyondTheHoldIsNotCharged(t *testing.T) {
	s := newStore(t)
	var h Hold
	update(t, s, func(tx *store.Tx) (err error) {
		if _, err = Credit(tx, Entry{At: noon, Account: alice, Amount: usd("10")}); err != nil {
			return err
		}
		if h, err = PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("3")}); err != nil {
			return err
		}
		h, err = SettleHold(tx, h.ID, GPUUsage, usd("3.50"), Entry{At: noon})
		return err
	})
	if w := wallet(t, s, alice); w != (Wallet{usd("7"), 0}) || h.Settled.Unbilled != usd("0.50") {
		t.Fatalf("%+v, %+v", w, h.Settled)
	}
}

func TestHoldThatCannotBePaidLeavesNoTrace(t *testing.T) {
	s := newStore(t)
	err := s.Update(context.Background(), func(tx *store.Tx) error {
		_, err := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("3.20"), Key: "k"})
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
	if again, err := credit(usd("5")); err != nil || again != first {
		t.Fatalf("%+v, %v, want %+v", again, err, first)
	}
	if _, err := credit(usd("6")); !errors.Is(err, ErrKeyReused) {
		t.Fatalf("got %v", err)
	}
	if w := wallet(t, s, alice); w.Available != usd("5") {
		t.Fatalf("%+v", w)
	}
}

// model is what the ledger should say, kept in the simplest way.
type model struct {
	wallets map[identity.AccountID]Wallet
	holds   map[HoldID]*Hold
}

// The ledger agrees with the model after any sequence of operations, refused
// ones included; a copy of the file taken at any commit (a crash) verifies.
func TestBooksAgreeAfterAnySequenceAndAnyCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "ledger")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, err := store.Open(filepath.Join(dir, "ecolink.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m := model{wallets: map[identity.AccountID]Wallet{}, holds: map[HoldID]*Hold{}}
		crash := rapid.IntRange(0, 30).Draw(t, "crash")
		for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
			m.step(t, s)
			for a, want := range m.wallets {
				var got Wallet
				s.View(func(tx *store.Tx) error { got, _ = WalletOf(tx, a); return nil })
				if got != want {
					t.Fatalf("account %d has %+v, want %+v", a, got, want)
				}
			}
			if i == crash {
				verifyCopy(t, s, filepath.Join(dir, "copy.db"))
			}
		}
		if _, err := verify(s); err != nil {
			t.Fatal(err)
		}
	})
}

func (m *model) step(t *rapid.T, s *store.Store) {
	a := identity.AccountID(rapid.Int64Range(1, 3).Draw(t, "account"))
	amount := MicroUSD(rapid.Int64Range(-1, 20).Draw(t, "amount"))
	id := HoldID(rapid.Int64Range(1, 6).Draw(t, "hold"))
	op := rapid.SampledFrom([]string{"credit", "correct", "hold", "extend", "settle"}).Draw(t, "op")
	w, h := m.wallets[a], m.holds[id]
	entry := Entry{At: noon, Account: a, Amount: amount, Resource: "r"}
	var want bool // whether it should be done
	err := s.Update(context.Background(), func(tx *store.Tx) (err error) {
		switch op {
		case "credit":
			want = amount > 0
			_, err = Credit(tx, entry)
		case "correct":
			want = amount > 0 || amount < 0 && w.Available >= -amount
			_, err = Correct(tx, entry)
		case "hold":
			want = amount > 0 && w.Available >= amount
			var placed Hold
			if placed, err = PlaceHold(tx, entry); err == nil {
				id = placed.ID
			}
		case "extend":
			want = h != nil && h.Settled == nil && amount > 0 && m.wallets[h.Account].Available >= amount
			_, err = ExtendHold(tx, id, entry)
		case "settle":
			want = h != nil && (h.Settled != nil || amount >= 0)
			_, err = SettleHold(tx, id, GPUUsage, amount, entry)
		}
		return err
	})
	if (err == nil) != want {
		t.Fatalf("%s of %d on %d/%d: %v, want done=%v", op, amount, a, id, err, want)
	}
	if err != nil {
		return
	}
	switch op {
	case "credit", "correct":
		w.Available += amount
		m.wallets[a] = w
	case "hold":
		m.wallets[a] = Wallet{w.Available - amount, w.Held + amount}
		m.holds[id] = &Hold{Account: a, Amount: amount}
	case "extend":
		hw := m.wallets[h.Account]
		m.wallets[h.Account] = Wallet{hw.Available - amount, hw.Held + amount}
		h.Amount += amount
	case "settle":
		if h.Settled == nil {
			hw, used := m.wallets[h.Account], min(amount, h.Amount)
			m.wallets[h.Account] = Wallet{hw.Available + h.Amount - used, hw.Held - h.Amount}
			h.Settled = &Settlement{Used: used}
		}
	}
}

func verifyCopy(t *rapid.T, s *store.Store, path string) {
	var image bytes.Buffer
	if err := s.Backup(&image); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, image.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	twin, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer twin.Close()
	if _, err := verify(twin); err != nil {
		t.Fatal(err)
	}
}

// Each way of tampering with the file must show.
func TestVerifyFindsEveryKindOfTampering(t *testing.T) {
	tamper := map[string]func(*store.Tx) error{
		"an amount": func(tx *store.Tx) error {
			r, _, _ := journal.Get(tx, 1)
			r.Amount++
			return journal.Put(tx, 1, r)
		},
		"an amount with its hash made anew": func(tx *store.Tx) error {
			r, _, _ := journal.Get(tx, 1)
			r.Amount++
			r.Hash, _ = r.digest()
			return journal.Put(tx, 1, r)
		},
		"a description": func(tx *store.Tx) error {
			r, _, _ := journal.Get(tx, 2)
			r.Description = "else"
			return journal.Put(tx, 2, r)
		},
		"a removed row":      func(tx *store.Tx) error { return journal.Delete(tx, 2) },
		"a removed last row": func(tx *store.Tx) error { return journal.Delete(tx, 3) },
		"a balance": func(tx *store.Tx) error {
			return balances.Put(tx, available(alice), Balance{In: usd("99")})
		},
		"a hold": func(tx *store.Tx) error {
			h, _, _ := holds.Get(tx, 1)
			h.Amount++
			return holds.Put(tx, 1, h)
		},
		"a removed hold": func(tx *store.Tx) error { return holds.Delete(tx, 1) },
		"a row taken out of a statement": func(tx *store.Tx) error {
			return byAccount.Delete(tx, store.Pair{A: int64(alice), B: 2})
		},
	}
	for what, do := range tamper {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			update(t, s, func(tx *store.Tx) error {
				if _, err := Credit(tx, Entry{At: noon, Account: alice, Amount: usd("10")}); err != nil {
					return err
				}
				h, err := PlaceHold(tx, Entry{At: noon, Account: alice, Amount: usd("4")})
				if err != nil {
					return err
				}
				_, err = SettleHold(tx, h.ID, GPUUsage, usd("4"), Entry{At: noon})
				return err
			})
			if _, err := verify(s); err != nil {
				t.Fatal(err)
			}
			update(t, s, do)
			var found *Disagreement
			if _, err := verify(s); !errors.As(err, &found) {
				t.Fatalf("not found: %v", err)
			}
		})
	}
}
