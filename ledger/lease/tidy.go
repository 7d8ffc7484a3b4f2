package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// tidy gives back the leases that nobody uses, and what others have too much of.
func (s *Spender) tidy() {
	tick := time.NewTicker(max(min(s.config.Idle/4, trimEvery), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			err := cmp.Or(s.returnIdle(now), s.trimAll(now))
			if errors.Is(err, ErrReplaced) {
				s.config.Log.Error("money that was set aside for API requests is no longer looked after here", "err", err)
				return
			}
			s.caps.sweep()
		}
	}
}

func (s *Spender) returnIdle(now time.Time) error {
	var idle []*lease
	for _, l := range s.leases.all() {
		l.mu.Lock()
		late := l.id != 0 && now.Add(holdMargin).After(l.due)
		if l.quiet() && (now.Sub(l.usedAt) >= s.config.Idle || late) && !now.Before(l.trimAt) {
			l.doing = returning
			idle = append(idle, l)
		}
		l.mu.Unlock()
	}
	var failed error
	for some := range slices.Chunk(idle, maxReturns) {
		err := s.giveBack(some, now, "not used for a while")
		if err != nil {
			s.config.Log.Warn("money that was set aside for API requests could not be given back yet", "leases", len(some), "err", err)
			failed = err
		}
		for _, l := range some {
			s.let(l, now)
		}
	}
	return failed
}

// let takes a lease that was given back out of the table, unless somebody has come
// for it meanwhile. One that could not be given back rests for a while.
func (s *Spender) let(l *lease, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != 0 {
		l.trimAt = now.Add(s.config.Idle)
	}
	if s.done(l); l.id == 0 && l.quiet() {
		l.dead = true
		s.leases.remove(l.account)
	}
}

// accountError is an account whose records keep a transaction of several from
// being made.
type accountError struct {
	account identity.AccountID
	err     error
}

func (e *accountError) Error() string { return fmt.Sprintf("account %d: %v", e.account, e.err) }
func (e *accountError) Unwrap() error { return e.err }

// unreadable tells whether an error comes from a record that can't be read, which
// trying again does not mend.
func unreadable(err error) bool {
	return errors.Is(err, store.ErrDamaged) || errors.Is(err, ledger.ErrNoHold)
}

// except runs an update for several accounts. Accounts whose records can't be read
// are left out, and it gives their errors.
func except[T any](ctx context.Context, st *store.Store, all []T, account func(T) identity.AccountID, fn func(*store.Tx, []T) error) (left []*accountError, err error) {
	for len(all) > 0 {
		err := st.Update(ctx, func(tx *store.Tx) error { return fn(tx, all) })
		var bad *accountError
		if err == nil || !unreadable(err) || !errors.As(err, &bad) {
			return left, err
		}
		left = append(left, bad)
		all = slices.DeleteFunc(slices.Clone(all), func(t T) bool { return account(t) == bad.account })
	}
	return left, nil
}

// giveBack refunds what leases have, in one transaction.
func (s *Spender) giveBack(all []*lease, now time.Time, why string) error {
	left, err := except(context.Background(), s.store, all, func(l *lease) identity.AccountID { return l.account }, func(tx *store.Tx, all []*lease) error {
		if err := fence(tx, s.epoch); err != nil {
			return err
		}
		for _, l := range all {
			if l.id == 0 { // nobody changes it now
				continue
			}
			if err := giveBack(tx, l.account, l.id, now, why); err != nil {
				return &accountError{l.account, err}
			}
		}
		tx.OnCommit(func() {
			for _, l := range all {
				l.mu.Lock()
				l.id, l.hold, l.money, l.ahead, l.least = 0, 0, 0, 0, 0
				l.mu.Unlock()
			}
		})
		return nil
	})
	for _, e := range left {
		err = errors.Join(err, e)
	}
	return err
}

// giveBack ends an account's lease, if it has the one with the id; 0 is any.
func giveBack(tx *store.Tx, a identity.AccountID, id int64, now time.Time, why string) error {
	g, ok, err := grants.Get(tx, a)
	if err != nil || !ok || id != 0 && g.ID != id {
		return err
	}
	h, err := ledger.GetHold(tx, g.Hold)
	if err != nil {
		return err
	}
	if h.Settled == nil {
		if _, err := ledger.VoidHold(tx, g.Hold, ledger.Entry{At: now, Description: why}); err != nil {
			return err
		}
	}
	return grants.Delete(tx, a)
}

// trimAll gives back what leases have had beyond what they draw ahead since the
// last time: requests were expected to cost much more than they did.
func (s *Spender) trimAll(now time.Time) error {
	var failed error
	for _, l := range s.leases.all() {
		excess := l.excess(now)
		if excess == 0 {
			continue
		}
		err := s.trim(l, excess, now)
		l.mu.Lock()
		if err != nil {
			l.reserved -= excess
			l.trimAt = now.Add(s.config.Idle)
		}
		s.done(l)
		l.mu.Unlock()
		if err != nil {
			s.config.Log.Warn("money that was set aside for API requests could not be given back yet", "account", l.account, "err", err)
			failed = err
		}
	}
	return failed
}

// excess is what is to be trimmed off a lease, if anything. It is reserved for that.
func (l *lease) excess(now time.Time) ledger.MicroUSD {
	l.mu.Lock()
	defer l.mu.Unlock()
	excess := min(l.least, l.room()) - l.ahead
	l.least = l.room()
	if l.id == 0 || l.doing != nothing || excess <= l.ahead || now.Before(l.trimAt) {
		return 0
	}
	l.doing = trimming
	l.reserved += excess // nobody else gets it
	return excess
}

// trim gives an amount back that is reserved for it. A hold can't be lessened: it
// is ended, and a new one takes what stays.
func (s *Spender) trim(l *lease, excess ledger.MicroUSD, now time.Time) error {
	return s.store.Update(context.Background(), func(tx *store.Tx) error {
		if err := fence(tx, s.epoch); err != nil {
			return err
		}
		g, ok, err := grants.Get(tx, l.account)
		if err != nil || !ok {
			return cmp.Or(err, ledger.ErrNoHold)
		}
		h, err := ledger.GetHold(tx, g.Hold)
		if err != nil {
			return err
		}
		keep := h.Rest() - excess
		if h.Settled != nil || keep <= 0 {
			return ledger.ErrHoldSettled // the next fold finds out what there is
		}
		if _, err := ledger.VoidHold(tx, g.Hold, ledger.Entry{At: now, Description: "more was set aside than API requests needed"}); err != nil {
			return err
		}
		if h, err = place(tx, &g, l.account, keep, now); err != nil {
			return err
		}
		tx.OnCommit(func() {
			l.mu.Lock()
			l.hold, l.money, l.due = g.Hold, h.Rest(), h.Deadline
			l.reserved -= excess
			l.least = l.room()
			l.mu.Unlock()
		})
		return nil
	})
}
