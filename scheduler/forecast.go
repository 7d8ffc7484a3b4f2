package scheduler

import (
	"errors"
	"maps"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

const (
	// outlookEvery is how often it is looked whose money is about to end.
	outlookEvery = 5 * time.Minute
	// maxForeseen is how many cycles, and volumes, one such look reads.
	maxForeseen = 10_000
)

// Forecast says what the account spends per hour and how long its money lasts if
// all that it has goes on.
func (s *Scheduler) Forecast(a identity.AccountID) (o metering.Outlook, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		live, err := everyLive(tx)
		if err != nil {
			return err
		}
		o, err = outlook(tx, a, live, time.Now())
		return err
	})
	return o, err
}

// outlook is the forecast for an account, given all live instances.
func outlook(tx *store.Tx, a identity.AccountID, live []Instance, now time.Time) (metering.Outlook, error) {
	w, err := ledger.WalletOf(tx, a)
	if err != nil {
		return metering.Outlook{}, err
	}
	streams, err := metering.Streams(tx, a, now)
	if err != nil {
		return metering.Outlook{}, err
	}
	for _, i := range live {
		if i.Account != a || !i.billable() {
			continue
		}
		s, err := i.stream(tx, now)
		if err != nil {
			return metering.Outlook{}, err
		}
		streams = append(streams, s)
	}
	return metering.Forecast(w, streams, now), nil
}

// stream is what an instance spends at now, out of its hold, until its time is up.
// One that does not run yet spends nothing; what is held for it is for it alone.
func (i Instance) stream(tx *store.Tx, now time.Time) (s metering.Stream, err error) {
	h, err := ledger.GetHold(tx, i.Hold)
	if err != nil && !errors.Is(err, ledger.ErrNoHold) { // somebody has ended it, long ago
		return s, err
	}
	s.Held = h.Rest()
	if s.Accrued, err = ledger.Cost(i.Rate, i.GPUCount, min(i.RanBy(now), i.Paid)); err != nil || i.State != Running {
		return s, err
	}
	s.Until = i.Deadline()
	s.Rate, err = ledger.Cost(i.Rate, i.GPUCount, time.Hour)
	return s, err
}

// foresee warns of money that is about to end, once until there is more.
func (b *biller) foresee(now time.Time) {
	err := b.store.View(func(tx *store.Tx) error {
		live, err := everyLive(tx)
		if err != nil {
			return err
		}
		who, err := spenders(tx, live, now)
		if err != nil {
			return err
		}
		for a := range b.low {
			if _, spends := who[a]; !spends {
				delete(b.low, a)
			}
		}
		for _, a := range sortedAccounts(who) {
			o, err := outlook(tx, a, live, now)
			if err != nil {
				return err
			}
			switch low := o.Low(); {
			case !low:
				delete(b.low, a)
			case !b.low[a]:
				b.low[a] = true
				b.log.Warn("an account's money is about to end", "account", a, "burn_per_hour", o.BurnPerHour, "hours_left", o.Hours, "lasts_until", o.LastsUntil)
			}
		}
		return nil
	})
	if err != nil {
		b.log.Error("how long money lasts can't be worked out; will be tried again", "err", err)
		return
	}
	b.foreseen = now
}

// spenders are the accounts that something costs money.
func spenders(tx *store.Tx, live []Instance, now time.Time) (map[identity.AccountID]struct{}, error) {
	who := map[identity.AccountID]struct{}{}
	for _, i := range live {
		who[i.Account] = struct{}{}
	}
	ahead := now.Add(metering.CycleLength) // by then everything is due once
	cycles, err := metering.DueCycles(tx, ahead, maxForeseen)
	if err != nil {
		return nil, err
	}
	for _, id := range cycles {
		c, err := metering.GetCycle(tx, id)
		if err != nil {
			return nil, err
		}
		who[c.Account] = struct{}{}
	}
	volumes, err := metering.DueVolumes(tx, ahead, maxForeseen)
	if err != nil {
		return nil, err
	}
	for _, resource := range volumes {
		v, err := metering.GetVolume(tx, resource)
		if err != nil {
			return nil, err
		}
		who[v.Account] = struct{}{}
	}
	return who, nil
}

func sortedAccounts(m map[identity.AccountID]struct{}) []identity.AccountID {
	return slices.Sorted(maps.Keys(m))
}
