package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Report is what Verify found in books that agree.
type Report struct {
	Rows     int64     `json:"rows"`
	From     int64     `json:"from"`     // the first row that was looked at
	Archived int64     `json:"archived"` // rows that were read from archives
	Accounts int       `json:"accounts"` // whose rows were looked at
	Open     int       `json:"open_holds"`
	LastHash Hash      `json:"last_hash"`
	InFlow   MicroUSD  `json:"funded"` // by top-ups, bonuses and corrections, less what corrections took
	Earned   MicroUSD  `json:"earned"`
	Holding  MicroUSD  `json:"in_wallets"` // InFlow - Earned
	Newest   time.Time `json:"newest"`

	totals books
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

func wrong(seq int64, format string, args ...any) error {
	return &Disagreement{Seq: seq, What: fmt.Sprintf(format, args...)}
}

// Verify rebuilds every balance and hold from the journal, archives included, and
// compares them with what is stored. It returns a *Disagreement for the first
// difference. It reads everything once; its memory grows with accounts and holds,
// not with rows.
func Verify(tx *store.Tx) (Report, error) { return VerifyContext(context.Background(), tx) }

// VerifyContext is Verify that gives up, with its error, when ctx ends.
func VerifyContext(ctx context.Context, tx *store.Tx) (Report, error) {
	a := auditor{wallets: map[identity.AccountID]wallet{}, holds: map[HoldID]heldMoney{}}
	a.report.From = 1
	return a.audit(ctx, tx)
}

// audit goes through the journal from where the auditor stands, and then compares
// what it makes with what is stored.
func (a *auditor) audit(ctx context.Context, tx *store.Tx) (Report, error) {
	f, err := readFront(tx)
	if err != nil {
		return Report{}, err
	}
	a.pruned, a.paged, a.indexed = f.pruned, f.last-f.rows, f.indexed
	for t, err := range Rows(tx, a.report.From) {
		if err != nil {
			return Report{}, unreadable(a.last+1, err)
		}
		if t.Seq%4096 == 0 && ctx.Err() != nil {
			return Report{}, ctx.Err()
		}
		if err := a.row(tx, t); err != nil {
			return Report{}, err
		}
	}
	if a.last != f.last || a.hash != f.hash {
		return Report{}, wrong(0, "the journal ends at row %d (%s), and should at row %d (%s)", a.last, a.hash, f.last, f.hash)
	}
	for _, compare := range []func(*store.Tx, front) error{a.compareFront, a.compareTotals, a.compareWallets, a.compareMarks, a.compareHolds, a.compareKeys} {
		if err := compare(tx, f); err != nil {
			return Report{}, err
		}
	}
	a.report.Rows, a.report.LastHash, a.report.Accounts, a.report.Newest, a.report.totals = f.last, f.hash, len(a.wallets), f.at, a.totals
	return a.report, nil
}

// unreadable names the row that could not be read.
func unreadable(seq int64, err error) error {
	var lost *ArchiveError
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, errMalformed) || errors.As(err, &lost) {
		return wrong(seq, "can't be read: %v", err)
	}
	return err
}

// heldMoney is what the journal says of a hold.
type heldMoney struct {
	account                              identity.AccountID
	placed, used, taken, refunded, above MicroUSD
	last                                 int64 // its newest row
}

// auditor makes the books anew from the rows.
type auditor struct {
	report   Report
	last     int64
	hash     Hash
	newest   time.Time // of the last row
	greatest string    // of the idempotency keys that can still be asked for
	totals   books
	wallets  map[identity.AccountID]wallet
	holds    map[HoldID]heldMoney
	partial  bool // it began at a checkpoint

	pruned, paged int64 // rows up to these are archived, and in full pages
	indexed       string
	keys          int64 // rows with an idempotency key that the index should have
	marks         int64 // entries that the index of statements should have
}

