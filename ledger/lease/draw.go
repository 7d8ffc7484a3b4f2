package lease

import (
	"context"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// draw moves money from the wallet into the lease's hold, as much as the requests
// in the line need and the account has, and a block ahead. Those for whom it is
// not enough are refused.
func (s *Spender) draw(l *lease) {
	now := time.Now()
	var p plan
	err := s.store.Update(context.Background(), func(tx *store.Tx) error {
		if err := fence(tx, s.epoch); err != nil {
			return err
		}
		w, err := ledger.WalletOf(tx, l.account)
		if err != nil {
			return err
		}
		p = s.plan(l, w.Available, now)
		if p.amount == 0 {
			return nil
		}
		g, h, err := grow(tx, l.account, p.amount, now)
		if err != nil {
			return err
		}
		made := p
		tx.OnCommit(func() { l.drawn(g, h, made, now) })
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refuse(err)
	}
	if err != nil || p.dry {
		l.retryAt = now.Add(dryRetry)
	}
	for _, r := range p.refused {
		l.tell(r.waiter, r.err)
	}
	s.done(l)
}

// plan is what a draw is to do.
type plan struct {
	amount  ledger.MicroUSD // to move
	block   ledger.MicroUSD // what is drawn ahead where money is plenty
	ahead   ledger.MicroUSD // what is drawn ahead here
	dry     bool            // it takes all that the wallet has, or finds too little
	refused []refusal       // who needs more than the account has
}

type refusal struct {
	*waiter
	err error
}

// plan decides how much to draw: what is being waited for, and a block ahead. The
// block is a small part of what is available, so that near $0 the money is not
// held by whoever asks first. For a request that is refused nothing is drawn.
func (s *Spender) plan(l *lease, available ledger.MicroUSD, now time.Time) plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := plan{block: s.nextBlock(l, now)}
	available = max(0, available)
	wanted, free := ledger.MicroUSD(0), available+l.room()
	for _, w := range l.line {
		if w.need <= free {
			wanted, free = wanted+w.need, free-w.need
			continue
		}
		p.refused = append(p.refused, refusal{w, &ledger.InsufficientError{Needed: w.need, Available: max(0, free)}})
	}
	if wanted == 0 && len(p.refused) > 0 {
		p.dry = true
		return p
	}
	short := max(0, wanted-l.room())
	p.ahead = min(p.block, max(s.config.MinBlock, (available-short)/aheadShare))
	p.amount = max(0, min(wanted+p.ahead-l.room(), available))
	p.dry = p.amount == available
	return p
}

// nextBlock is how much to draw ahead, by how long the last block was enough. l is
// locked.
func (s *Spender) nextBlock(l *lease, now time.Time) ledger.MicroUSD {
	took := now.Sub(l.drawnAt)
	switch {
	case l.drawnAt.IsZero():
		return l.block
	case took < growBelow:
		return min(2*l.block, s.config.MaxBlock)
	case took > shrinkAbove:
		return max(l.block/2, s.config.MinBlock)
	}
	return l.block
}

// drawn takes over what a draw has committed.
func (l *lease) drawn(g granted, h ledger.Hold, p plan, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id, l.hold, l.money, l.due = g.ID, g.Hold, h.Rest(), h.Deadline
	l.block, l.ahead, l.drawnAt = p.block, p.ahead, now
	l.least = min(l.least, l.room())
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
			h, _, err = ledger.ExtendHold(tx, g.Hold, setAside(a, amount, now), now.Add(holdLife))
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
	h, err := ledger.PlaceHold(tx, setAside(a, amount, now), ledger.HoldTerms{Deadline: now.Add(holdLife)})
	if err != nil {
		return h, err
	}
	g.Hold = h.ID
	return h, grants.Put(tx, a, *g)
}

func setAside(a identity.AccountID, amount ledger.MicroUSD, now time.Time) ledger.Entry {
	return ledger.Entry{At: now, Account: a, Amount: amount, Resource: resourceOf(a), Description: "set aside for API requests"}
}

// fence keeps a Spender away from the leases of the one that has replaced it.
func fence(tx *store.Tx, epoch logID) error {
	state, _, err := states.Get(tx, stateKey)
	if err == nil && state.Epoch != epoch {
		err = ErrReplaced
	}
	return err
}
