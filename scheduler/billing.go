package scheduler

import (
	"context"
	"errors"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

// Times and limits of the billing worker.
const (
	// billingEvery is how often it looks although nothing is due and nobody's
	// money has come to its end.
	billingEvery   = time.Minute
	reconcileEvery = time.Hour
	// billingBatch is how many cycles, volumes or accounts are read at once, and
	// billed in one transaction.
	billingBatch = 64
	// maxBatches and maxFailures end a round: what is left waits for the next. If so
	// many fail, it is not the records.
	maxBatches  = 1000
	maxFailures = 100
	// maxDepleted is how many accounts without money are looked at when EcoLink
	// starts. Those whose money ends later are told of.
	maxDepleted = 100_000
)

// biller does the billing that goes on by itself: 24-hour cycles and days of
// storage that are due, what ends or comes back when an account's money does,
// holds that nobody owns, and records that nobody needs any more. It remembers nothing that matters: records say what was
// done, so a restart goes on where it was, and what fails is tried again.
type biller struct {
	*Scheduler
	standings *store.Watch
	begun     bool                            // the accounts without money have been read
	look      map[identity.AccountID]struct{} // whose standing has changed

	reconciled time.Time
	foreseen   time.Time
	swept      time.Time
	low        map[identity.AccountID]bool // who has been warned
}

// newBiller begins to watch. The caller calls close.
func newBiller(s *Scheduler) *biller {
	return &biller{
		Scheduler: s, standings: s.store.Watch(ledger.StandingBucket),
		look: map[identity.AccountID]struct{}{}, low: map[identity.AccountID]bool{},
	}
}

func (b *biller) close() { b.standings.Close() }

// run bills until ctx ends.
func (b *biller) run(ctx context.Context) {
	for {
		b.round(ctx, time.Now())
		timer := time.NewTimer(b.untilDue(time.Now()))
		for due := false; !due; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-b.standings.Ready():
				for _, ch := range b.standings.Take() {
					b.look[ledger.ChangedAccount(ch)] = struct{}{}
				}
				b.lookAtStandings(ctx)
			case <-timer.C:
				due = true
			}
		}
	}
}

// untilDue is how long nothing is due.
func (b *biller) untilDue(now time.Time) time.Duration {
	wait := b.pace.billing
	err := b.store.View(func(tx *store.Tx) error {
		for _, next := range []func(*store.Tx) (time.Time, bool, error){metering.NextBoundary, metering.NextDay} {
			at, ok, err := next(tx)
			if err != nil {
				return err
			}
			// What is overdue has failed just now.
			if ok && at.After(now) {
				wait = min(wait, at.Sub(now))
			}
		}
		return nil
	})
	if err != nil {
		b.log.Error("what is due to be billed can't be read", "err", err)
	}
	return wait
}

// round does everything once.
func (b *biller) round(ctx context.Context, now time.Time) {
	if !b.begun {
		b.takeUp()
	}
	bill(ctx, b, dues[metering.CycleID]{"cycle", metering.DueCycles, b.advance}, now)
	bill(ctx, b, dues[string]{"volume", metering.DueVolumes, b.billDays}, now)
	b.lookAtStandings(ctx)
	b.collectDebts(ctx)
	b.restoreVolumes(ctx)
	if now.Sub(b.reconciled).Abs() >= reconcileEvery {
		b.reconcileHolds(ctx, now)
	}
	if now.Sub(b.foreseen).Abs() >= outlookEvery {
		b.foresee(now)
	}
	if now.Sub(b.swept).Abs() >= b.keep.every {
		b.forget(ctx, now)
	}
}

// dues is a kind of thing that has to be billed when its time has come. bill gives
// what is to be done once it is on disk, which may be nil.
type dues[T comparable] struct {
	what string
	list func(tx *store.Tx, now time.Time, limit int) ([]T, error)
	bill func(tx *store.Tx, id T, now time.Time) (done func(), err error)
}

