package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// A simulation drives real books, the real scheduler and its billing worker through
// weeks, from a seed, and checks after every step what must always be true. It has
// accounts with instances, cycles, volumes and API calls; every kind of end; prices
// that change; corrections; the box off, rebooted and restarted; and its clock put
// forward. In the bubble nothing puts the clock back: that part is played by rows
// that are dated ahead. Preemption is not in it yet.
//
// The same seed gives the same journal, to the hash: only one goroutine decides, and
// the machine takes a little longer for each workload than for the one before, so
// that no two things happen at the same instant.
//
// ECOLINK_SIM_SEED is a seed to run again, ECOLINK_SIM_WEEKS how long each lasts.

const simWeeks = 2

func TestWeeksOfBusinessKeepTheBooksRight(t *testing.T) {
	weeks := simWeeks
	if s := os.Getenv("ECOLINK_SIM_WEEKS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("ECOLINK_SIM_WEEKS=%s: a whole number of weeks", s)
		}
		weeks = n
	}
	seeds := []uint64{1, 2, rand.Uint64()}
	if s := os.Getenv("ECOLINK_SIM_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("ECOLINK_SIM_SEED=%s: a whole number", s)
		}
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { simulate(t, seed, weeks) })
	}
}

func TestOneSeedGivesOneJournal(t *testing.T) {
	first := simulate(t, 3, 1)
	if second := simulate(t, 3, 1); first != second {
		t.Errorf("seed 3 gave %s and then %s", first, second)
	}
}

// simulate runs a simulation and gives the hash of its journal.
func simulate(t *testing.T, seed uint64, weeks int) (hash ledger.Hash) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, seed)
		defer s.close()
		began := time.Now()
		for time.Since(began) < time.Duration(weeks)*7*24*time.Hour {
			s.step()
			s.check()
			if t.Failed() {
				t.Fatalf("seed %d, step %d, day %d, after %s", seed, s.steps, int(time.Since(began).Hours()/24), s.last)
			}
		}
		s.end()
		hash = s.report.LastHash
		t.Logf("seed %d: %d days, %d steps, %d rows to %.8s, %v", seed, int(time.Since(began).Hours()/24), s.steps, s.report.Rows, hash, s.counts)
	})
	return hash
}

// simulation is a box with several accounts, and what has been done in it.
type simulation struct {
	*box
	rand     *rand.Rand
	accounts []identity.AccountID
	keys     []identity.KeyID // of the accounts, with caps
	cycles   []*simCycle
	volumes  []*simVolume
	names    int

	steps  int
	last   string
	counts map[string]int
	report ledger.Report
}

// simCycle is what really ran of a cycle's resource.
type simCycle struct {
	id      metering.CycleID
	units   int
	since   time.Time
	ran     time.Duration // units × time until since
	stopped bool
}

// simVolume is what was really stored.
type simVolume struct {
	resource string
	account  identity.AccountID
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{box: newBox(t, 6), rand: rand.New(rand.NewPCG(seed, 0)), counts: map[string]int{}}
	s.stop()
	s.pace = pace{heartbeat: 2 * time.Hour, billing: 30 * time.Minute, placing: time.Hour}
	s.machine.set(func() { s.machine.takes = true })
	s.update(func(tx *store.Tx) error {
		if err := second(price.Set(tx, price.Drive, usd("0.31"), time.Time{}, time.Now(), "")); err != nil {
			return err
		}
		for n := range 5 {
			a := identity.AccountID(n + 1)
			if n >= 2 {
				if err := second(identity.CreateAccount(tx, fmt.Sprint("account ", a), time.Now())); err != nil {
					return err
				}
			}
			s.accounts = append(s.accounts, a)
			s.keys = append(s.keys, identity.KeyID(100+n))
			if err := errors.Join(ledger.SetKeyCap(tx, s.keys[n], usd("60"), 0, time.Now()),
				second(ledger.GiveBonus(tx, ledger.Entry{At: time.Now(), Account: a, Amount: usd("1")}))); err != nil {
				return err
			}
		}
		return nil
	})
	s.start()
	s.settle()
	return s
}

// step does one thing and lets some time pass. No two steps are at the same
// instant of a minute.
func (s *simulation) step() {
	s.steps++
	ops := []struct {
		name   string
		weight int
		do     func()
	}{
		{"launch", 20, s.launchOne}, {"extend", 8, s.extendOne}, {"terminate", 5, s.terminateOne}, {"exit", 3, s.exitOne},
		{"topup", 8, s.topUpOne}, {"correction", 5, s.correctOne}, {"api", 25, s.callAPI}, {"price", 2, s.changePrice},
		{"cycle", 4, s.startCycle}, {"units", 6, s.changeUnits}, {"stop cycle", 1, s.stopCycle},
		{"volume", 4, s.addVolume}, {"resize", 4, s.resizeVolume}, {"remove", 1, s.removeVolume},
		{"restart", 3, s.box.restart}, {"off", 2, s.switchOff}, {"reboot", 2, s.powerCut}, {"clock forward", 1, s.clockForward}, {"clock back", 1, s.clockBack},
	}
	total := 0
	for _, o := range ops {
		total += o.weight
	}
	n := s.rand.IntN(total)
	for _, o := range ops {
		if n -= o.weight; n < 0 {
			s.last = o.name
			s.counts[o.name]++
			o.do()
			break
		}
	}
	longest := []time.Duration{time.Minute, 20 * time.Minute, 3 * time.Hour}[s.rand.IntN(3)]
	time.Sleep(time.Duration(s.rand.Int64N(int64(longest))))
	s.settle()
}

