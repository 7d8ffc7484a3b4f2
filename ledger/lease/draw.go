package lease

import (
	"context"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// startDraw starts a draw in the background. l is locked, and has no operation.
func (s *Spender) startDraw(l *lease) {
	op := &operation{done: make(chan struct{})}
	l.op = op
	s.draws.Go(func() { s.draw(l, op) })
}

// draw moves money from the wallet into the lease's hold.
func (s *Spender) draw(l *lease, op *operation) {
	now := time.Now()
	op.err = s.store.View(func(tx *store.Tx) error {
		l.mu.Lock()
		op.planned = true
		l.mu.Unlock()
		w, err := ledger.WalletOf(tx, l.account)
		op.available, op.dry = max(0, w.Available), w.Available <= 0
		return err
	})
	if op.err == nil && !op.dry {
		op.err = s.drawFrom(l, op, now)
	}
	l.mu.Lock()
	if l.op = nil; op.dry || op.err != nil {
		l.retryAt = now.Add(dryRetry)
	}
	l.mu.Unlock()
	close(op.done)
}

func (s *Spender) drawFrom(l *lease, op *operation, now time.Time) error {
	l.mu.Lock()
	op.planned = false // it will look again
	l.mu.Unlock()
	return s.store.Update(context.Background(), func(tx *store.Tx) error {
		w, err := ledger.WalletOf(tx, l.account)
		if err != nil {
			return err
		}
		p := s.plan(l, op, w.Available, now)
		amount := p.amount
		op.available, op.dry = max(0, w.Available-amount), amount >= w.Available
		if amount <= 0 {
			return nil
		}
		g, h, err := grow(tx, l.account, amount, now)
		if err != nil {
			return err
		}
		tx.OnCommit(func() { l.drawn(g, h, p, now) })
		return nil
	})
}

// plan is what a draw is to do.
type plan struct {
	amount ledger.MicroUSD // to move
	block  ledger.MicroUSD // what is drawn ahead where money is plenty
	ahead  ledger.MicroUSD // what is drawn ahead here
}

// plan decides how much to draw: what is being waited for, and a block ahead. The
// block is a small part of what is available, so that near $0 the money is not
// held by whoever asks first.
func (s *Spender) plan(l *lease, op *operation, available ledger.MicroUSD, now time.Time) plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	op.planned = true
	p := plan{block: l.block}
	if !l.drawnAt.IsZero() {
		switch took := now.Sub(l.drawnAt); {
		case took < growBelow:
			p.block = min(2*l.block, s.config.MaxBlock)
		case took > shrinkAbove:
			p.block = max(l.block/2, s.config.MinBlock)
		}
	}
	short := max(0, l.waiting-l.room())
	p.ahead = min(p.block, max(s.config.MinBlock, (available-short)/aheadShare))
	p.amount = max(0, min(l.waiting+p.ahead-l.room(), available))
	return p
}

// drawn takes over what a draw has committed.
func (l *lease) drawn(g granted, h ledger.Hold, p plan, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.hold, l.money, l.due = g.ID, g.Hold, h.Rest(), h.Deadline
	l.block, l.ahead, l.drawnAt = p.block, p.ahead, now
}

// grow moves an amount, which is available, into the account's lease, and makes
// the lease when there is none.
func grow(tx *store.Tx, a identity.AccountID, amount ledger.MicroUSD, now time.Time) (g granted, h ledger.Hold, err error) {
	g, had, err := grants.Get(tx, a)
	if err != nil {
		return g, h, err
	}
	if had {
		if h, err = ledger.GetHold(tx, g.Hold); err != nil {
			return g, h, err
		}
		if h.Settled == nil {
			h, _, err = ledger.ExtendHold(tx, g.Hold, drawing(a, amount, now), now.Add(holdLife))
			return g, h, err
		}
		// Somebody else has ended the hold. The lease goes on with a new one.
	} else if g.ID, err = tx.NextID(grants.Name()); err != nil {
		return g, h, err
	}
	h, err = place(tx, &g, a, amount, now)
	return g, h, err
}

// place makes a new hold for a lease.
func place(tx *store.Tx, g *granted, a identity.AccountID, amount ledger.MicroUSD, now time.Time) (ledger.Hold, error) {
	h, err := ledger.PlaceHold(tx, drawing(a, amount, now), ledger.HoldTerms{Deadline: now.Add(holdLife)})
	if err != nil {
		return h, err
	}
	g.Hold = h.ID
	return h, grants.Put(tx, a, *g)
}

func drawing(a identity.AccountID, amount ledger.MicroUSD, now time.Time) ledger.Entry {
	return ledger.Entry{At: now, Account: a, Amount: amount, Resource: resourceOf(a), Description: "set aside for API requests"}
}
