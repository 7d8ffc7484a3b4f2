package statement

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// maxScan is how many rows one Find looks at: a filter may match none of a million.
const maxScan = 5000

// Filter says which rows of an account are wanted. The zero Filter wants all.
type Filter struct {
	Type     ledger.Type // "": all
	From, To time.Time   // rows made from From on and before To; zero: no such bound
	Before   int64       // rows older than this one; 0: from the newest on
}

// Find gives at most limit rows, newest first. next is where to go on, as Before;
// 0 at the end. There may be fewer rows than limit, or none, and a next all the
// same: the rest was too far away to look for it at once.
//
// Rows stand in the order of the journal, which is that of time as long as the
// box's clock is right. Where the operator has said that it was wrong, later rows
// may bear earlier times: From and To go by what a row says of itself, wherever it
// stands.
func Find(tx *store.Tx, a identity.AccountID, f Filter, limit int) (rows []ledger.Transfer, next int64, err error) {
	s := search{tx: tx, Filter: f, limit: limit}
	before := f.Before
	if !f.To.IsZero() && before == 0 {
		if before, err = ledger.StatementStart(tx, a, f.To); err != nil {
			return nil, 0, err
		}
	}
	for more := true; more; before = s.next {
		if more, err = s.below(a, before); err != nil {
			return nil, 0, err
		}
	}
	if !s.full {
		s.next = 0
	}
	return s.rows, s.next, nil
}

// search is a Find that is going on.
type search struct {
	tx *store.Tx
	Filter
	limit, seen int
	rows        []ledger.Transfer
	next        int64 // what has been seen is from here on
	full        bool  // it ends before the account's first row
}

// below looks at the rows below one. more says that it has to go on below next,
// since those above that are too old.
func (s *search) below(a identity.AccountID, before int64) (more bool, err error) {
	for t, err := range ledger.Statement(s.tx, a, before) {
		if err != nil {
			return false, err
		}
		old := t.At.Before(s.From)
		match := !old && (s.Type == "" || t.Type == s.Type) && (s.To.IsZero() || t.At.Before(s.To))
		if s.full = s.seen == maxScan || match && len(s.rows) == s.limit; s.full {
			return false, nil
		}
		if s.seen++; old {
			since, err := ledger.RisesSince(s.tx, t.Seq)
			s.next = since + 1
			return since > 0, err
		}
		if s.next = t.Seq; match {
			s.rows = append(s.rows, t)
		}
	}
	return false, nil
}
