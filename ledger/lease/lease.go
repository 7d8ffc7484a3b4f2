package lease

import (
	"context"
	"sync"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
)

// lease is an account's money in memory. Its lock is never held while the
// database is asked to do something: the database's writer takes it.
type lease struct {
	account identity.AccountID

	mu   sync.Mutex
	id   int64         // 0 while nothing is drawn
	hold ledger.HoldID // that the money lies in
	// money is what the hold has, as the last commit left it. Of that, pending is
	// in the log and not in the journal yet, and reserved is what requests in
	// flight are expected to cost.
	money, pending, reserved ledger.MicroUSD
	waiting                  ledger.MicroUSD // what callers need who wait for a draw

	op      *operation // under way: a draw, or the return
	block   ledger.MicroUSD
	ahead   ledger.MicroUSD // what the last draw aimed at
	drawnAt time.Time
	retryAt time.Time // no draw ahead before
	due     time.Time // the hold's deadline
	usedAt  time.Time
	dead    bool // out of the table: get another
}

// operation is a change of a lease in the database.
type operation struct {
	done chan struct{}

	planned   bool            // guarded by the lease's lock: it has looked at who waits
	available ledger.MicroUSD // in the wallet, after it
	dry       bool            // it took all that the wallet had, or found nothing
	err       error
}

// room is what can be reserved. It is below zero when requests cost more than
// their estimates.
func (l *lease) room() ledger.MicroUSD { return l.money - l.pending - l.reserved }

// quiet tells whether nothing of the lease is in use.
func (l *lease) quiet() bool {
	return l.op == nil && l.reserved == 0 && l.pending == 0 && l.waiting == 0
}

// pass returns when whoever had the lease's lock has let go of it.
func (l *lease) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
}

// reserve sets an amount aside, and waits for a draw if it must.
func (s *Spender) reserve(ctx context.Context, a identity.AccountID, need ledger.MicroUSD, now time.Time) (*lease, error) {
	var seen *operation // a draw that was planned while this caller waited for it
	for {
		l := s.leases.get(a, func() *lease { return &lease{account: a, block: s.config.Block, usedAt: now} })
		l.mu.Lock()
		switch {
		case l.dead:
			l.mu.Unlock()
			continue
		case s.closed.Load():
			l.mu.Unlock()
			return nil, ErrClosed
		case l.pending > 0 && l.pending+need > s.config.MaxBlock:
			// Only so much may be lost by a power cut.
			progress := s.queue.step()
			l.mu.Unlock()
			if err := s.queue.await(ctx, progress); err != nil {
				return nil, err
			}
			continue
		case l.room() >= need:
			l.reserved += need
			l.usedAt = now
			s.drawAhead(l, now)
			l.mu.Unlock()
			return l, nil
		case seen != nil && seen.dry:
			err := &ledger.InsufficientError{Needed: need, Available: seen.available + max(0, l.room())}
			l.mu.Unlock()
			return nil, err
		}
		if l.op == nil {
			s.startDraw(l)
		}
		op, counts := l.op, !l.op.planned
		l.waiting += need
		l.mu.Unlock()
		var err error
		select {
		case <-op.done:
			err = op.err
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.mu.Lock()
		l.waiting -= need
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if counts {
			seen = op
		}
	}
}

// drawAhead starts a draw when half of the last one is used. l is locked.
func (s *Spender) drawAhead(l *lease, now time.Time) {
	if l.op == nil && l.room() < l.ahead/2 && !now.Before(l.retryAt) && !s.closed.Load() {
		s.startDraw(l)
	}
}