// tried counts what was refused, for one of the reasons that a user is told.
func (s *simulation) tried(err error) bool {
	s.t.Helper()
	var short *ledger.InsufficientError
	var capped *ledger.CapError
	var problem *Problem
	switch {
	case err == nil:
		return true
	case errors.As(err, &short), errors.As(err, &capped), errors.As(err, &problem), errors.Is(err, metering.ErrConflict):
		s.counts["refused"]++
	default:
		s.t.Errorf("%s: %v", s.last, err)
	}
	return false
}

// someone is an account, with its key or without.
func (s *simulation) someone() (identity.AccountID, identity.KeyID) {
	n := s.rand.IntN(len(s.accounts))
	if s.rand.IntN(2) == 0 {
		return s.accounts[n], 0
	}
	return s.accounts[n], s.keys[n]
}

func (s *simulation) dollars(most int64) ledger.MicroUSD {
	return ledger.MicroUSD(1 + s.rand.Int64N(most*int64(ledger.Dollar)))
}

func (s *simulation) do(fn func(tx *store.Tx, now time.Time) error) bool {
	s.t.Helper()
	return s.tried(s.store.Update(background, func(tx *store.Tx) error { return fn(tx, time.Now()) }))
}

func (s *simulation) launchOne() {
	a, key := s.someone()
	s.names++
	r := request(fmt.Sprint("i", s.names), 1+float64(s.rand.IntN(10*3600))/3600)
	r.Account, r.APIKey, r.GPUCount = a, key, 1+s.rand.IntN(3)
	s.tried(second(s.Launch(background, r)))
}

// anInstance is one of the newest of somebody's; ok is false where there is none.
func (s *simulation) anInstance() (i Instance, ok bool) {
	a, _ := s.someone()
	list, err := s.List(a, 0, 5)
	if s.tried(err); len(list) == 0 {
		return i, false
	}
	return list[s.rand.IntN(len(list))], true
}

func (s *simulation) extendOne() {
	if i, ok := s.anInstance(); ok {
		s.tried(second(s.Extend(background, ExtendRequest{Account: i.Account, Instance: i.ID, Hours: 1 + s.rand.Float64()*5, Key: fmt.Sprint("x", s.steps)})))
	}
}

func (s *simulation) terminateOne() {
	if i, ok := s.anInstance(); ok {
		s.tried(second(s.Terminate(background, i.Account, i.ID)))
	}
}

func (s *simulation) exitOne() {
	if i, ok := s.anInstance(); ok {
		s.machine.exit(i.Workload())
	}
}

func (s *simulation) topUpOne() {
	a, _ := s.someone()
	e := ledger.Entry{Account: a, Amount: s.dollars(80), Key: fmt.Sprint("topup", s.steps)}
	for range 1 + s.rand.IntN(2) { // the second call with a key does nothing
		s.do(func(tx *store.Tx, now time.Time) error {
			e.At = now
			return second(ledger.Credit(tx, e))
		})
	}
}

func (s *simulation) correctOne() {
	a, _ := s.someone()
	amount := s.dollars(10)
	all := s.rand.IntN(4) == 0
	if s.rand.IntN(4) > 0 {
		amount = -amount
	}
	s.do(func(tx *store.Tx, now time.Time) error {
		if all { // to $0
			w, err := ledger.WalletOf(tx, a)
			if err != nil || w.Total() <= 0 {
				return err
			}
			amount = -w.Total()
		}
		return second(ledger.Correct(tx, ledger.Entry{At: now, Account: a, Amount: amount, Description: "correction", Key: fmt.Sprint("correction", s.steps)}))
	})
}

func (s *simulation) callAPI() {
	a, key := s.someone()
	amount := s.dollars(2)
	s.do(func(tx *store.Tx, now time.Time) error {
		return second(ledger.Charge(tx, ledger.APIUsage, ledger.Entry{At: now, Account: a, Amount: amount, APIKey: key, Key: fmt.Sprint("call", s.steps)}))
	})
}

func (s *simulation) changePrice() {
	amount := usd("1") + s.dollars(1)
	from := time.Now().Add(time.Duration(1 + s.rand.Int64N(int64(48*time.Hour))))
	item := []price.Item{price.GPU("h100"), price.Drive}[s.rand.IntN(2)]
	s.do(func(tx *store.Tx, now time.Time) error { return second(price.Set(tx, item, amount, from, now, "")) })
}

