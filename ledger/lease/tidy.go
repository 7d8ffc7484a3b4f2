package lease

import (
	"cmp"
	"context"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// tidy gives back the leases that nobody uses, and what others have too much of.
func (s *Spender) tidy() {
	tick := time.NewTicker(max(s.config.Idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			s.returnIdle(now)
			s.trimAll(now)
			s.caps.sweep()
		}
	}
}

func (s *Spender) returnIdle(now time.Time) {
	var idle []*lease
	done := make(chan struct{})
	flush := func() {
		if err := s.giveBack(idle, now, "not used for a while"); err != nil {
			s.config.Log.Warn("money that was set aside for API requests could not be given back yet", "leases", len(idle), "err", err)
		}
		for _, l := range idle {
			s.let(l)
		}
		close(done)
		idle, done = nil, make(chan struct{})
	}
	for _, l := range s.leases.all() {
		l.mu.Lock()
		late := l.id != 0 && now.Add(holdMargin).After(l.due)
		if l.quiet() && (now.Sub(l.usedAt) >= s.config.Idle || late) {
			l.op = &operation{done: done}
			idle = append(idle, l)
		}
		l.mu.Unlock()
		if len(idle) == maxReturns {
			flush()
		}
	}
	if len(idle) > 0 {
		flush()
	}
}

// let takes a lease that was given back out of the table, and lets those go on
// who have come meanwhile.
func (s *Spender) let(l *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.op = nil
	if l.id == 0 {
		l.dead = true
		s.leases.remove(l.account)
	}
}

// giveBack refunds what leases have, in one transaction.
func (s *Spender) giveBack(all []*lease, now time.Time, why string) error {
	return s.store.Update(context.Background(), func(tx *store.Tx) error {
		for _, l := range all {
			if err := giveBack(tx, l.account, now, why); err != nil {
				return err
			}
		}
		tx.OnCommit(func() {
			for _, l := range all {
				l.mu.Lock()
				l.id, l.hold, l.money, l.ahead = 0, 0, 0, 0
				l.mu.Unlock()
			}
		})
		return nil
	})
}

// giveBack ends an account's lease, if it has one.
func giveBack(tx *store.Tx, a identity.AccountID, now time.Time, why string) error {
	g, ok, err := grants.Get(tx, a)
	if err != nil || !ok {
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

// trimAll gives back what leases have in excess: requests were expected to cost
// much more than they did.
func (s *Spender) trimAll(now time.Time) {
	for _, l := range s.leases.all() {
		l.mu.Lock()
		excess := l.room() - l.block
		var op *operation
		if l.op == nil && excess > s.config.MaxBlock {
			op = &operation{done: make(chan struct{})}
			l.op = op
			l.reserved += excess // nobody else gets it
		}
		l.mu.Unlock()
		if op == nil {
			continue
		}
		err := s.trim(l, excess, now)
		l.mu.Lock()
		if l.op = nil; err != nil {
			l.reserved -= excess
		}
		l.mu.Unlock()
		close(op.done)
		if err != nil {
			s.config.Log.Warn("money that was set aside for API requests could not be given back yet", "account", l.account, "err", err)
		}
	}
}

// trim gives an amount back that is reserved for it. A hold can't be lessened: it
// is ended, and a new one takes what stays.
func (s *Spender) trim(l *lease, excess ledger.MicroUSD, now time.Time) error {
	return s.store.Update(context.Background(), func(tx *store.Tx) error {
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
			l.mu.Unlock()
		})
		return nil
	})
}
