package lease

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
)

// Reservation is money set aside for one request. It ends once, by Charge or by
// Release.
type Reservation struct {
	s       *Spender
	lease   *lease
	key     *keySpend
	keyID   identity.KeyID
	amount  ledger.MicroUSD
	settled atomic.Bool
}

// Reserve sets an estimate aside for a request that is about to be served; the
// estimate should be the most that it can cost. It waits for the disk only when
// the account's lease has no room, together with everybody who waits for the same.
// An estimate of 0 still needs a micro-dollar: at $0 nothing is served.
//
// *ledger.InsufficientError: the account has not enough; *ledger.CapError: the
// key's cap does not allow it; *BacklogError: the disk does not keep up; ErrClosed.
func (s *Spender) Reserve(ctx context.Context, a identity.AccountID, key identity.KeyID, estimate ledger.MicroUSD) (*Reservation, error) {
	if estimate < 0 || estimate > maxAmount {
		return nil, fmt.Errorf("estimate of $%s: %w", estimate, ErrEstimate)
	}
	now, need := time.Now(), max(estimate, 1)
	if err := s.queue.admit(ctx); err != nil {
		return nil, err
	}
	k, err := s.caps.reserve(key, need, now)
	if err != nil {
		return nil, err
	}
	l, err := s.reserve(ctx, a, need, now)
	if err != nil {
		k.charge(need, 0)
		return nil, err
	}
	return &Reservation{s: s, lease: l, key: k, keyID: key, amount: need}, nil
}

// Charge charges what the request really cost, and returns when that survives the
// death of this process. The entry's account, API key and idempotency key are set
// by Charge. With an amount of 0 there is nothing to charge: the reservation ends,
// and no row is made, see doc.go.
//
// *ledger.TextError, ErrEstimate and ErrQuantity leave the reservation as it was;
// ErrSpent and ErrClosed: nothing was charged; *UnsureError: it may be lost.
func (r *Reservation) Charge(e ledger.Entry) error {
	if err := checkEntry(&e); err != nil {
		return err
	}
	if !r.settled.CompareAndSwap(false, true) {
		return ErrSpent
	}
	if e.Amount == 0 {
		r.giveUp()
		return nil
	}
	l := r.lease
	e.Account, e.APIKey, e.Key = l.account, r.keyID, ""
	now := time.Now()
	if e.At.IsZero() {
		e.At = now
	}
	l.mu.Lock()
	rec := record{lease: l.id, entry: e, from: l, key: r.key}
	l.reserved -= r.amount
	l.pending += e.Amount
	l.usedAt = now
	r.s.serve(l, now)
	l.mu.Unlock()
	r.key.charge(r.amount, e.Amount)

	err := r.s.append(rec)
	if err == ErrClosed {
		l.mu.Lock()
		l.pending -= e.Amount // closed: nobody waits for it
		l.mu.Unlock()
		r.key.charge(0, -e.Amount)
	}
	return err
}

// Release gives the reservation back: nothing is charged. After Charge it does
// nothing, so that it can be deferred.
func (r *Reservation) Release() {
	if r.settled.CompareAndSwap(false, true) {
		r.giveUp()
	}
}

func (r *Reservation) giveUp() {
	now := time.Now()
	r.lease.mu.Lock()
	r.lease.reserved -= r.amount
	r.s.serve(r.lease, now)
	r.lease.mu.Unlock()
	r.key.charge(r.amount, 0)
}

// append writes a record to the log; if that fails, it waits until it is folded.
func (s *Spender) append(rec record) error {
	body := s.bodies.Get().(*[]byte)
	*body = appendBody((*body)[:0], &rec)
	wait, err := s.log.append(*body, rec)
	s.bodies.Put(body)
	if wait == nil {
		return err
	}
	return <-wait
}
