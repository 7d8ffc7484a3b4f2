package lease

import (
	"context"
	"slices"
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
	line                     []*waiter // who could not be served at once, first come first

	doing   operation
	block   ledger.MicroUSD
	ahead   ledger.MicroUSD // what the last draw aimed at
	least   ledger.MicroUSD // that the room was since it was last looked at
	drawnAt time.Time
	retryAt time.Time // no draw ahead before
	trimAt  time.Time // nothing is trimmed before
	due     time.Time // the hold's deadline
	usedAt  time.Time
	dead    bool // out of the table: get another
}

// operation is a change of a lease in the database that is under way.
type operation int

const (
	nothing operation = iota
	drawing
	trimming
	returning // its money is on its way back: nobody gets any of it
)

// waiter is a request that waits for room.
type waiter struct {
	need ledger.MicroUSD
	told chan error // nil when its need has been reserved
}

// room is what can be reserved. It is below zero when requests cost more than
// their estimates.
func (l *lease) room() ledger.MicroUSD { return l.money - l.pending - l.reserved }

// quiet tells whether nothing of the lease is in use.
func (l *lease) quiet() bool {
	return l.doing == nothing && l.reserved == 0 && l.pending == 0 && len(l.line) == 0
}

// fits tells whether an amount can be reserved now. Only so much may be lost by a
// power cut; the estimate does not count, so that a large one gets its turn.
func (s *Spender) fits(l *lease, need ledger.MicroUSD) bool {
	return l.pending < s.config.MaxBlock && l.room() >= need && l.doing != returning
}

// take reserves an amount that fits.
func (l *lease) take(need ledger.MicroUSD, now time.Time) {
	l.reserved += need
	l.least = min(l.least, l.room())
	l.usedAt = now
}

// reserve sets an amount aside. When there is no room, or others wait for some,
// the request queues.
func (s *Spender) reserve(ctx context.Context, a identity.AccountID, need ledger.MicroUSD, now time.Time) (*lease, error) {
	l, w := s.enter(a, need, now)
	if w == nil {
		return l, nil
	}
	select {
	case err := <-w.told:
		return l, err
	case <-ctx.Done():
		return l, s.leave(l, w, now, ctx.Err())
	}
}

// enter reserves an amount, or puts a request into the line for it.
func (s *Spender) enter(a identity.AccountID, need ledger.MicroUSD, now time.Time) (*lease, *waiter) {
	for {
		l := s.leases.get(a, func() *lease { return &lease{account: a, block: s.config.Block, usedAt: now} })
		l.mu.Lock()
		if l.dead {
			l.mu.Unlock()
			continue
		}
		defer l.mu.Unlock()
		if len(l.line) == 0 && s.fits(l, need) && !s.closed.Load() {
			l.take(need, now)
			s.serve(l, now)
			return l, nil
		}
		w := &waiter{need: need, told: make(chan error, 1)}
		l.line = append(l.line, w)
		s.serve(l, now)
		return l, w
	}
}

// leave takes a request out of the line whose context has ended. It may have been
// told meanwhile.
func (s *Spender) leave(l *lease, w *waiter, now time.Time, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.remove(w) {
		return <-w.told
	}
	s.serve(l, now) // it may have been the one in front
	return cause
}

func (l *lease) remove(w *waiter) bool {
	at := slices.Index(l.line, w)
	if at < 0 {
		return false
	}
	l.line = slices.Delete(l.line, at, at+1)
	return true
}

// serve lets requests in the line go on, in their order, as far as there is room,
// and starts a draw when there is not, or when half of the last one is used. It is
// called whenever something has changed. l is locked.
func (s *Spender) serve(l *lease, now time.Time) {
	if s.closed.Load() {
		l.refuse(ErrClosed)
		return
	}
	for len(l.line) > 0 && s.fits(l, l.line[0].need) {
		l.take(l.line[0].need, now)
		l.tell(l.line[0], nil)
	}
	switch {
	case l.doing != nothing, l.pending >= s.config.MaxBlock: // it is called again after that
	case len(l.line) > 0, l.room() < l.ahead/2 && !now.Before(l.retryAt):
		l.doing = drawing
		s.draws.Go(func() { s.draw(l) })
	}
}

// tell answers a request in the line.
func (l *lease) tell(w *waiter, err error) {
	if l.remove(w) {
		w.told <- err
	}
}

// refuse answers all of them. l is locked.
func (l *lease) refuse(err error) {
	for len(l.line) > 0 {
		l.tell(l.line[0], err)
	}
}

// done ends an operation, and lets those go on who have come meanwhile. l is locked.
func (s *Spender) done(l *lease) {
	l.doing = nothing
	s.serve(l, time.Now())
}
