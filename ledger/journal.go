package ledger

import (
	"fmt"
	"iter"
	"math"
	"sort"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// JournalBucket changes with every commit that writes rows.
const JournalBucket = "ledger.front"

// errNoRow is returned for a number that no row has. The numbers come from other
// records, so one of the two is not as it was written.
var errNoRow = fmt.Errorf("no such row: %w", store.ErrDamaged)

// rowAt reads a row by its number.
func rowAt(tx *store.Tx, seq int64) (Transfer, error) {
	b, err := batchOf(tx)
	if err != nil {
		return Transfer{}, err
	}
	if b != nil {
		if n := b.last - seq; n >= 0 && n < int64(len(b.fresh)) {
			return b.fresh[int64(len(b.fresh))-1-n], nil
		}
	}
	f, err := committed(tx)
	if err != nil {
		return Transfer{}, err
	}
	return f.row(tx, seq)
}

// committed is the front as the last commit left it.
func committed(tx *store.Tx) (front, error) {
	b, err := batchOf(tx)
	if err != nil {
		return front{}, err
	}
	if b == nil {
		return readFront(tx)
	}
	f := b.front
	f.last -= int64(len(b.fresh))
	return f, nil
}

// row reads a row that has been committed.
func (f *front) row(tx *store.Tx, seq int64) (t Transfer, err error) {
	var ok bool
	switch {
	case seq < 1 || seq > f.last:
		return t, fmt.Errorf("row %d: %w", seq, errNoRow)
	case seq > f.last-f.rows:
		t, ok, err = nth(f.tail, seq-(f.last-f.rows)-1)
	case seq <= f.pruned:
		return archivedRow(tx, seq)
	default:
		var rec store.Record[int64, []byte]
		if rec, ok, err = pageWith(tx, seq); ok {
			t, ok, err = nth(rec.Value, seq-rec.Key)
		}
	}
	if err != nil {
		return t, fmt.Errorf("row %d: %w", seq, err)
	}
	if !ok || t.Seq != seq {
		err = fmt.Errorf("row %d is not where it should be: %w", seq, store.ErrDamaged)
	}
	return t, err
}

// reading is what a read-only transaction keeps of the journal: whoever reads a
// row mostly reads its neighbours too, and every reading of a page sums it up.
type reading struct {
	front *front
	page  store.Record[int64, []byte]
}

type readingKey struct{}

// Flush has nothing to write.
func (*reading) Flush(*store.Tx) error { return nil }

func readingOf(tx *store.Tx) *reading {
	l, _ := tx.Local(readingKey{}, func() (store.Local, error) { return &reading{}, nil })
	return l.(*reading)
}

func readFront(tx *store.Tx) (front, error) {
	if tx.Writable() {
		f, _, err := fronts.Get(tx, frontKey)
		return f, err
	}
	r := readingOf(tx)
	if r.front == nil {
		f, _, err := fronts.Get(tx, frontKey)
		if err != nil {
			return front{}, err
		}
		r.front = &f
	}
	return *r.front, nil
}

// pageWith reads the full page that a row lies in.
func pageWith(tx *store.Tx, seq int64) (store.Record[int64, []byte], bool, error) {
	if tx.Writable() { // a page does not stay where it is
		return pages.Floor(tx, seq)
	}
	r := readingOf(tx)
	// The one before or after it may be nearer: only its own rows are certain.
	if r.page.Key > 0 && seq >= r.page.Key {
		if _, ok, err := nthFramed(r.page.Value, seq-r.page.Key); ok && err == nil {
			return r.page, true, nil
		}
	}
	rec, ok, err := pages.Floor(tx, seq)
	if ok && err == nil {
		r.page = rec
	}
	return rec, ok, err
}

// Rows yields the journal's rows from the given number on, oldest first, as they
// are at the transaction's moment. It is for read-only transactions.
func Rows(tx *store.Tx, from int64) iter.Seq2[Transfer, error] {
	return func(yield func(Transfer, error) bool) {
		f, err := readFront(tx)
		if err != nil {
			yield(Transfer{}, err)
			return
		}
		from = max(from, 1)
		if from <= f.pruned {
			for t, err := range archivedRows(tx, from, f.pruned) {
				if !yield(t, err) || err != nil {
					return
				}
			}
			from = f.pruned + 1
		}
		f.rowsFrom(tx, from, yield)
	}
}

// rowsFrom yields the rows that the database itself has.
func (f *front) rowsFrom(tx *store.Tx, from int64, yield func(Transfer, error) bool) {
	each := func(page []byte) bool {
		for {
			fr, rest, ok, err := nextFramed(page)
			if err == nil && !ok {
				return true
			}
			var t Transfer
			if err == nil {
				t, err = fr.decode()
			}
			if (err != nil || t.Seq >= from) && !yield(t, err) || err != nil {
				return false
			}
			page = rest
		}
	}
	if paged := f.last - f.rows; from <= paged {
		first := from
		if rec, ok, err := pages.Floor(tx, from); err != nil {
			yield(Transfer{}, err)
			return
		} else if ok {
			first = rec.Key
		}
		for rec, err := range pages.Scan(tx, first, math.MaxInt64) {
			if err != nil {
				yield(Transfer{}, err)
				return
			}
			if !each(rec.Value) {
				return
			}
		}
	}
	each(f.tail)
}

// Newest is the number of the newest row; 0 when there is none.
func Newest(tx *store.Tx) (int64, error) {
	if b, err := batchOf(tx); err != nil || b != nil {
		if err != nil {
			return 0, err
		}
		return b.last, nil
	}
	f, err := readFront(tx)
	return f.last, err
}

// Tip is the number of the newest committed row and its hash, which stands for all
// rows up to it; 0 when there is none.
func Tip(tx *store.Tx) (seq int64, h Hash, err error) {
	f, err := committed(tx)
	return f.last, f.hash, err
}

// Statement yields an account's rows, newest first, that are older than the row
// `before`; 0 begins at the newest.
func Statement(tx *store.Tx, a identity.AccountID, before int64) iter.Seq2[Transfer, error] {
	return func(yield func(Transfer, error) bool) {
		seq, err := newestBefore(tx, a, before)
		for err == nil && seq > 0 {
			var t Transfer
			if t, err = rowAt(tx, seq); err != nil {
				break
			}
			if t.Account != a {
				err = fmt.Errorf("row %d stands in the statement of account %d and belongs to account %d: %w", seq, a, t.Account, store.ErrDamaged)
				break
			}
			if !yield(t, nil) {
				return
			}
			seq = t.Before
		}
		if err != nil {
			yield(Transfer{}, err)
		}
	}
}

// StatementUntil is Statement with only the rows that were made before the instant.
func StatementUntil(tx *store.Tx, a identity.AccountID, until time.Time) iter.Seq2[Transfer, error] {
	return func(yield func(Transfer, error) bool) {
		start, err := StatementStart(tx, a, until)
		if err != nil {
			yield(Transfer{}, err)
			return
		}
		for t, err := range Statement(tx, a, start) {
			if err == nil && !t.At.Before(until) {
				continue
			}
			if !yield(t, err) {
				return
			}
		}
	}
}

// StatementStart is where StatementUntil begins, for use as a `before`: no row from
// it on was made before the instant. Some of those below it may be too late too.
func StatementStart(tx *store.Tx, a identity.AccountID, until time.Time) (before int64, err error) {
	rising, err := risesAfter(tx, until)
	if err != nil {
		return 0, err
	}
	return startBelow(tx, a, func(t Transfer) bool { return t.Seq > rising && !t.At.Before(until) })
}

// newestBefore finds the account's newest row that is older than the given one,
// which need not be the account's.
func newestBefore(tx *store.Tx, a identity.AccountID, before int64) (int64, error) {
	w, err := walletOf(tx, a)
	if err != nil {
		return 0, err
	}
	if before <= 0 || before > w.last {
		return w.last, nil
	}
	start, err := startBelow(tx, a, func(t Transfer) bool { return t.Seq >= before })
	if err != nil {
		return 0, err
	}
	seq := start - 1
	if start == 0 {
		seq = w.last
	}
	for seq >= before {
		t, err := rowAt(tx, seq)
		if err != nil {
			return 0, err
		}
		seq = t.Before
	}
	return seq, nil
}

// startBelow finds by the account's marks a row to begin a search at: its number
// plus one, for use as a `before`; 0 is the newest. All rows above it are too new,
// and fewer than markEvery below it are.
func startBelow(tx *store.Tx, a identity.AccountID, tooNew func(Transfer) bool) (int64, error) {
	// The rows of this very transaction have no marks yet. What is stored tells of
	// those before it.
	f, err := committed(tx)
	if err != nil {
		return 0, err
	}
	w, err := f.walletOf(tx, a)
	if err != nil {
		return 0, err
	}
	var failed error
	places := int(w.rows / markEvery)
	// The first mark that is too new: everything from it on is.
	n := sort.Search(places, func(n int) bool {
		t, err := marked(tx, a, int64(n+1)*markEvery)
		if err != nil {
			failed = err
			return true
		}
		return tooNew(t)
	})
	if failed != nil || n == places {
		return 0, failed
	}
	t, err := marked(tx, a, int64(n+1)*markEvery)
	return t.Seq + 1, err
}

func marked(tx *store.Tx, a identity.AccountID, place int64) (Transfer, error) {
	seq, ok, err := marks.Get(tx, store.Pair{A: int64(a), B: place})
	if err != nil {
		return Transfer{}, err
	}
	if !ok {
		return Transfer{}, fmt.Errorf("the statement of account %d has no mark at row %d: %w", a, place, store.ErrDamaged)
	}
	return rowAt(tx, seq)
}
