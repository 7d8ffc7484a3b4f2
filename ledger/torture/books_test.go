package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// books is what must be in a database by what the working processes said: kept
// apart from the ledger's own arithmetic.
type books struct {
	last    int64 // the newest row that has been checked
	hash    ledger.Hash
	wallets map[identity.AccountID]ledger.Wallet
	holds   map[ledger.HoldID]holdState
	checked tally
}

// tally counts what was checked.
type tally struct {
	acknowledged int // operations that had to be there, and were
	kept         int // not acknowledged, and there wholly
	gone         int // not acknowledged, and not there at all
	undone       int // failed after writing: had to leave nothing, and did
	retried      int // asked for again with their keys
	rows         int64
}

func (t *tally) add(o tally) {
	t.acknowledged += o.acknowledged
	t.kept += o.kept
	t.gone += o.gone
	t.undone += o.undone
	t.retried += o.retried
	t.rows += o.rows
}

func (t tally) String() string {
	return fmt.Sprintf("%d acknowledged operations were all there; of %d others %d were there wholly and %d not at all; %d that had failed left nothing; %d were asked for again by their keys; %d rows",
		t.acknowledged, t.kept+t.gone, t.kept, t.gone, t.undone, t.retried, t.rows)
}

func newBooks() *books {
	return &books{wallets: map[identity.AccountID]ledger.Wallet{}, holds: map[ledger.HoldID]holdState{}}
}

// errLost is an operation that was acknowledged and is not there.
var errLost = errors.New("lost")

// story is what a process said of one operation.
type story struct {
	line
	ended event // about: it never said
	seqs  []int64
	after *holdState
}

// check compares a database with what was said about it, and takes what is there
// into the books.
func (b *books) check(s *store.Store, lines []line) error {
	stories, order := tell(lines)
	var found map[string][]ledger.Transfer
	err := s.View(func(tx *store.Tx) (err error) { found, err = b.newRows(tx, stories); return err })
	if err != nil {
		return err
	}
	var before tally
	before, b.checked = b.checked, tally{}
	for _, op := range order {
		if err := b.take(stories[op], found[op]); err != nil {
			return fmt.Errorf("operation %s: %w", op, err)
		}
	}
	if err := b.retry(s, stories, order, found); err != nil {
		return err
	}
	err = s.View(func(tx *store.Tx) error { return errors.Join(b.compare(tx), b.verify(tx)) })
	b.checked.rows = b.last - before.rows
	now := b.checked
	b.checked = before
	b.checked.add(now)
	return err
}

// tell puts the lines together, by operation and in their order.
func tell(lines []line) (stories map[string]*story, order []string) {
	stories = map[string]*story{}
	for _, l := range lines {
		switch l.Event {
		case about:
			stories[l.Op] = &story{line: l, ended: about}
			order = append(order, l.Op)
		case done, undone, failed:
			if st := stories[l.Op]; st != nil {
				st.ended, st.seqs, st.after = l.Event, l.Seqs, l.Hold
			}
		}
	}
	return stories, order
}

// newRows reads the rows since the last check, by operation. An operation's rows
// must stand together.
func (b *books) newRows(tx *store.Tx, stories map[string]*story) (map[string][]ledger.Transfer, error) {
	found := map[string][]ledger.Transfer{}
	previous := ""
	for t, err := range ledger.Rows(tx, max(1, b.last)) {
		switch {
		case err != nil:
			return nil, fmt.Errorf("read the rows from %d: %w", b.last, err)
		case t.Seq == b.last:
			if t.Hash != b.hash {
				return nil, fmt.Errorf("row %d is not the one that was checked", t.Seq)
			}
			continue
		case stories[t.RequestID] == nil:
			return nil, fmt.Errorf("row %d (%s) was made by nobody: %q", t.Seq, t.Type, t.RequestID)
		case t.RequestID != previous && found[t.RequestID] != nil:
			return nil, fmt.Errorf("the rows of operation %s don't stand together", t.RequestID)
		}
		previous = t.RequestID
		found[previous] = append(found[previous], t)
	}
	newest, err := ledger.Newest(tx)
	if err == nil && newest < b.last {
		err = fmt.Errorf("the journal ends at row %d, and %d were there: %w", newest, b.last, errLost)
	}
	return found, err
}