// bill bills what is due until nothing is left but what failed.
func bill[T comparable](ctx context.Context, b *biller, d dues[T], now time.Time) {
	failed := map[T]bool{}
	for n := 0; n < maxBatches && len(failed) < maxFailures && ctx.Err() == nil; n++ {
		var ids []T
		err := b.store.View(func(tx *store.Tx) error {
			all, err := d.list(tx, now, billingBatch+len(failed))
			ids = nil
			for _, id := range all {
				if !failed[id] {
					ids = append(ids, id)
				}
			}
			return err
		})
		if err != nil {
			b.log.Error("what is due to be billed can't be read", "what", d.what, "err", err)
			return
		}
		if len(ids) == 0 {
			return
		}
		if billAll(ctx, b, d, ids, now) == nil {
			continue
		}
		for _, id := range ids { // one of them has to be left out
			err := billAll(ctx, b, d, []T{id}, now)
			var clock *ledger.ClockError
			switch {
			case err == nil:
			case ctx.Err() != nil:
				return
			case errors.As(err, &clock):
				b.log.Error("nothing is billed until the box's clock is right", "err", err)
				return
			default:
				failed[id] = true
				b.log.Error("billing failed and will be tried again", d.what, id, "err", err)
			}
		}
	}
}

// billAll bills some in one transaction.
func billAll[T comparable](ctx context.Context, b *biller, d dues[T], ids []T, now time.Time) error {
	var done []func()
	err := b.store.Update(ctx, func(tx *store.Tx) error {
		done = done[:0]
		for _, id := range ids {
			f, err := d.bill(tx, id, now)
			if err != nil {
				return err
			}
			if f != nil {
				done = append(done, f)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range done {
		f()
	}
	return nil
}

// advance takes a cycle over its boundary. Whoever runs its resource sees from its
// record whether it goes on.
func (b *biller) advance(tx *store.Tx, id metering.CycleID, now time.Time) (func(), error) {
	out, err := metering.Advance(tx, id, now)
	return func() {
		c := out.Cycle
		for _, s := range out.Settled {
			b.log.Info("a cycle was settled", "resource", c.Resource, "account", c.Account, "from", s.From, "charged", s.Charged, "refunded", s.Refunded)
			if s.Owed > 0 {
				b.log.Warn("used while all money was held: it is owed", "resource", c.Resource, "account", c.Account, "owed", s.Owed)
			}
			if s.Unbilled > 0 {
				b.log.Warn("used without money: nobody is charged for it", "resource", c.Resource, "account", c.Account, "unbilled", s.Unbilled)
			}
		}
		b.noteDebts(c.Account, out.Debts)
		switch {
		case out.Stopped:
			b.log.Warn("a cycle was not renewed: its resource has to end", "resource", c.Resource, "account", c.Account, "reason", c.Reason)
		case out.Partial:
			b.log.Warn("the balance covers a part of the next 24 hours", "resource", c.Resource, "account", c.Account, "covers", out.Covers)
		}
	}, err
}

// billDays charges a volume's days that are over.
func (b *biller) billDays(tx *store.Tx, resource string, now time.Time) (func(), error) {
	out, err := metering.BillStorage(tx, resource, now)
	if err == nil && out.Suspended {
		err = drives.SetPaid(tx, resource, false, now)
	}
	return func() { b.noteBill(out) }, err
}

func (b *biller) noteBill(out metering.Bill) {
	v := out.Volume
	b.noteDebts(v.Account, out.Debts)
	for _, d := range out.Days {
		if d.Owed > 0 {
			b.log.Warn("used while all money was held: it is owed", "resource", v.Resource, "account", v.Account, "owed", d.Owed)
		}
		if d.Unbilled > 0 {
			b.log.Warn("used without money: nobody is charged for it", "resource", v.Resource, "account", v.Account, "unbilled", d.Unbilled)
		}
	}
	if out.Suspended {
		b.log.Warn("storage is suspended until there is money", "resource", v.Resource, "account", v.Account)
	}
}

func (b *biller) noteDebts(a identity.AccountID, p metering.Payment) {
	if p.Paid > 0 {
		b.log.Info("what was owed has been charged", "account", a, "charged", p.Paid)
	}
	if p.Forgiven > 0 {
		b.log.Warn("owed, and there is no money any more: nobody is charged for it", "account", a, "unbilled", p.Forgiven)
	}
}
