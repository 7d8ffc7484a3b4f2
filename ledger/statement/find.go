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
func Find(tx *store.Tx, a identity.AccountID, f Filter, limit int) (rows []ledger.Transfer, next int64, err error) {
	all := ledger.Statement(tx, a, f.Before)
	if !f.To.IsZero() && f.Before == 0 {
		all = ledger.StatementUntil(tx, a, f.To)
	}
	seen, last := 0, int64(0)
	for t, err := range all {
		if err != nil {
			return nil, 0, err
		}
		if t.At.Before(f.From) {
			return rows, 0, nil
		}
		match := (f.Type == "" || t.Type == f.Type) && (f.To.IsZero() || t.At.Before(f.To))
		if seen == maxScan || match && len(rows) == limit {
			return rows, last, nil
		}
		seen, last = seen+1, t.Seq
		if match {
			rows = append(rows, t)
		}
	}
	return rows, 0, nil
}
