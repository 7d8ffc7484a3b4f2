package statement

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Limits.
const (
	// runRows is how many rows are in memory at once.
	runRows = 512
	// readRows is how many rows one transaction reads.
	readRows = 8192
)

// ErrTooLarge is returned by Open for a statement of more rows than was asked for.
var ErrTooLarge = errors.New("the statement has too many rows to be shown at once")

// Funds are what an account has at a moment.
type Funds struct {
	Available ledger.MicroUSD `json:"available"`
	Held      ledger.MicroUSD `json:"held"`
	Total     ledger.MicroUSD `json:"total"` // both together
}

func funds(available, held ledger.MicroUSD) Funds {
	return Funds{Available: available, Held: held, Total: available + held}
}

// Total is the rows of one type together.
type Total struct {
	Type ledger.Type `json:"type"`
	Rows int64       `json:"rows"`
	// Amount is their sum, signed as in the rows.
	Amount    ledger.MicroUSD `json:"amount"`
	Available ledger.MicroUSD `json:"available_change"`
	Held      ledger.MicroUSD `json:"held_change"`
}

// Statement is an account's statement, without its rows.
type Statement struct {
	Account          identity.AccountID
	From, To         time.Time // rows that were made from From on, and before To: see Open
	Opening, Closing Funds
	Totals           []Total // by type, in the types' alphabetical order
	Rows             int64

	oldest int64   // the number of its first row
	runs   []int64 // the newest row of each run of runRows, the newest run first
}

// Month is the two instants that a calendar month, UTC, lies between.
func Month(t time.Time) (from, to time.Time) {
	from = ledger.MonthOf(t)
	return from, from.AddDate(0, 1, 0)
}

// Open reads what a statement sums up to. It is a stretch of the journal, in the
// order of the journal: it ends with the last row that was made before to, and
// begins after the last row before that one that was made before from. As long as
// the box's clock is right, those are all rows between the two instants. Where the
// operator has said that it was wrong, rows with other times may stand among them,
// and rows of that time elsewhere: so that what is there always adds up. limit bounds its rows, 0 does not: more
// are ErrTooLarge. Rows that are made later do not become part of it.
func Open(ctx context.Context, st *store.Store, a identity.AccountID, from, to time.Time, limit int64) (*Statement, error) {
	s := &Statement{Account: a, From: from.UTC(), To: to.UTC()}
	next, err := s.close(st)
	totals := map[ledger.Type]*Total{}
	for err == nil && next > 0 {
		if err = ctx.Err(); err != nil {
			break
		}
		err = st.View(func(tx *store.Tx) (err error) { next, err = s.add(tx, next, totals, limit); return err })
	}
	if err != nil {
		return nil, fmt.Errorf("statement of account %d: %w", a, err)
	}
	for _, t := range totals {
		s.Totals = append(s.Totals, *t)
	}
	slices.SortFunc(s.Totals, func(x, y Total) int {
		if x.Type < y.Type {
			return -1
		}
		return 1
	})
	return s, nil
}

// close finds the statement's newest row, and the closing balance, which without
// any rows is the opening one too.
func (s *Statement) close(st *store.Store) (newest int64, err error) {
	err = st.View(func(tx *store.Tx) error {
		for t, err := range ledger.StatementUntil(tx, s.Account, s.To) {
			if err != nil {
				return err
			}
			s.Closing = funds(t.Available, t.Held)
			if !t.At.Before(s.From) {
				newest = t.Seq
			}
			break
		}
		s.Opening = s.Closing
		return nil
	})
	return newest, err
}

// add takes in some rows, newest first, from the given one on, and gives the one
// to go on with; 0 when there are no more.
func (s *Statement) add(tx *store.Tx, newest int64, totals map[ledger.Type]*Total, limit int64) (next int64, err error) {
	n := 0
	for t, err := range ledger.Statement(tx, s.Account, newest+1) {
		if err != nil || t.At.Before(s.From) {
			return 0, err
		}
		if n == readRows {
			return t.Seq, nil
		}
		if limit > 0 && s.Rows == limit {
			return 0, ErrTooLarge
		}
		if s.Rows%runRows == 0 {
			s.runs = append(s.runs, t.Seq)
		}
		n, s.Rows, s.oldest = n+1, s.Rows+1, t.Seq
		available, held := t.Changes()
		s.Opening = funds(t.Available-available, t.Held-held)
		sum := totals[t.Type]
		if sum == nil {
			sum = &Total{Type: t.Type}
			totals[t.Type] = sum
		}
		sum.Rows++
		sum.Amount += t.Signed()
		sum.Available += available
		sum.Held += held
	}
	return 0, nil
}

// All yields the statement's rows, oldest first.
func (s *Statement) All(ctx context.Context, st *store.Store) iter.Seq2[ledger.Transfer, error] {
	return func(yield func(ledger.Transfer, error) bool) {
		for _, newest := range slices.Backward(s.runs) {
			run, err := s.run(ctx, st, newest)
			if err != nil {
				yield(ledger.Transfer{}, fmt.Errorf("statement of account %d: %w", s.Account, err))
				return
			}
			for _, t := range slices.Backward(run) {
				if !yield(t, nil) {
					return
				}
			}
		}
	}
}

// run reads a run of rows, newest first.
func (s *Statement) run(ctx context.Context, st *store.Store, newest int64) (out []ledger.Transfer, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = st.View(func(tx *store.Tx) error {
		out = make([]ledger.Transfer, 0, runRows)
		for t, err := range ledger.Statement(tx, s.Account, newest+1) {
			if err != nil {
				return err
			}
			if t.Seq < s.oldest || len(out) == runRows {
				break
			}
			out = append(out, t)
		}
		return nil
	})
	return out, err
}
