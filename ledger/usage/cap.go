package usage

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// KeySpending is what an API key has spent in a month, and its cap.
type KeySpending struct {
	Spent ledger.MicroUSD // what was used
	// Cap is nil when the key has none. Counted is what counts against it: also
	// what is set aside.
	Cap     *ledger.MicroUSD
	Counted ledger.MicroUSD
}

// OfKeys reads what an account's keys have spent in the current month.
func OfKeys(tx *store.Tx, a identity.AccountID, keys []identity.Key, now time.Time) (map[identity.KeyID]KeySpending, error) {
	spent, err := SpentWithKeys(tx, a, now)
	if err != nil {
		return nil, err
	}
	out := make(map[identity.KeyID]KeySpending, len(keys))
	for _, k := range keys {
		s := KeySpending{Spent: spent[k.ID]}
		c, ok, err := ledger.CapOf(tx, k.ID, now)
		if err != nil {
			return nil, err
		}
		if ok {
			s.Cap, s.Counted = &c.Cap, c.Spent
		}
		out[k.ID] = s
	}
	return out, nil
}

// SetCap sets the monthly cap of an account's API key; nil lifts it. A cap that is
// set for the first time counts what the key has already spent in the month.
func SetCap(tx *store.Tx, a identity.AccountID, key identity.KeyID, limit *ledger.MicroUSD, now time.Time) error {
	if _, err := identity.KeyByID(tx, a, key); err != nil {
		return err
	}
	if limit == nil {
		return ledger.ClearKeyCap(tx, key)
	}
	spent, err := AgainstCap(tx, a, key, now)
	if err != nil {
		return err
	}
	return ledger.SetKeyCap(tx, key, *limit, spent, now)
}
