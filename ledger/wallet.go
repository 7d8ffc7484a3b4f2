package ledger

import (
	"fmt"
	"strings"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Wallet is what an account has. Available + Held = In - Out.
type Wallet struct {
	Available MicroUSD `json:"available"` // may be spent
	Held      MicroUSD `json:"held"`      // set aside for what runs
	In        MicroUSD `json:"in"`        // everything that was ever put in
	Out       MicroUSD `json:"out"`       // everything that was ever spent, or taken by a correction
}

// Total is available and held together: at zero, instances end.
func (w Wallet) Total() MicroUSD { return w.Available + w.Held }

// WalletOf reads an account's wallet. An account without rows has an empty one.
func WalletOf(tx *store.Tx, a identity.AccountID) (Wallet, error) {
	w, err := walletOf(tx, a)
	return Wallet{Available: w.available, Held: w.held, In: w.in, Out: w.out}, err
}

// Credit tops an account up. The entry's Description is the operator's note.
func Credit(tx *store.Tx, e Entry) (Transfer, error) { return fund(tx, TopUp, fundingOperator, e) }

// GiveBonus credits a sign-up bonus.
func GiveBonus(tx *store.Tx, e Entry) (Transfer, error) { return fund(tx, Bonus, fundingBonus, e) }

func fund(tx *store.Tx, kind Type, source bookKind, e Entry) (Transfer, error) {
	m := movement{Entry: e, kind: kind, from: outside(source), to: available(e.Account)}
	prior, ok, err := seen(tx, m)
	if err != nil || ok {
		return prior, err
	}
	return move(tx, m)
}

// Charge takes a charge for usage from the available balance, in one step.
// *InsufficientError and *CapError leave everything as it was.
func Charge(tx *store.Tx, kind Type, e Entry) (Transfer, error) {
	to, err := revenue(kind)
	if err != nil {
		return Transfer{}, err
	}
	m := movement{Entry: e, kind: kind, from: available(e.Account), to: to}
	prior, ok, err := seen(tx, m)
	if err != nil || ok {
		return prior, err
	}
	if err := affordable(tx, m); err != nil {
		return Transfer{}, err
	}
	t, err := move(tx, m)
	if err != nil {
		return Transfer{}, err
	}
	return t, countSpend(tx, m, m.Amount)
}

// correction remembers what an idempotency key corrected: one correction may take
// several rows.
type correction struct {
	Row    int64    `json:"row"`
	Amount MicroUSD `json:"amount"`
	Reason string   `json:"reason"`
}

var corrections = store.NewStringCollection[string, correction]("ledger.corrections")

// Correct adds to (amount above zero) or takes from (below zero) an account by an
// operator's decision, for the reason in e.Description. It never rewrites what
// was. More than is available is taken from what is held, from the newest hold
// first; more than both is an *InsufficientError.
func Correct(tx *store.Tx, e Entry) (Transfer, error) {
	if e.Description = cut(e.Description, maxDescriptionBytes); strings.TrimSpace(e.Description) == "" {
		return Transfer{}, ErrNoReason
	}
	if e.Amount == 0 {
		return Transfer{}, fmt.Errorf("correction: %w, or below it", ErrAmount)
	}
	key := keyOf(e.Account, e.Key)
	if e.Key != "" {
		was, ok, err := corrections.Get(tx, key)
		if err != nil {
			return Transfer{}, err
		}
		if ok && (was.Amount != e.Amount || was.Reason != e.Description) {
			return Transfer{}, fmt.Errorf("%q: %w", e.Key, ErrKeyReused)
		}
		if ok {
			return rowAt(tx, was.Row)
		}
		b, err := batchOf(tx)
		if err != nil {
			return Transfer{}, err
		}
		if _, used, err := b.keyed(tx, e.Account, e.Key); err != nil || used {
			return Transfer{}, orReused(err, e.Key)
		}
	}
	first, err := correct(tx, e)
	if err != nil || e.Key == "" {
		return first, err
	}
	return first, corrections.Put(tx, key, correction{Row: first.Seq, Amount: e.Amount, Reason: e.Description})
}

func orReused(err error, key string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%q: %w", key, ErrKeyReused)
}

// correct makes the rows and gives the first.
func correct(tx *store.Tx, e Entry) (first Transfer, err error) {
	if e.Amount > 0 {
		return move(tx, movement{Entry: e, kind: AdminCorrection, from: outside(fundingCorrections), to: available(e.Account)})
	}
	w, err := walletOf(tx, e.Account)
	if err != nil {
		return first, err
	}
	if w.available+w.held+e.Amount < 0 {
		return first, &InsufficientError{Needed: -e.Amount, Available: w.available + w.held}
	}
	left := -e.Amount
	take := func(from Book, amount MicroUSD, hold HoldID) (row int64, err error) {
		e.Amount = amount
		t, err := move(tx, movement{Entry: e, kind: AdminCorrection, from: from, to: outside(fundingCorrections), hold: hold})
		if first.Seq == 0 {
			first = t
		}
		e.Key = "" // it is the first row's
		left -= amount
		return t.Seq, err
	}
	if amount := min(left, w.available); amount > 0 {
		if _, err := take(available(e.Account), amount, 0); err != nil {
			return first, err
		}
	}
	if left == 0 {
		return first, nil
	}
	open, err := OpenHolds(tx, e.Account)
	if err != nil {
		return first, err
	}
	for n := len(open) - 1; n >= 0 && left > 0; n-- {
		h := open[n]
		amount := min(left, h.Rest())
		if amount == 0 {
			continue
		}
		if h.LastRow, err = take(held(e.Account), amount, h.ID); err != nil {
			return first, err
		}
		h.Taken += amount
		if err := holds.Put(tx, h.ID, h); err != nil {
			return first, err
		}
	}
	if left > 0 {
		return first, fmt.Errorf("account %d has %s held, and no open holds for %s of it: %w", e.Account, w.held, left, store.ErrDamaged)
	}
	return first, nil
}
