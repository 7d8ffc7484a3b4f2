package ledger

import (
	"errors"
	"fmt"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// HoldID numbers holds, from 1.
type HoldID int64

// Hold is money set aside for a resource: out of the available balance, not yet
// spent. It is settled once: what was used is charged, the rest goes back.
type Hold struct {
	ID       HoldID             `json:"id"`
	Account  identity.AccountID `json:"account"`
	Resource string             `json:"resource"`
	Amount   MicroUSD           `json:"amount"` // with all extensions
	PlacedAt time.Time          `json:"placed_at"`
	Settled  *Settlement        `json:"settled,omitempty"` // nil while open
}

// Settlement is how a hold ended: Used + Refunded = the hold's amount.
type Settlement struct {
	At       time.Time `json:"at"`
	Used     MicroUSD  `json:"used"`
	Refunded MicroUSD  `json:"refunded"`
	// Unbilled is what was used beyond the hold. It is not charged: nobody pays
	// for more than was held, and the operator sees what the lag cost.
	Unbilled MicroUSD `json:"unbilled,omitempty"`
}

var holds = store.NewIntCollection[HoldID, Hold]("ledger.holds")

// ErrNoHold is returned for a hold that does not exist.
var ErrNoHold = errors.New("no such hold")

// ErrHoldSettled is returned when a hold that has ended is to be extended.
var ErrHoldSettled = errors.New("the hold has already been settled")

// PlaceHold moves e.Amount from the account's available balance into a new hold
// for e.Resource. An *InsufficientError leaves everything as it was.
func PlaceHold(tx *store.Tx, e Entry) (Hold, error) {
	prior, ok, err := seen(tx, HoldPlaced, e)
	if err != nil {
		return Hold{}, err
	}
	if ok {
		return GetHold(tx, prior.Hold)
	}
	if err := covers(tx, e); err != nil {
		return Hold{}, err
	}
	n, err := tx.NextID(holds.Name())
	if err != nil {
		return Hold{}, err
	}
	h := Hold{ID: HoldID(n), Account: e.Account, Resource: e.Resource, Amount: e.Amount, PlacedAt: e.At.UTC()}
	t, err := move(tx, movement{Entry: e, kind: HoldPlaced, from: available(e.Account), to: held(e.Account), hold: h.ID})
	if err != nil {
		return Hold{}, err
	}
	if err := remember(tx, HoldPlaced, e, t.Seq, h.ID); err != nil {
		return Hold{}, err
	}
	return h, holds.Put(tx, h.ID, h)
}

// ExtendHold adds e.Amount to an open hold. On an *InsufficientError the hold is
// as it was. The entry's account and resource are taken from the hold.
func ExtendHold(tx *store.Tx, id HoldID, e Entry) (Hold, error) {
	h, err := GetHold(tx, id)
	if err != nil {
		return Hold{}, err
	}
	e.Account, e.Resource = h.Account, h.Resource
	_, ok, err := seen(tx, HoldPlaced, e)
	if err != nil || ok {
		return h, err
	}
	if h.Settled != nil {
		return Hold{}, fmt.Errorf("hold %d: %w", id, ErrHoldSettled)
	}
	if err := covers(tx, e); err != nil {
		return Hold{}, err
	}
	t, err := move(tx, movement{Entry: e, kind: HoldPlaced, from: available(e.Account), to: held(e.Account), hold: id})
	if err != nil {
		return Hold{}, err
	}
	if h.Amount, err = h.Amount.Add(e.Amount); err != nil {
		return Hold{}, err
	}
	if err := remember(tx, HoldPlaced, e, t.Seq, id); err != nil {
		return Hold{}, err
	}
	return h, holds.Put(tx, id, h)
}

// SettleHold ends a hold: used is charged as a row of the given type, at most the
// hold's amount, and the rest is refunded. Settling a settled hold gives the
// first settlement again and moves nothing. Using nothing voids the hold.
func SettleHold(tx *store.Tx, id HoldID, kind Type, used MicroUSD, e Entry) (Hold, error) {
	h, err := GetHold(tx, id)
	if err != nil || h.Settled != nil {
		return h, err
	}
	if used < 0 {
		return Hold{}, fmt.Errorf("settle hold %d for %s: %w", id, used, ErrAmount)
	}
	s := Settlement{At: e.At.UTC(), Used: min(used, h.Amount)}
	s.Unbilled = used - s.Used
	s.Refunded = h.Amount - s.Used
	e.Account, e.Resource, e.Key = h.Account, h.Resource, ""
	if s.Used > 0 {
		e.Amount = s.Used
		if _, err := move(tx, movement{Entry: e, kind: kind, from: held(h.Account), to: revenue(kind), hold: id}); err != nil {
			return Hold{}, err
		}
	}
	if s.Refunded > 0 {
		e.Amount, e.Description = s.Refunded, "unused part of the hold"
		if _, err := move(tx, movement{Entry: e, kind: Refund, from: held(h.Account), to: available(h.Account), hold: id}); err != nil {
			return Hold{}, err
		}
	}
	h.Settled = &s
	return h, holds.Put(tx, id, h)
}

// GetHold reads a hold.
func GetHold(tx *store.Tx, id HoldID) (Hold, error) {
	h, ok, err := holds.Get(tx, id)
	if err != nil {
		return Hold{}, err
	}
	if !ok {
		return Hold{}, fmt.Errorf("hold %d: %w", id, ErrNoHold)
	}
	return h, nil
}

// covers checks the balance before anything is written: an update that fails
// without having written costs its neighbours in the commit nothing.
func covers(tx *store.Tx, e Entry) error {
	if e.Amount <= 0 {
		return fmt.Errorf("hold of %s: %w", e.Amount, ErrAmount)
	}
	w, err := WalletOf(tx, e.Account)
	if err != nil {
		return err
	}
	if w.Available < e.Amount {
		return &InsufficientError{Needed: e.Amount, Available: w.Available}
	}
	return nil
}
