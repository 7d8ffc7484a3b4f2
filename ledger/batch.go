package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Limits of the journal on disk.
const (
	// pageBytes is the size of a full page of rows. With the database's own
	// headers it fits two of its 4 KiB pages exactly.
	pageBytes = 8192 - 128
	// markEvery is how many rows of an account lie between two entries of the
	// index of its statement.
	markEvery = 512
	// maxAmount is the most that one row may move. Without a limit, a slip of the
	// keyboard could fill up a total of all accounts, and stop every account's money.
	maxAmount = 1_000_000_000 * Dollar
)

// Times that rows may have: far from where a time in nanoseconds wraps.
var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Buckets.
var (
	// pages of rows, by the number of their first row.
	pages = store.NewIntCollection[int64, []byte]("ledger.journal").With(store.Raw()).Appending()
	// marks find a row of an account by its place: (account, place) → row, for
	// every markEvery-th place.
	marks = store.NewPairCollection[int64]("ledger.marks").With(numbers)
	// keyed finds the row that an idempotency key made.
	keyed = store.NewStringCollection[string, int64]("ledger.idempotency").With(numbers).Appending()
)

// batch is what the updates of one commit have done to the journal so far. It is
// a store.Local: rows that are committed together are encoded, chained and
// written together, and a wallet that several of them touch is written once.
type batch struct {
	front
	flushed bool                            // nothing more will be written
	fresh   []Transfer                      // rows that Flush will write
	wallets map[identity.AccountID]*touched // that these rows have changed, or that were asked for
	caps    map[identity.KeyID]*keyCap
	recent  map[string]int64 // the rows that are not indexed, by their keys; fresh ones as far as known
	known   int
	changed bool // the front has, without a row
}

type touched struct {
	wallet
	dirty bool
}

type batchKey struct{}

// batchOf gives the batch of a writable transaction; nil in a read-only one.
func batchOf(tx *store.Tx) (*batch, error) {
	if !tx.Writable() {
		return nil, nil
	}
	l, err := tx.Local(batchKey{}, func() (store.Local, error) {
		f, err := readFront(tx)
		if err != nil {
			return nil, err
		}
		f.tail, f.hot = bytes.Clone(f.tail), slices.Clone(f.hot) // they lie in the file's memory, which may move while the file grows
		return &batch{front: f, wallets: map[identity.AccountID]*touched{}, caps: map[identity.KeyID]*keyCap{}}, nil
	})
	if err != nil {
		return nil, err
	}
	return l.(*batch), nil
}

// walletOf reads an account's wallet as it is at this point of the transaction.
func walletOf(tx *store.Tx, a identity.AccountID) (wallet, error) {
	b, err := batchOf(tx)
	if err != nil {
		return wallet{}, err
	}
	if b == nil {
		f, err := readFront(tx)
		if err != nil {
			return wallet{}, err
		}
		return f.walletOf(tx, a)
	}
	t, err := b.wallet(tx, a)
	if err != nil {
		return wallet{}, err
	}
	return t.wallet, nil
}

func (b *batch) wallet(tx *store.Tx, a identity.AccountID) (*touched, error) {
	if t := b.wallets[a]; t != nil {
		return t, nil
	}
	w, err := b.front.walletOf(tx, a)
	if err != nil {
		return nil, err
	}
	t := &touched{wallet: w}
	b.wallets[a] = t
	return t, nil
}

// movement is one transfer about to be made.
type movement struct {
	Entry
	kind     Type
	from, to Book
	hold     HoldID
	// overdraft is how far below zero the source may go. Funding books have no
	// bottom.
	overdraft MicroUSD
}

// move appends a row and moves the balances with it. It is the only writer of
// the journal. On an error nothing has changed.
func move(tx *store.Tx, m movement) (Transfer, error) {
	b, err := batchOf(tx)
	if err != nil {
		return Transfer{}, err
	}
	w, err := b.wallet(tx, m.Account)
	if err != nil {
		return Transfer{}, err
	}
	if b.flushed {
		panic("ledger: money is moved while the transaction is being written")
	}
	at, err := b.check(tx, m, w.wallet)
	if err != nil {
		return Transfer{}, err
	}
	next := w.wallet
	if err := next.move(m.from, m.to, m.Amount); err != nil {
		return Transfer{}, fmt.Errorf("%s of %s for account %d: %w", m.kind, m.Amount, m.Account, err)
	}
	if err := b.totals.move(m.from, m.to, m.Amount); err != nil {
		return Transfer{}, fmt.Errorf("%s of %s: %w", m.kind, m.Amount, err)
	}
	row := Transfer{
		Seq: b.last + 1, At: at, Type: m.kind, From: m.from, To: m.to, Amount: m.Amount,
		Account: m.Account, Available: next.available, Held: next.held, Before: w.last, Hold: m.hold,
		Resource: m.Resource, RequestID: m.RequestID, Key: m.Key, APIKey: m.APIKey, Tag: m.Tag, Usage: m.Usage,
		Description: cut(m.Description, maxDescriptionBytes),
	}
	next.last, next.rows = row.Seq, w.rows+1
	w.wallet, w.dirty = next, true
	b.last, b.at = row.Seq, row.At
	if row.Key != "" {
		b.greatest = max(b.greatest, keyOf(row.Account, row.Key))
	}
	b.fresh = append(b.fresh, row)
	tx.Touch()
	return row, b.judge(tx, m.Account, w, row.At)
}

