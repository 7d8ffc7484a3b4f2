package scheduler

import (
	"fmt"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

// check compares the books with what must always be true, and what is new in them
// with what really happened.
func (s *simulation) check() {
	s.t.Helper()
	s.update(func(tx *store.Tx) error {
		verify := ledger.VerifySince
		if s.steps%100 == 0 {
			verify = ledger.Verify
		}
		var err error
		if s.report, err = verify(tx); err != nil {
			return err
		}
		return ledger.SetCheckpoint(tx, s.report, time.Now())
	})
	s.view(func(tx *store.Tx) error {
		r, err := ledger.Reconcile(tx, time.Now(), 1<<62, owner) // would write, and fail, if it found one
		if err != nil || len(r.Released)+len(r.Unowned) > 0 {
			return fmt.Errorf("holds without an owner: %+v, %w", r, err)
		}
		if err := s.checkInstances(tx); err != nil {
			return err
		}
		if err := s.checkCycles(tx); err != nil {
			return err
		}
		return s.checkVolumes(tx)
	})
}

// checkInstances: who has no money runs nothing; a hold is open exactly while its
// instance can be billed; nobody pays for more than what ran, and a minute.
func (s *simulation) checkInstances(tx *store.Tx) error {
	overdraft := map[identity.AccountID]ledger.MicroUSD{}
	for rec, err := range instances.All(tx) {
		if err != nil {
			return err
		}
		i := rec.Value
		h, err := ledger.GetHold(tx, i.Hold)
		if err != nil {
			return err
		}
		if (h.Settled == nil) != i.billable() {
			s.t.Errorf("instance %d is %s and its hold: %+v", i.ID, i.State, h)
		}
		if h.Taken > 0 && h.Settled != nil && h.Settled.Over > 0 {
			s.t.Errorf("a correction took from the hold of instance %d, and it was charged above it: %+v", i.ID, h)
		}
		if i.State == Running && time.Since(i.Deadline()) > billedLag {
			s.t.Errorf("instance %d runs on after its time: %s", i.ID, i.Deadline())
		}
		most, err := ledger.Cost(i.Rate, i.GPUCount, min(i.Ran, i.Paid+billedLag))
		if err != nil {
			return err
		}
		if h.Charged() > most {
			s.t.Errorf("instance %d ran %s and was charged %s", i.ID, i.Ran, h.Charged())
		}
		// What the machine says that it ran. At $0 the end is not awaited.
		if real := s.machine.realTime(i.Workload()); !i.live() && i.TerminationReason != ReasonDepleted && i.Ran > real+clockStep {
			s.t.Errorf("instance %d ran %s and is billed for %s", i.ID, real, i.Ran)
		}
		if over := h.Overdraft; h.Settled != nil && h.Settled.Over > 0 {
			overdraft[i.Account] += over
		}
		st, err := ledger.StandingOf(tx, i.Account)
		if err != nil {
			return err
		}
		if st.Depleted && i.billable() {
			s.t.Errorf("instance %d is %s, and its account has no money since %s", i.ID, i.State, st.Since)
		}
	}
	for _, a := range s.accounts {
		w, err := ledger.WalletOf(tx, a)
		if err != nil {
			return err
		}
		if w.Held < 0 || w.Available < -overdraft[a] || w.Available+w.Held != w.In-w.Out {
			s.t.Errorf("account %d: %+v", a, w)
		}
	}
	return nil
}

// checkCycles: what was charged, accrued and left unbilled is what ran.
func (s *simulation) checkCycles(tx *store.Tx) error {
	now := time.Now()
	for _, c := range s.cycles {
		m, err := metering.GetCycle(tx, c.id)
		if err != nil {
			return err
		}
		if m.State == metering.Stopped {
			c.count(m.Ended)
			c.stopped = true
		} else {
			c.count(now)
			if !m.End.After(now.Add(-s.pace.billing)) {
				s.t.Errorf("the boundary of cycle %d passed at %s", m.ID, m.End)
			}
		}
		accrued, err := m.Accrued(now)
		if err != nil {
			return err
		}
		cost, err := ledger.MulDiv(m.Rate, int64(c.ran), int64(time.Hour))
		if err != nil {
			return err
		}
		// Each settlement is rounded down, by less than a micro-dollar.
		if counted := m.Charged + m.Owed + m.Unbilled + accrued; counted > cost || counted < cost-1000 {
			s.t.Errorf("cycle %d ran %s, which is $%s, and was counted as $%s: %+v", m.ID, c.ran, cost, counted, m)
		}
	}
	return nil
}

// checkVolumes: every day is charged once, in order, and none is left out unless
// the volume was suspended.
func (s *simulation) checkVolumes(tx *store.Tx) error {
	now := time.Now()
	for _, v := range s.volumes {
		m, err := metering.GetVolume(tx, v.resource)
		if err != nil {
			return err
		}
		st, err := ledger.StandingOf(tx, v.account)
		if err != nil {
			return err
		}
		switch {
		case m.Suspended:
		case st.Depleted:
			s.t.Errorf("%s is not suspended, and its account has no money", v.resource)
		case !m.Due().After(now.Add(-s.pace.billing)): // it may have been added in between
			s.t.Errorf("%s has not been charged for the day that ended at %s", v.resource, m.Due())
		}
	}
	return nil
}

// end checks the rows of storage as a whole, and all of the books.
func (s *simulation) end() {
	s.t.Helper()
	days := map[string]time.Duration{} // a volume's day → what of it was charged
	s.view(func(tx *store.Tx) error {
		clear(days)
		for t, err := range ledger.Rows(tx, 1) {
			if err != nil {
				return err
			}
			if t.Type != ledger.StorageBilling || strings.HasPrefix(t.Description, "owed ") { // which days these are for, others tell
				continue
			}
			key := t.Resource + " " + dayOf(t.Description)
			days[key] += time.Duration(t.Usage.Seconds) * time.Second
			if days[key] > 24*time.Hour {
				s.t.Errorf("%s was charged for %s", key, days[key])
			}
		}
		var err error
		s.report, err = ledger.Verify(tx)
		return err
	})
	s.counts["storage days"] = len(days)
}

// dayOf takes the date out of the description of a row of storage.
func dayOf(description string) (date string) {
	var gb int
	var day, month, year string
	fmt.Sscanf(description, "%d GB on %s %s %s", &gb, &day, &month, &year)
	return day + " " + month + " " + year
}
