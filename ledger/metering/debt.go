package metering

import (
	"fmt"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Debt is what a resource used while the account had money, and none of it was
// free: all was held for something else. It is charged as soon as money is free,
// before anything new can be started. An account's debts together are never more
// than what it has when they are made, so that only money which is there is waited
// for. They are forgiven when that is gone too.
type Debt struct {
	ID       int64              `json:"id"` // of the record
	Account  identity.AccountID `json:"account"`
	Resource string             `json:"resource"`
	Type     ledger.Type        `json:"type"`
	Label    string             `json:"label,omitempty"` // of a cycle
	APIKey   identity.KeyID     `json:"api_key,omitempty"`
	From     time.Time          `json:"from"` // of what was used first
	To       time.Time          `json:"to"`   // of what was used last
	Amount   ledger.MicroUSD    `json:"amount"`
}

var (
	debts   = store.NewStringCollection[string, Debt]("metering.debts")
	debtsOf = store.NewPairCollection[string]("metering.debts-of-account") // (account, debt) → the debt's key
)

// key: a resource has one debt of a kind, however many days it is for.
func (d Debt) key() string { return string(d.Type) + " " + d.Resource }

// Debts lists what an account owes, the oldest first.
func Debts(tx *store.Tx, a identity.AccountID) (out []Debt, err error) {
	for rec, err := range debtsOf.Scan(tx, store.First(int64(a)), store.Last(int64(a))) {
		if err != nil {
			return nil, err
		}
		d, ok, err := debts.Get(tx, rec.Value)
		if err == nil && !ok {
			err = fmt.Errorf("debt %d of account %d is not there: %w", rec.Key.B, a, store.ErrDamaged)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// owed is the sum of an account's debts.
func owed(tx *store.Tx, a identity.AccountID) (all ledger.MicroUSD, err error) {
	list, err := Debts(tx, a)
	for _, d := range list {
		all += d.Amount // together they are not more than a wallet had
	}
	return all, err
}

// enough refuses what the available balance does not cover, with what is owed.
func enough(tx *store.Tx, a identity.AccountID, needed ledger.MicroUSD) error {
	all, err := owed(tx, a)
	if err != nil {
		return err
	}
	w, err := ledger.WalletOf(tx, a)
	if err == nil && w.Available < needed+all {
		err = &ledger.InsufficientError{Needed: needed + all, Available: w.Available}
	}
	return err
}

// split divides what can't be paid from what is available into what will be owed
// and what nobody pays. held is what is held for others than who asks.
func split(tx *store.Tx, a identity.AccountID, unpaid, held ledger.MicroUSD) (owes ledger.MicroUSD, err error) {
	if unpaid <= 0 {
		return 0, nil
	}
	all, err := owed(tx, a)
	return min(unpaid, max(0, held-all)), err
}

// owe writes down a debt, with what the resource owes already.
func owe(tx *store.Tx, d Debt) error {
	if d.Amount == 0 {
		return nil
	}
	was, ok, err := debts.Get(tx, d.key())
	if err != nil {
		return err
	}
	if ok {
		was.Amount += d.Amount
		was.To, was.Label, was.APIKey = d.To, d.Label, d.APIKey
		return debts.Put(tx, d.key(), was)
	}
	if d.ID, err = tx.NextID(debts.Name()); err != nil {
		return err
	}
	if err := debtsOf.Put(tx, store.Pair{A: int64(d.Account), B: d.ID}, d.key()); err != nil {
		return err
	}
	return debts.Put(tx, d.key(), d)
}

// Payment is what became of an account's debts.
type Payment struct {
	Paid ledger.MicroUSD
	// Forgiven was used when there was no money, as it turned out. Nobody is
	// charged for it; the operator sees what it cost.
	Forgiven ledger.MicroUSD
}

func (p *Payment) add(q Payment) { p.Paid, p.Forgiven = p.Paid+q.Paid, p.Forgiven+q.Forgiven }

// PayDebts charges what an account owes, the oldest first, as far as the available
// balance reaches. Of an account that has nothing then, available and held
// together, the rest is forgiven.
func PayDebts(tx *store.Tx, a identity.AccountID, now time.Time) (p Payment, err error) {
	list, err := Debts(tx, a)
	if err != nil || len(list) == 0 {
		return p, err
	}
	w, err := ledger.WalletOf(tx, a)
	if err != nil {
		return p, err
	}
	for _, d := range list {
		part := max(0, min(d.Amount, w.Available-p.Paid))
		if part > 0 {
			if err := d.pay(tx, part, now); err != nil {
				return p, err
			}
		}
		p.Paid += part
		d.Amount -= part
		if w.Total() <= p.Paid {
			p.Forgiven += d.Amount
			d.Amount = 0
		} else if part == 0 {
			return p, nil
		}
		if err := d.save(tx); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (d Debt) pay(tx *store.Tx, part ledger.MicroUSD, now time.Time) error {
	text := fmt.Sprintf("owed since %s to %s, when all money was held", spell(d.From), spell(d.To))
	if part < d.Amount {
		text += fmt.Sprintf("; $%s of $%s", part, d.Amount)
	}
	if d.Label != "" {
		text = d.Label + ": " + text
	}
	return chargeUsed(tx, d.Type, ledger.Entry{At: now, Account: d.Account, Amount: part, Resource: d.Resource, APIKey: d.APIKey, Description: text})
}

// save writes what is left of a debt.
func (d Debt) save(tx *store.Tx) error {
	if d.Amount > 0 {
		return debts.Put(tx, d.key(), d)
	}
	if err := debtsOf.Delete(tx, store.Pair{A: int64(d.Account), B: d.ID}); err != nil {
		return err
	}
	return debts.Delete(tx, d.key())
}

// Debtors lists at most limit accounts, above the given one, that PayDebts would
// do something for: they owe, and have money that is free, or none at all.
func Debtors(tx *store.Tx, above identity.AccountID, limit int) (out []identity.AccountID, err error) {
	for len(out) < limit {
		next, ok, err := nextOwner(tx, debtsOf, above)
		if err != nil || !ok {
			return out, err
		}
		above = next
		w, err := ledger.WalletOf(tx, above)
		if err != nil {
			return nil, err
		}
		if w.Available > 0 || w.Total() <= 0 {
			out = append(out, above)
		}
	}
	return out, nil
}

// nextOwner is the first account above the given one that an index has.
func nextOwner(tx *store.Tx, index store.Collection[store.Pair, string], above identity.AccountID) (a identity.AccountID, ok bool, err error) {
	for rec, err := range index.Scan(tx, store.First(int64(above)+1), store.Last(maxAccount)) {
		return identity.AccountID(rec.Key.A), err == nil, err
	}
	return 0, false, nil
}