// check refuses a movement before anything is changed, and gives the row's time.
func (b *batch) check(tx *store.Tx, m movement, w wallet) (time.Time, error) {
	if m.Amount <= 0 {
		return time.Time{}, fmt.Errorf("%s of %s: %w", m.kind, m.Amount, ErrAmount)
	}
	if m.Amount > maxAmount {
		return time.Time{}, fmt.Errorf("%s of %s: %w", m.kind, m.Amount, ErrTooMuch)
	}
	if m.APIKey < 0 {
		return time.Time{}, fmt.Errorf("%s by API key %d: there is no such key", m.kind, m.APIKey)
	}
	for _, word := range [...]struct{ name, text string }{
		{"resource", m.Resource}, {"request id", m.RequestID}, {"idempotency key", m.Key}, {"source tag", m.Tag}, {"model", m.Usage.Model},
	} {
		if len(word.text) > maxWordBytes {
			return time.Time{}, &TextError{Field: word.name, Limit: maxWordBytes}
		}
	}
	if w.rows == 0 {
		if _, err := identity.AccountByID(tx, m.Account); err != nil {
			return time.Time{}, err
		}
	}
	source := w.available
	if m.from.kind == bookHeld {
		source = w.held
	}
	if m.from.wallet() && source+m.overdraft < m.Amount {
		return time.Time{}, &InsufficientError{Needed: m.Amount, Available: source}
	}
	return b.clock(m.At)
}

// clock gives a row its time: the entry's, and never before the row in front. The
// box's clock may be put back by a little, and rows are then a little late. Put
// back by more, or far ahead, it is wrong, or was: somebody has to say which. Far
// ahead, one moment would bill a year of storage.
func (b *batch) clock(at time.Time) (time.Time, error) {
	at = at.UTC().Round(0) // as it will be read again: without what only this process knows
	switch {
	case at.Before(earliest) || at.After(latest) || b.last > 0 && at.Sub(b.at) > ClockLeap:
		return at, &ClockError{Now: at, Newest: b.at}
	case !at.Before(b.at):
		return at, nil
	case b.at.Sub(at) > clockTolerance:
		return at, &ClockError{Now: at, Newest: b.at}
	default:
		return b.at, nil
	}
}

// Flush writes the batch: the rows, the totals and the wallets.
func (b *batch) Flush(tx *store.Tx) error {
	b.flushed = true
	if len(b.fresh) > 0 || b.changed {
		if err := b.flushRows(tx); err != nil {
			return err
		}
	}
	for id, c := range b.caps {
		if c.dirty {
			if err := caps.Put(tx, id, c.KeyCap); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) flushRows(tx *store.Tx) error {
	page := b.tail
	var row []byte
	for n := range b.fresh {
		t := &b.fresh[n]
		row = appendRow(row[:0], t)
		b.hash = b.hash.sum(row)
		t.Hash = b.hash
		page = appendFramed(page, row, b.hash)
	}
	if err := b.mark(tx); err != nil {
		return err
	}
	var err error
	if b.tail, err = b.cutPages(tx, page); err != nil {
		return err
	}
	if err := b.flushWallets(tx); err != nil {
		return err
	}
	return fronts.Put(tx, frontKey, b.front)
}

// mark enters rows in the indexes of their accounts' statements. The place of a
// row in its statement is known from where the account's rows end.
func (b *batch) mark(tx *store.Tx) error {
	left := map[identity.AccountID]int64{}
	for n := len(b.fresh) - 1; n >= 0; n-- {
		t := &b.fresh[n]
		place := b.wallets[t.Account].rows - left[t.Account]
		left[t.Account]++
		if place%markEvery == 0 {
			if err := marks.Put(tx, store.Pair{A: int64(t.Account), B: place}, t.Seq); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutPages cuts full pages off the front of the given rows and puts them in
// the journal's bucket; what is left over is the new tail.
func (b *batch) cutPages(tx *store.Tx, rows []byte) (tail []byte, err error) {
	b.rows += int64(len(b.fresh))
	for len(rows) > pageBytes {
		size, count := 0, int64(0)
		for rest := rows; ; {
			f, next, ok, err := nextFramed(rest)
			if err != nil || !ok {
				return nil, fmt.Errorf("page of rows: %w", err)
			}
			if size+f.size > pageBytes && count > 0 {
				break
			}
			if err := b.index(tx, b.last-b.rows+1+count, f.row); err != nil {
				return nil, err
			}
			size, count, rest = size+f.size, count+1, next
		}
		first := b.last - b.rows + 1
		if err := pages.Put(tx, first, rows[:size]); err != nil {
			return nil, err
		}
		rows, b.rows = rows[size:], b.rows-count
	}
	return rows, nil
}
