package ledger

import (
	"iter"
	"math"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Wallet is what an account has. Available + Held = everything in - everything spent.
type Wallet struct {
	Available MicroUSD `json:"available"`
	Held      MicroUSD `json:"held"`
}

// Total is available and held together: at zero, instances end.
func (w Wallet) Total() MicroUSD { return w.Available + w.Held }

// WalletOf reads an account's wallet. An account without rows has an empty one.
func WalletOf(tx *store.Tx, a identity.AccountID) (Wallet, error) {
	av, _, err := balances.Get(tx, available(a))
	if err != nil {
		return Wallet{}, err
	}
	h, _, err := balances.Get(tx, held(a))
	if err != nil {
		return Wallet{}, err
	}
	return Wallet{Available: av.Net(), Held: h.Net()}, nil
}

// Credit tops an account up. The entry's Description is the operator's note.
func Credit(tx *store.Tx, e Entry) (Transfer, error) { return fund(tx, TopUp, fundingOperator, e) }

// GiveBonus credits a sign-up bonus.
func GiveBonus(tx *store.Tx, e Entry) (Transfer, error) { return fund(tx, Bonus, fundingBonus, e) }

// Correct adds to (amount above zero) or takes from (below zero) an account by an
// operator's decision. It may not take more than is available.
func Correct(tx *store.Tx, e Entry) (Transfer, error) {
	if e.Amount > 0 {
		return fund(tx, AdminCorrection, fundingCorrections, e)
	}
	prior, ok, err := seen(tx, AdminCorrection, e)
	if err != nil {
		return Transfer{}, err
	}
	if ok {
		return row(tx, prior.Seq)
	}
	taken := e
	taken.Amount = -e.Amount
	t, err := move(tx, movement{Entry: taken, kind: AdminCorrection, from: available(e.Account), to: fundingCorrections})
	if err != nil {
		return Transfer{}, err
	}
	return t, remember(tx, AdminCorrection, e, t.Seq, 0)
}

func fund(tx *store.Tx, kind Type, source Book, e Entry) (Transfer, error) {
	prior, ok, err := seen(tx, kind, e)
	if err != nil {
		return Transfer{}, err
	}
	if ok {
		return row(tx, prior.Seq)
	}
	t, err := move(tx, movement{Entry: e, kind: kind, from: source, to: available(e.Account), overdraw: true})
	if err != nil {
		return Transfer{}, err
	}
	return t, remember(tx, kind, e, t.Seq, 0)
}

func row(tx *store.Tx, seq int64) (Transfer, error) {
	t, _, err := journal.Get(tx, seq)
	return t, err
}

// Statement yields an account's rows, newest first, that are older than the row
// `before`; 0 begins at the newest.
func Statement(tx *store.Tx, a identity.AccountID, before int64) iter.Seq2[Transfer, error] {
	from := store.Last(int64(a))
	if before > 0 && before < math.MaxInt64 {
		from.B = before - 1
	}
	return func(yield func(Transfer, error) bool) {
		for rec, err := range byAccount.ScanDown(tx, from, store.First(int64(a))) {
			if err != nil {
				yield(Transfer{}, err)
				return
			}
			t, err := row(tx, rec.Key.B)
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}
