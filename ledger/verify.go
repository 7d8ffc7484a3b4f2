package ledger

import (
	"fmt"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Report is what Verify found in books that agree.
type Report struct {
	Rows     int64    `json:"rows"`
	Books    int      `json:"books"`
	Accounts int      `json:"accounts"`
	Open     int      `json:"open_holds"`
	LastHash string   `json:"last_hash"`
	InFlow   MicroUSD `json:"funded"`
	Earned   MicroUSD `json:"earned"`
}

// Disagreement is the first place where the books do not agree with the journal.
type Disagreement struct {
	Seq  int64 // the row, or 0 when it is a balance or a hold
	What string
}

func (d *Disagreement) Error() string {
	if d.Seq > 0 {
		return fmt.Sprintf("ledger row %d: %s; restore the newest backup that verifies and report this", d.Seq, d.What)
	}
	return fmt.Sprintf("ledger: %s; restore the newest backup that verifies and report this", d.What)
}

// Verify rebuilds every balance and hold from the journal and compares them with
// what is stored. It returns a *Disagreement for the first difference.
func Verify(tx *store.Tx) (Report, error) {
	v := verifier{books: map[Book]Balance{}, holds: map[HoldID]heldMoney{}, accounts: map[identity.AccountID]struct{}{}}
	for rec, err := range journal.All(tx) {
		if err != nil {
			return Report{}, err
		}
		if err := v.row(rec.Key, rec.Value); err != nil {
			return Report{}, err
		}
	}
	if err := v.index(tx); err != nil {
		return Report{}, err
	}
	if err := v.balances(tx); err != nil {
		return Report{}, err
	}
	return v.report, v.openHolds(tx)
}

// heldMoney is what the journal says of a hold.
type heldMoney struct{ placed, used, refunded MicroUSD }

type verifier struct {
	books    map[Book]Balance
	holds    map[HoldID]heldMoney
	accounts map[identity.AccountID]struct{}
	last     string
	report   Report
}

func (v *verifier) row(key int64, t Transfer) error {
	wrong := func(format string, args ...any) error {
		return &Disagreement{Seq: key, What: fmt.Sprintf(format, args...)}
	}
	v.report.Rows++
	if key != v.report.Rows || t.Seq != key {
		return wrong("is numbered %d where %d is next: a row was removed or put in", t.Seq, v.report.Rows)
	}
	if t.Previous != v.last {
		return wrong("does not follow the row before it: a row was changed, removed or put in")
	}
	hash, err := t.digest()
	if err != nil {
		return err
	}
	if hash != t.Hash {
		return wrong("was changed after it was written")
	}
	if t.Amount <= 0 {
		return wrong("moves %s", t.Amount)
	}
	v.last = t.Hash
	v.report.LastHash = t.Hash
	v.accounts[t.Account] = struct{}{}

	from, to := v.books[t.From], v.books[t.To]
	if from.Out, err = from.Out.Add(t.Amount); err != nil {
		return wrong("%v", err)
	}
	if to.In, err = to.In.Add(t.Amount); err != nil {
		return wrong("%v", err)
	}
	v.books[t.From], v.books[t.To] = from, to
	av, he := v.books[available(t.Account)].Net(), v.books[held(t.Account)].Net()
	if av != t.Available || he != t.Held {
		return wrong("says %s available and %s held, the rows up to it make %s and %s", t.Available, t.Held, av, he)
	}
	if av < 0 || he < 0 {
		return wrong("leaves %s available and %s held", av, he)
	}
	if t.Hold != 0 {
		h := v.holds[t.Hold]
		switch {
		case t.To == held(t.Account):
			h.placed += t.Amount
		case t.To == available(t.Account):
			h.refunded += t.Amount
		default:
			h.used += t.Amount
		}
		v.holds[t.Hold] = h
	}
	return nil
}

// index checks that every row is in its account's statement, and nothing else is.
func (v *verifier) index(tx *store.Tx) error {
	var n int64
	for rec, err := range byAccount.All(tx) {
		if err != nil {
			return err
		}
		n++
		t, ok, err := journal.Get(tx, rec.Key.B)
		if err != nil {
			return err
		}
		if !ok || int64(t.Account) != rec.Key.A {
			return &Disagreement{Seq: rec.Key.B, What: fmt.Sprintf("stands in the statement of account %d, whose row it is not", rec.Key.A)}
		}
	}
	if n != v.report.Rows {
		return &Disagreement{What: fmt.Sprintf("the statements have %d rows, the journal has %d", n, v.report.Rows)}
	}
	return nil
}

func (v *verifier) balances(tx *store.Tx) error {
	for rec, err := range balances.All(tx) {
		if err != nil {
			return err
		}
		if want := v.books[rec.Key]; rec.Value != want {
			return &Disagreement{What: fmt.Sprintf("%s is stored as %s in, %s out; the journal makes %s and %s",
				rec.Key, rec.Value.In, rec.Value.Out, want.In, want.Out)}
		}
		v.report.Books++
		switch net := rec.Value.Net(); {
		case rec.Key == fundingOperator || rec.Key == fundingBonus || rec.Key == fundingCorrections:
			v.report.InFlow -= net
		case len(rec.Key) > 8 && rec.Key[:8] == "revenue/":
			v.report.Earned += net
		}
	}
	if v.report.Books != len(v.books) {
		return &Disagreement{What: fmt.Sprintf("%d balances are stored, the journal makes %d", v.report.Books, len(v.books))}
	}
	v.report.Accounts = len(v.accounts)
	return nil
}

func (v *verifier) openHolds(tx *store.Tx) error {
	stored := 0
	for rec, err := range holds.All(tx) {
		if err != nil {
			return err
		}
		stored++
		h, j := rec.Value, v.holds[rec.Key]
		if j.placed != h.Amount {
			return &Disagreement{What: fmt.Sprintf("hold %d is stored as %s, the journal makes %s", rec.Key, h.Amount, j.placed)}
		}
		var s Settlement
		if h.Settled == nil {
			v.report.Open++
		} else {
			s = *h.Settled
		}
		if j.used != s.Used || j.refunded != s.Refunded || (h.Settled != nil && s.Used+s.Refunded != h.Amount) {
			return &Disagreement{What: fmt.Sprintf("hold %d of %s is stored with %s used and %s refunded, the journal makes %s and %s",
				rec.Key, h.Amount, s.Used, s.Refunded, j.used, j.refunded)}
		}
	}
	if stored != len(v.holds) {
		return &Disagreement{What: fmt.Sprintf("%d holds are stored, the journal makes %d", stored, len(v.holds))}
	}
	return nil
}