// take checks one operation and takes it into the books if it is there.
func (b *books) take(st *story, found []ledger.Transfer) error {
	switch {
	case len(found) == 0 && st.ended == done:
		return fmt.Errorf("acknowledged, and not there: %w", errLost)
	case len(found) == 0 && st.ended == undone:
		b.checked.undone++
		return nil
	case len(found) == 0:
		b.checked.gone++
		return nil
	case st.ended == undone:
		return fmt.Errorf("failed and left %d rows", len(found))
	case st.ended == done:
		b.checked.acknowledged++
	default:
		b.checked.kept++
	}
	if len(found) != len(st.Rows) {
		return fmt.Errorf("made %d rows of %d", len(found), len(st.Rows))
	}
	for n, r := range st.Rows {
		t := found[n]
		hold := r.Hold
		if hold == 0 && r.Type == ledger.HoldPlaced {
			hold = t.Hold
		}
		want := ledger.Transfer{Type: r.Type, Account: r.Account, Amount: r.Amount, Key: r.Key, Hold: hold}
		got := ledger.Transfer{Type: t.Type, Account: t.Account, Amount: t.Amount, Key: t.Key, Hold: t.Hold}
		if got != want || strings.HasSuffix(t.From.String(), "/held") != r.FromHold {
			return fmt.Errorf("row %d is %+v from %s, want %+v", t.Seq, got, t.From, want)
		}
		if st.seqs != nil && st.seqs[n] != t.Seq {
			return fmt.Errorf("was told row %d and is row %d", st.seqs[n], t.Seq)
		}
		b.wallets[r.Account] = moved(b.wallets[r.Account], r)
	}
	if st.Hold != nil {
		h := *st.Hold
		h.ID = found[0].Hold
		if st.after != nil && *st.after != h {
			return fmt.Errorf("was told hold %+v, want %+v", *st.after, h)
		}
		b.holds[h.ID] = h
	}
	return nil
}

// moved is the wallet after a row.
func moved(w ledger.Wallet, r want) ledger.Wallet {
	switch {
	case r.Type == ledger.TopUp:
		w.Available, w.In = w.Available+r.Amount, w.In+r.Amount
	case r.Type == ledger.HoldPlaced:
		w.Available, w.Held = w.Available-r.Amount, w.Held+r.Amount
	case r.Type == ledger.Refund:
		w.Available, w.Held = w.Available+r.Amount, w.Held-r.Amount
	case r.FromHold:
		w.Held, w.Out = w.Held-r.Amount, w.Out+r.Amount
	default:
		w.Available, w.Out = w.Available-r.Amount, w.Out+r.Amount
	}
	return w
}

// retry asks for some operations again by their keys, the last ones first: what
// is there must not be done twice, and what is not there is done now.
func (b *books) retry(s *store.Store, stories map[string]*story, order []string, found map[string][]ledger.Transfer) error {
	again := 0
	for _, op := range slices.Backward(order) {
		st := stories[op]
		if len(st.Rows) != 1 || st.ended == undone || st.Rows[0].Key == "" || st.Hold != nil {
			continue
		}
		r := st.Rows[0]
		var t ledger.Transfer
		err := s.Update(context.Background(), func(tx *store.Tx) (err error) {
			if r.Type == ledger.TopUp {
				t, err = ledger.Credit(tx, r.entry(op))
			} else {
				t, err = ledger.Charge(tx, r.Type, r.entry(op))
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("operation %s again: %w", op, err)
		}
		if rows := found[op]; rows == nil {
			b.wallets[r.Account] = moved(b.wallets[r.Account], r)
		} else if t.Seq != rows[0].Seq {
			return fmt.Errorf("operation %s was done a second time: row %d, and first %d", op, t.Seq, rows[0].Seq)
		}
		b.checked.retried++
		if again++; again == 10 {
			break
		}
	}
	return nil
}

// compare checks all wallets and holds.
func (b *books) compare(tx *store.Tx) error {
	held := map[identity.AccountID]ledger.MicroUSD{}
	for id, want := range b.holds {
		h, err := ledger.GetHold(tx, id)
		if err != nil {
			return err
		}
		if got := stateOf(h); got != want {
			return fmt.Errorf("hold %d is %+v, want %+v", id, got, want)
		}
		held[h.Account] += h.Rest()
	}
	for account, want := range b.wallets {
		got, err := ledger.WalletOf(tx, account)
		if err != nil {
			return err
		}
		if got != want || got.Held != held[account] {
			return fmt.Errorf("account %d has %+v, want %+v with %s held", account, got, want, held[account])
		}
	}
	return nil
}

// verify has the ledger check itself, in both ways, and remembers how far it is.
func (b *books) verify(tx *store.Tx) error {
	since, err := ledger.VerifySince(tx)
	if err != nil {
		return fmt.Errorf("VerifySince: %w", err)
	}
	all, err := ledger.Verify(tx)
	if err != nil {
		return fmt.Errorf("Verify: %w", err)
	}
	if since.Rows != all.Rows || since.LastHash != all.LastHash || since.InFlow != all.InFlow || since.Earned != all.Earned || since.Holding != all.Holding {
		return fmt.Errorf("VerifySince and Verify found different books: %+v and %+v", since, all)
	}
	b.last, b.hash = all.Rows, all.LastHash
	return nil
}

// checkpoint has the next VerifySince begin here.
func checkpoint(s *store.Store) error {
	return s.Update(context.Background(), func(tx *store.Tx) error {
		r, err := ledger.Verify(tx)
		if err != nil {
			return err
		}
		return ledger.SetCheckpoint(tx, r, time.Now())
	})
}