func (s *simulation) startCycle() {
	a, key := s.someone()
	c := &simCycle{units: s.rand.IntN(2)}
	var made metering.Cycle
	if !s.do(func(tx *store.Tx, now time.Time) (err error) {
		made, err = metering.StartCycle(tx, metering.NewCycle{
			Account: a, APIKey: key, Resource: fmt.Sprint("inference-instance/", len(s.cycles)+1), Rate: s.dollarsFor(), Reserve: 1, Units: c.units,
		}, now)
		c.since = now
		return err
	}) {
		return
	}
	c.id = made.ID
	s.cycles = append(s.cycles, c)
}

// dollarsFor is a rate, the same for all: what is refused must not change what is drawn.
func (s *simulation) dollarsFor() ledger.MicroUSD { return usd("0.731") }

func (s *simulation) aCycle() *simCycle {
	if len(s.cycles) == 0 {
		return nil
	}
	return s.cycles[s.rand.IntN(len(s.cycles))]
}

func (s *simulation) changeUnits() {
	c, units := s.aCycle(), s.rand.IntN(3)
	if c == nil || c.stopped {
		return
	}
	var now time.Time
	if s.do(func(tx *store.Tx, n time.Time) error {
		now = n
		return second(metering.SetUnits(tx, c.id, units, n, n))
	}) {
		c.count(now)
		c.units = units
	}
}

func (s *simulation) stopCycle() {
	c := s.aCycle()
	if c == nil || c.stopped {
		return
	}
	s.do(func(tx *store.Tx, now time.Time) error {
		return second(metering.StopCycle(tx, c.id, now, "user_request"))
	})
}

func (c *simCycle) count(until time.Time) {
	if c.stopped {
		return
	}
	c.ran += time.Duration(c.units) * until.Sub(c.since)
	c.since = until
}

func (s *simulation) addVolume() {
	a, _ := s.someone()
	v := &simVolume{resource: fmt.Sprint("drive/", s.steps), account: a}
	gb := 1 + s.rand.Int64N(50)
	if s.do(func(tx *store.Tx, now time.Time) error {
		return second(metering.AddVolume(tx, metering.NewVolume{Account: a, Resource: v.resource, Item: price.Drive, GB: gb}, now))
	}) {
		s.volumes = append(s.volumes, v)
	}
}

func (s *simulation) resizeVolume() {
	if len(s.volumes) > 0 {
		v, gb := s.volumes[s.rand.IntN(len(s.volumes))], 1+s.rand.Int64N(50)
		s.do(func(tx *store.Tx, now time.Time) error { return second(metering.ResizeVolume(tx, v.resource, gb, now)) })
	}
}

func (s *simulation) removeVolume() {
	if len(s.volumes) > 0 {
		n := s.rand.IntN(len(s.volumes))
		v := s.volumes[n]
		if s.do(func(tx *store.Tx, now time.Time) error { return second(metering.RemoveVolume(tx, v.resource, now)) }) {
			s.volumes = append(s.volumes[:n], s.volumes[n+1:]...)
		}
	}
}

// switchOff stops EcoLink for hours; containers go on.
func (s *simulation) switchOff() {
	s.stop()
	time.Sleep(time.Duration(s.rand.Int64N(int64(60 * time.Hour))))
	s.start()
}

// powerCut is the box without power, for a while.
func (s *simulation) powerCut() {
	s.stop()
	s.machine.reboot()
	time.Sleep(time.Duration(s.rand.Int64N(int64(10 * time.Hour))))
	s.start()
}

// clockForward puts the box's clock forward: all that runs began as much later.
func (s *simulation) clockForward() {
	d := time.Duration(s.rand.Int64N(int64(6 * time.Hour)))
	s.stop()
	time.Sleep(d)
	s.machine.set(func() {
		for _, o := range s.machine.found {
			o.StartedAt = o.StartedAt.Add(d)
		}
	})
	s.start()
}

// clockBack has a row written by a clock that was ahead. A little is let pass; with
// more nothing moves until it is accepted.
func (s *simulation) clockBack() {
	a, _ := s.someone()
	ahead := time.Duration(s.rand.Int64N(int64(2 * time.Hour)))
	s.do(func(tx *store.Tx, now time.Time) error {
		return second(ledger.Credit(tx, ledger.Entry{At: now.Add(ahead), Account: a, Amount: 1}))
	})
	err := s.store.Update(background, func(tx *store.Tx) error {
		return second(ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: a, Amount: 1}))
	})
	var clock *ledger.ClockError
	if wrong := errors.As(err, &clock); wrong != (ahead > 5*time.Minute) || !wrong && err != nil {
		s.t.Errorf("a row after one that is %s ahead: %v", ahead, err)
	}
	s.do(func(tx *store.Tx, now time.Time) error { return second(ledger.AcceptClock(tx, now)) })
}
