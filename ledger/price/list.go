package price

import (
	"iter"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// Change is what holds for an item from an instant until its next change.
type Change struct {
	Item   Item
	From   time.Time
	Amount *ledger.MicroUSD // nil: it has no price
	SetAt  time.Time
	Note   string // why, for operators
}

// changes is keyed by the item, a zero byte and the instant in stampLayout, so that
// an item's changes lie together in the order of time.
//
// A change whose instant has passed is never written again: it is what sales were
// made at. Only Set, Withdraw and Cancel write here.
var changes = store.NewStringCollection[string, stored]("prices")

type stored struct {
	Amount *ledger.MicroUSD `json:"amount"`
	SetAt  time.Time        `json:"set_at"`
	Note   string           `json:"note,omitempty"`
}

// stampLayout is RFC 3339 with a fixed width: its order is that of the instants.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

func keyOf(i Item, t time.Time) string { return beforeAll(i) + t.UTC().Format(stampLayout) }

// beforeAll and afterAll bound the keys of an item. No item has a byte below '-'.
func beforeAll(i Item) string { return string(i) + "\x00" }
func afterAll(i Item) string  { return string(i) + "\x01" }

func changeOf(key string, v stored) (Change, error) {
	item, stamp, _ := strings.Cut(key, "\x00")
	from, err := time.Parse(stampLayout, stamp)
	return Change{Item: Item(item), From: from, Amount: v.Amount, SetAt: v.SetAt, Note: v.Note}, err
}

// Set gives an item a price from an instant on, until its next change; the zero
// from is now. It replaces a change that is announced for that very instant, and
// leaves those announced for later.
func Set(tx *store.Tx, i Item, amount ledger.MicroUSD, from, now time.Time, note string) (Change, error) {
	if err := checkAmount(i, amount); err != nil {
		return Change{}, err
	}
	from, err := start(from, now)
	if err != nil {
		return Change{}, err
	}
	if err := checkNote(note); err != nil {
		return Change{}, err
	}
	return write(tx, Change{Item: i, From: from, Amount: &amount, SetAt: instant(now), Note: note})
}

// Withdraw leaves an item without a price from an instant on, whatever was
// announced for later; the zero from is now.
func Withdraw(tx *store.Tx, i Item, from, now time.Time) (Change, error) {
	if _, err := i.measure(); err != nil {
		return Change{}, err
	}
	from, err := start(from, now)
	if err != nil {
		return Change{}, err
	}
	if _, ok, err := At(tx, i, from); err != nil {
		return Change{}, err
	} else if !ok {
		return Change{}, fail(ErrNotFound, "item", "%s has no price then: `ecolink admin price list` shows what has", i)
	}
	later, err := announced(tx, i, from)
	if err != nil {
		return Change{}, err
	}
	for _, c := range later {
		if err := changes.Delete(tx, keyOf(i, c.From)); err != nil {
			return Change{}, err
		}
	}
	return write(tx, Change{Item: i, From: from, SetAt: instant(now)})
}

// Cancel takes back a change that is announced for an instant: what holds before
// it goes on.
func Cancel(tx *store.Tx, i Item, from, now time.Time) (Change, error) {
	if _, err := i.measure(); err != nil {
		return Change{}, err
	}
	v, ok, err := changes.Get(tx, keyOf(i, from))
	if err != nil {
		return Change{}, err
	}
	if !ok {
		return Change{}, fail(ErrNotFound, "from", "no change of %s is announced for %s: `ecolink admin price history %s` shows which are", i, spell(from), i)
	}
	if !from.After(now) {
		return Change{}, fail(ErrConflict, "from", "the price of %s since %s is in force: set another, or withdraw it", i, spell(from))
	}
	c, err := changeOf(keyOf(i, from), v)
	if err != nil {
		return Change{}, err
	}
	return c, changes.Delete(tx, keyOf(i, from))
}

// At is the price that holds at an instant; ok is false when there is none.
func At(tx *store.Tx, i Item, t time.Time) (p Price, ok bool, err error) {
	c, ok, err := first(changes.ScanDown(tx, keyOf(i, t), beforeAll(i)))
	if err != nil || !ok || c.Amount == nil {
		return Price{}, false, err
	}
	return Price{Item: i, Amount: *c.Amount, From: c.From}, true, nil
}

// Standing is how the list stands for an item: it has a price, or one is announced.
type Standing struct {
	Item  Item
	Price *Price  // nil: none now
	Next  *Change // the next that is announced; nil: none is
}

// Current lists what has a price now or is to get one, by the items' names.
func Current(tx *store.Tx, now time.Time) ([]Standing, error) { return standings(tx, "", now) }

// GPURates is the price per GPU-hour of each GPU type that has one.
func GPURates(tx *store.Tx, now time.Time) (map[string]ledger.MicroUSD, error) {
	all, err := standings(tx, gpuPrefix, now)
	if err != nil {
		return nil, err
	}
	out := map[string]ledger.MicroUSD{}
	for _, s := range all {
		if s.Price != nil {
			out[strings.TrimPrefix(string(s.Item), gpuPrefix)] = s.Price.Amount
		}
	}
	return out, nil
}

// History lists an item's changes, the announced ones too, newest first: the last
// thousand.
func History(tx *store.Tx, i Item) (out []Change, err error) {
	if _, err := i.measure(); err != nil {
		return nil, err
	}
	for rec, err := range changes.ScanDown(tx, afterAll(i), beforeAll(i)) {
		if err != nil {
			return nil, err
		}
		c, err := changeOf(rec.Key, rec.Value)
		if err != nil {
			return nil, err
		}
		if out = append(out, c); len(out) == maxHistory {
			break
		}
	}
	return out, nil
}

func standings(tx *store.Tx, prefix string, now time.Time) (out []Standing, err error) {
	for i, err := range items(tx, prefix) {
		if err != nil {
			return nil, err
		}
		s := Standing{Item: i}
		p, ok, err := At(tx, i, now)
		if err != nil {
			return nil, err
		}
		if ok {
			s.Price = &p
		}
		c, ok, err := first(changes.Scan(tx, keyOf(i, now.Add(1)), afterAll(i)))
		if err != nil {
			return nil, err
		}
		if ok {
			s.Next = &c
		}
		if s.Price != nil || s.Next != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// items yields every item with a change, by name. It leaps from one to the next, so
// that long histories cost nothing.
func items(tx *store.Tx, prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for at := prefix + "\x00"; ; {
			c, ok, err := first(changes.Scan(tx, at, prefix+"\x7f"))
			if err != nil {
				yield("", err)
				return
			}
			if !ok || !yield(c.Item, nil) {
				return
			}
			at = afterAll(c.Item)
		}
	}
}

// announced lists an item's changes after an instant.
func announced(tx *store.Tx, i Item, t time.Time) (out []Change, err error) {
	for rec, err := range changes.Scan(tx, keyOf(i, t.Add(1)), afterAll(i)) {
		if err != nil {
			return nil, err
		}
		c, err := changeOf(rec.Key, rec.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func first(rows iter.Seq2[store.Record[string, stored], error]) (c Change, ok bool, err error) {
	for rec, err := range rows {
		if err != nil {
			return c, false, err
		}
		c, err = changeOf(rec.Key, rec.Value)
		return c, err == nil, err
	}
	return c, false, nil
}

func write(tx *store.Tx, c Change) (Change, error) {
	key := keyOf(c.Item, c.From)
	if _, replaced, err := changes.Get(tx, key); err != nil {
		return Change{}, err
	} else if !replaced {
		if err := checkRoom(tx, c); err != nil {
			return Change{}, err
		}
	}
	return c, changes.Put(tx, key, stored{Amount: c.Amount, SetAt: c.SetAt, Note: c.Note})
}

// checkRoom keeps the list within its limits.
func checkRoom(tx *store.Tx, c Change) error {
	ahead, err := announced(tx, c.Item, c.SetAt)
	if err != nil {
		return err
	}
	if c.From.After(c.SetAt) && len(ahead) >= maxAnnounced {
		return fail(ErrConflict, "from", "%d changes of %s are announced already: cancel one, or wait for the next", len(ahead), c.Item)
	}
	if _, known, err := first(changes.Scan(tx, beforeAll(c.Item), afterAll(c.Item))); err != nil || known {
		return err
	}
	n := 0
	for _, err := range items(tx, "") {
		if err != nil {
			return err
		}
		n++
	}
	if n >= maxItems {
		return fail(ErrConflict, "item", "the price list has %d items and takes no more: set the price of one of those, which `ecolink admin price list` shows", n)
	}
	return nil
}

func checkAmount(i Item, amount ledger.MicroUSD) error {
	m, err := i.measure()
	switch {
	case err != nil:
		return err
	case amount < 0:
		return fail(ErrInvalid, "amount", "a price is not below 0.00: write one like 1.60")
	case amount == 0 && !m.free:
		return fail(ErrInvalid, "amount", "a price %s is above 0.00: write one like 1.60", m.words)
	case amount > maxAmount:
		return fail(ErrInvalid, "amount", "a price is at most %s: write one like 1.60", maxAmount)
	}
	return nil
}

func checkNote(s string) error {
	if len(s) > maxNoteBytes {
		return fail(ErrInvalid, "note", "a note has %d bytes at most: shorten it", maxNoteBytes)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fail(ErrInvalid, "note", "the note has characters that can't be shown: write it on one line, in plain text")
	}
	return nil
}

// start is the instant that a change begins at: not before now, since what was
// charged by then stays.
func start(from, now time.Time) (time.Time, error) {
	now = instant(now)
	if from.IsZero() {
		return now, nil
	}
	from = instant(from)
	if from.Before(now) {
		return from, fail(ErrInvalid, "from", "%s lies in the past, where prices stay what they were: name a later time, or none for now", spell(from))
	}
	if from.After(now.AddDate(maxYearsAhead, 0, 0)) {
		return from, fail(ErrInvalid, "from", "%s is more than %d years ahead: name an earlier time", spell(from), maxYearsAhead)
	}
	return from, nil
}

// instant is a time as it comes back from the store: UTC, no monotonic reading.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }

func spell(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
