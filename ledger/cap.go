package ledger

import (
	"fmt"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// KeyCap is the most that may be spent with an API key in a calendar month, UTC.
// What is held counts as spent until it comes back.
type KeyCap struct {
	Cap   MicroUSD  `json:"cap"`
	Month time.Time `json:"month"` // the beginning of the month that Spent is of
	Spent MicroUSD  `json:"spent"`
}

// CapsBucket changes with every key's cap, and with what counts against it.
const CapsBucket = "ledger.key-caps"

var caps = store.NewIntCollection[identity.KeyID, KeyCap](CapsBucket)

// ChangedKey is the API key that a change of CapsBucket is about.
func ChangedKey(ch store.Change) identity.KeyID { return caps.KeyOf(ch) }

// keyCap is a cap in a batch; unset when the key has none.
type keyCap struct {
	KeyCap
	set, dirty bool
}

// MonthOf is the beginning of the calendar month, UTC, that t lies in.
func MonthOf(t time.Time) time.Time {
	y, m, _ := t.UTC().Date()
	return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
}

// SetKeyCap sets the cap of an API key. spent is what was spent with the key in
// this month before; it is used only if the key had no cap until now.
func SetKeyCap(tx *store.Tx, key identity.KeyID, limit, spent MicroUSD, now time.Time) error {
	if limit < 0 || spent < 0 {
		return fmt.Errorf("spend cap: %w", ErrAmount)
	}
	c, err := capOf(tx, key)
	if err != nil {
		return err
	}
	if !c.set {
		c.Month, c.Spent = MonthOf(now), spent
	}
	c.Cap, c.set, c.dirty = limit, true, true
	tx.Touch()
	return nil
}

// ClearKeyCap lifts the cap of an API key.
func ClearKeyCap(tx *store.Tx, key identity.KeyID) error {
	c, err := capOf(tx, key)
	if err != nil || !c.set {
		return err
	}
	*c = keyCap{}
	return caps.Delete(tx, key)
}

// CapOf reads an API key's cap, with what counts against it at the given time.
func CapOf(tx *store.Tx, key identity.KeyID, now time.Time) (c KeyCap, ok bool, err error) {
	k, err := capOf(tx, key)
	if err != nil || !k.set {
		return KeyCap{}, false, err
	}
	return k.at(now), true, nil
}

func (c KeyCap) at(now time.Time) KeyCap {
	if month := MonthOf(now); month.After(c.Month) {
		c.Month, c.Spent = month, 0
	}
	return c
}

func capOf(tx *store.Tx, key identity.KeyID) (*keyCap, error) {
	b, err := batchOf(tx)
	if err != nil {
		return nil, err
	}
	if b != nil && b.caps[key] != nil {
		return b.caps[key], nil
	}
	stored, ok, err := caps.Get(tx, key)
	if err != nil {
		return nil, err
	}
	c := &keyCap{KeyCap: stored, set: ok}
	if b != nil {
		b.caps[key] = c
	}
	return c, nil
}

// underCap refuses what the key's cap does not allow.
func underCap(tx *store.Tx, m movement) error {
	if m.APIKey == 0 {
		return nil
	}
	c, err := capOf(tx, m.APIKey)
	if err != nil || !c.set {
		return err
	}
	now := c.at(m.At)
	if m.Amount > now.Cap-now.Spent {
		return &CapError{APIKey: m.APIKey, Cap: now.Cap, Spent: now.Spent, Until: now.Month.AddDate(0, 1, 0)}
	}
	return nil
}

// countBack takes what came back off what counts against the key's cap. What was
// spent in an earlier month does not raise this month's cap.
func countBack(tx *store.Tx, m movement, amount MicroUSD, spentIn time.Time) error {
	if m.APIKey == 0 {
		return nil
	}
	c, err := capOf(tx, m.APIKey)
	if err != nil || !c.set || c.at(m.At).Month.After(spentIn) {
		return err
	}
	return countSpend(tx, m, -amount)
}

// countSpend counts an amount against the cap of the key that it was spent with.
func countSpend(tx *store.Tx, m movement, amount MicroUSD) error {
	if m.APIKey == 0 {
		return nil
	}
	c, err := capOf(tx, m.APIKey)
	if err != nil || !c.set {
		return err
	}
	c.KeyCap = c.at(m.At)
	c.Spent = max(0, c.Spent+amount)
	c.dirty = true
	tx.Touch()
	return nil
}
