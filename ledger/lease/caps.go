package lease

import (
	"sync"
	"sync/atomic"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// keySpend is what requests of an API key cost that the journal does not count
// yet. As lease's, its lock is never held while the database is asked.
type keySpend struct {
	id identity.KeyID

	mu                sync.Mutex
	pending, reserved ledger.MicroUSD

	// The cap, as it was last read.
	known   bool
	capped  bool
	cap     ledger.KeyCap
	until   time.Time // the month's end
	version int       // counts what made it unknown
	dead    bool      // out of the table: get another
}

// caps knows the caps of the keys in use. The store tells which have changed:
// before whoever changed one hears that it is done.
type caps struct {
	store *store.Store
	keys  table[identity.KeyID, keySpend]
	watch *store.Watch

	note   sync.Mutex  // held while changes are noted
	noting atomic.Bool // somebody does
}

// reserve counts an amount against the key's cap; 0 is no key.
func (c *caps) reserve(id identity.KeyID, amount ledger.MicroUSD, now time.Time) (*keySpend, error) {
	if id == 0 {
		return nil, nil
	}
	c.forget()
	for {
		k := c.keys.get(id, func() *keySpend { return &keySpend{id: id} })
		k.mu.Lock()
		switch {
		case k.dead:
			k.mu.Unlock()
			continue
		case k.known && (!k.capped || now.Before(k.until)):
			defer k.mu.Unlock()
			return k, k.take(amount)
		}
		version := k.version
		k.mu.Unlock()
		if err := c.read(k, version, now); err != nil {
			return nil, err
		}
	}
}

// take counts an amount if the cap allows it. k is locked, and its cap known.
func (k *keySpend) take(amount ledger.MicroUSD) error {
	if spent := k.cap.Spent + k.pending + k.reserved; k.capped && amount > k.cap.Cap-spent {
		return &ledger.CapError{APIKey: k.id, Cap: k.cap.Cap, Spent: spent, Until: k.until}
	}
	k.reserved += amount
	return nil
}

// read asks the database for the key's cap.
func (c *caps) read(k *keySpend, version int, now time.Time) error {
	var kc ledger.KeyCap
	var capped bool
	err := c.store.View(func(tx *store.Tx) (err error) {
		kc, capped, err = ledger.CapOf(tx, k.id, now)
		return err
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.version == version {
		k.known, k.capped, k.cap, k.until = true, capped, kc, kc.Month.AddDate(0, 1, 0)
	}
	return nil
}

// forget takes note of the caps that have changed. When it returns, every change
// that was committed before it was called has been noted: by it, or by another
// caller, who is waited for.
func (c *caps) forget() {
	if len(c.watch.Ready()) == 0 && !c.noting.Load() { // in this order
		return
	}
	c.note.Lock()
	defer c.note.Unlock()
	c.noting.Store(true) // before the channel is emptied
	defer c.noting.Store(false)
	select {
	case <-c.watch.Ready():
	default:
		return
	}
	for _, ch := range c.watch.Take() {
		if k := c.keys.peek(ledger.ChangedKey(ch)); k != nil {
			k.mu.Lock()
			k.unknown()
			k.mu.Unlock()
		}
	}
}

func (k *keySpend) unknown() {
	k.known = false
	k.version++
}

// charge turns an amount that was reserved into one that is pending.
func (k *keySpend) charge(reserved, pending ledger.MicroUSD) {
	if k == nil {
		return
	}
	k.mu.Lock()
	k.reserved -= reserved
	k.pending += pending
	k.mu.Unlock()
}

// folded takes off what the journal now counts. If there is a cap, it says so in
// the cap, which must be read again before the next request is admitted: whoever
// has looked at the watch just before the commit would count it nowhere.
func (k *keySpend) folded(amount ledger.MicroUSD) {
	k.mu.Lock()
	k.pending -= amount
	if k.capped || !k.known {
		k.unknown()
	}
	k.mu.Unlock()
}

// sweep forgets keys that nothing is in flight of.
func (c *caps) sweep() {
	for _, k := range c.keys.all() {
		k.mu.Lock()
		if k.pending == 0 && k.reserved == 0 {
			k.dead = true
			c.keys.remove(k.id)
		}
		k.mu.Unlock()
	}
}