func (a *auditor) row(tx *store.Tx, t Transfer) error {
	if t.Seq != a.last+1 {
		return wrong(t.Seq, "stands where row %d is next: a row was removed or put in", a.last+1)
	}
	if got := a.hash.sum(appendRow(nil, &t)); got != t.Hash {
		return wrong(t.Seq, "does not match its hash: it or a row before it was changed, removed or put in")
	}
	if t.Amount <= 0 || t.Account <= 0 || !plausible(t) {
		return wrong(t.Seq, "moves %s from %s to %s as %s", t.Amount, t.From, t.To, t.Type)
	}
	if a.last, a.hash = t.Seq, t.Hash; t.Seq <= a.pruned {
		a.report.Archived++
	}
	w, known := a.wallets[t.Account]
	if !known && a.partial {
		var err error
		if w, err = walletAt(tx, t); err != nil {
			return unreadable(t.Seq, err)
		}
	}
	if t.Before != w.last {
		return wrong(t.Seq, "follows row %d in the statement of account %d, where row %d is the one before", t.Before, t.Account, w.last)
	}
	if err := errors.Join(w.move(t.From, t.To, t.Amount), a.totals.move(t.From, t.To, t.Amount)); err != nil {
		return wrong(t.Seq, "%v", err)
	}
	if w.available != t.Available || w.held != t.Held {
		return wrong(t.Seq, "says %s available and %s held, the rows up to it make %s and %s", t.Available, t.Held, w.available, w.held)
	}
	w.last, a.newest = t.Seq, t.At
	w.rows++
	if err := a.checkMark(tx, t, w); err != nil {
		return err
	}
	a.wallets[t.Account] = w
	if t.Key != "" && t.Seq > a.pruned {
		a.greatest = max(a.greatest, keyOf(t.Account, t.Key))
		if t.Seq <= a.paged {
			a.keys++
		}
	}
	return a.followHold(tx, t, w)
}

// plausible tells whether a type of row may move money between these books.
func plausible(t Transfer) bool {
	from, to := t.From.kind, t.To.kind
	switch t.Type {
	case TopUp:
		return from == fundingOperator && to == bookAvailable
	case Bonus:
		return from == fundingBonus && to == bookAvailable
	case HoldPlaced:
		return from == bookAvailable && to == bookHeld && t.Hold > 0
	case Refund:
		return from == bookHeld && to == bookAvailable && t.Hold > 0
	case AdminCorrection:
		return from == fundingCorrections && to == bookAvailable || t.From.wallet() && to == fundingCorrections
	default:
		earned, err := revenue(t.Type)
		return err == nil && t.To == earned && (from == bookAvailable || from == bookHeld && t.Hold > 0)
	}
}

// followHold keeps the hold that a row is about. Only the overdraft of a hold may
// take a wallet below zero.
func (a *auditor) followHold(tx *store.Tx, t Transfer, w wallet) error {
	var allowed MicroUSD
	if t.Hold != 0 {
		h := a.holds[t.Hold]
		switch {
		case t.Type == HoldPlaced:
			h.placed += t.Amount
			h.account = t.Account
		case t.Type == Refund:
			h.refunded += t.Amount
		case t.Type == AdminCorrection:
			h.taken += t.Amount
		case t.From.kind == bookAvailable:
			h.above += t.Amount
			stored, kept, err := holds.Get(tx, t.Hold)
			if err != nil {
				return err
			}
			if allowed = stored.Overdraft; !kept && t.Seq <= a.pruned {
				// It was dropped when all of it had been charged, or its terms
				// are forgotten at least.
				allowed, h.account = MaxOverage, cmp.Or(h.account, t.Account)
			}
		default:
			h.used += t.Amount
		}
		if a.partial && h.account == 0 { // it was placed before the checkpoint
			h.account = t.Account
		}
		if h.account != t.Account {
			return wrong(t.Seq, "is about hold %d, which is account %d's", t.Hold, h.account)
		}
		h.last = t.Seq
		a.holds[t.Hold] = h
		if err := a.dropHold(tx, t, h); err != nil {
			return err
		}
	}
	if w.held < 0 || t.From.kind == bookAvailable && w.available < -allowed {
		return wrong(t.Seq, "leaves %s available and %s held", w.available, w.held)
	}
	return nil
}

// dropHold forgets a hold as archiving does: when it has ended and all of its rows
// are archived, its record is gone. So the auditor's memory does not grow with all
// holds that ever were. One of which anything is left must have its record.
func (a *auditor) dropHold(tx *store.Tx, t Transfer, h heldMoney) error {
	if t.Seq > a.pruned || !a.partial && h.placed != h.used+h.taken+h.refunded {
		return nil
	}
	_, kept, err := holds.Get(tx, t.Hold)
	if err == nil && !kept {
		delete(a.holds, t.Hold)
	}
	return err
}

// walletAt is the wallet before a row, as the account's row before it tells. Its
// totals, in and out, are not in the rows: they begin at zero.
func walletAt(tx *store.Tx, t Transfer) (w wallet, err error) {
	if t.Before == 0 {
		return wallet{}, nil
	}
	before, err := rowAt(tx, t.Before)
	if err != nil {
		return wallet{}, err
	}
	if before.Account != t.Account || before.Seq >= t.Seq {
		return wallet{}, wrong(t.Seq, "follows row %d of account %d", before.Seq, before.Account)
	}
	return wallet{available: before.Available, held: before.Held, last: before.Seq}, nil
}
