package metering

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// machine does to a box what may happen to it in any order, and keeps by itself
// what ran and what was stored when. From that it knows what must have been
// charged.
type machine struct {
	*box
	rt     *rapid.T
	newest time.Time // the latest that the clock has been

	in, out ledger.MicroUSD // of the wallet
	owes    ledger.MicroUSD
	other   []ledger.Hold // that hold money for something else

	// The cycle.
	cycle   CycleID // 0: none is active
	rate    ledger.MicroUSD
	reserve int
	runs    []since[int] // units
	begun   time.Time    // of the present 24 hours

	// The volume.
	stored    bool
	suspended bool
	sizes     []since[int64] // GB; a piece begins at each
	prices    []since[ledger.MicroUSD]
	billed    time.Time
}

// since is what holds from an instant until the next.
type since[V any] struct {
	from time.Time
	what V
}

// at is what held at an instant.
func at[V any](all []since[V], t time.Time) (v V) {
	for _, s := range all {
		if !s.from.After(t) {
			v = s.what
		}
	}
	return v
}

func last[V any](all []since[V]) since[V] { return all[len(all)-1] }

// Whatever happens in whatever order, everything that ran or was stored is
// charged once, to the micro-dollar, as far as there is money; the books agree and
// nobody's balance is below zero.
func TestWhatRanAndWasStoredIsChargedOnceAsFarAsMoneyReaches(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{box: openBox(rt, filepath.Join(dir, "ecolink.db")), rt: rt, newest: noon}
		defer func() { m.s.Close() }()
		m.now = noon.Add(-time.Hour) // whatever the clock does, there is a price
		m.setPrice()
		m.now = noon
		m.credit()
		rt.Repeat(map[string]func(*rapid.T){
			"":              m.check,
			"time":          func(*rapid.T) { m.pass() },
			"time again":    func(*rapid.T) { m.pass() },
			"worker":        func(*rapid.T) { m.work() },
			"top up":        func(*rapid.T) { m.credit() },
			"spend":         func(*rapid.T) { m.spendSome() },
			"correct":       func(*rapid.T) { m.correctSome() },
			"hold":          func(*rapid.T) { m.holdSome() },
			"release":       func(*rapid.T) { m.release() },
			"use a hold":    func(*rapid.T) { m.use() },
			"restart":       func(*rapid.T) { m.s.Close(); m.open() },
			"price":         func(*rapid.T) { m.setPrice() },
			"start a cycle": func(*rapid.T) { m.startCycle() },
			"units":         func(*rapid.T) { m.changeUnits() },
			"stop a cycle":  func(*rapid.T) { m.stopCycle() },
			"add a volume":  func(*rapid.T) { m.addVolume() },
			"resize":        func(*rapid.T) { m.resize() },
			"suspend":       func(*rapid.T) { m.suspend() },
			"restore":       func(*rapid.T) { m.restoreVolume() },
			"remove":        func(*rapid.T) { m.remove() },
		})
	})
}

// pass moves the clock: mostly on, by seconds to weeks, sometimes back a little.
func (m *machine) pass() {
	step := rapid.SampledFrom([]time.Duration{-time.Minute, time.Nanosecond, time.Second, 17 * time.Minute, time.Hour, 7 * time.Hour, 24 * time.Hour, 9 * 24 * time.Hour, 21 * 24 * time.Hour}).Draw(m.rt, "step")
	m.now = m.now.Add(step * time.Duration(rapid.IntRange(1, 3).Draw(m.rt, "times")))
	if floor := m.newest.Add(-4 * time.Minute); m.now.Before(floor) { // farther back the ledger refuses to go
		m.now = floor
	}
	if m.now.After(m.newest) {
		m.newest = m.now
	}
	// After weeks without a row, somebody has to say that the clock is right.
	m.must(func(tx *store.Tx) error { return second(ledger.AcceptClock(tx, m.newest)) })
}

func second[T any](_ T, err error) error { return err }

func (m *machine) amount() ledger.MicroUSD {
	return rapid.OneOf(rapid.Custom(func(t *rapid.T) ledger.MicroUSD {
		return ledger.MicroUSD(rapid.Int64Range(1, 100).Draw(t, "micro-dollars"))
	}), rapid.Custom(func(t *rapid.T) ledger.MicroUSD {
		return ledger.MicroUSD(rapid.Int64Range(1, 300_000_000).Draw(t, "amount"))
	})).Draw(m.rt, "amount")
}

func (m *machine) credit() {
	a := m.amount()
	m.topUp(a)
	m.in += a
}

func (m *machine) spendSome() {
	have := m.wallet().Available
	if have == 0 {
		m.rt.Skip("nothing to spend")
	}
	a := min(m.amount(), have)
	m.spend(a)
	m.out += a
}

func (m *machine) correctSome() {
	a := min(m.amount(), m.wallet().Total())
	if a == 0 {
		m.rt.Skip("nothing to take")
	}
	if err := m.correct(-a); err != nil {
		m.rt.Fatal(err)
	}
	m.out += a
}

// holdSome sets money aside for something else, often all.
func (m *machine) holdSome() {
	have := m.wallet().Available
	if have == 0 || len(m.other) == 3 {
		m.rt.Skip("nothing to hold")
	}
	a := have
	if rapid.Bool().Draw(m.rt, "a part") {
		a = min(m.amount(), have)
	}
	m.other = append(m.other, m.hold(a))
}

func (m *machine) takeHold() ledger.Hold {
	if len(m.other) == 0 {
		m.rt.Skip("nothing is held")
	}
	h := m.other[0]
	m.other = m.other[1:]
	return h
}

func (m *machine) release() { m.free(m.takeHold()) }

// use has something else spend a hold.
func (m *machine) use() {
	h := m.takeHold()
	m.must(func(tx *store.Tx) (err error) {
		if h, err = ledger.GetHold(tx, h.ID); err == nil { // a correction may have taken from it
			_, err = ledger.SettleHold(tx, h.ID, ledger.GPUUsage, h.Rest(), ledger.Entry{At: m.now})
		}
		return err
	})
	m.out += h.Rest()
}

// paid follows what a call did about debts.
func (m *machine) paid(p Payment) {
	if p.Paid < 0 || p.Forgiven < 0 || p.Forgiven > 0 && m.wallet().Total() > 0 {
		m.rt.Fatalf("%+v with %+v", p, m.wallet())
	}
	m.out += p.Paid
	m.owes -= p.Paid + p.Forgiven
}

func (m *machine) setPrice() {
	if m.now.Before(m.newest) && len(m.prices) > 0 {
		m.rt.Skip("the past has its prices")
	}
	p := ledger.MicroUSD(rapid.SampledFrom([]int64{0, 1, 29, 100_000, 1_234_567}).Draw(m.rt, "price"))
	m.price(price.Drive, p)
	m.prices = append(m.prices, since[ledger.MicroUSD]{m.now, p})
}

// work is what the billing worker does.
func (m *machine) work() {
	var ids []CycleID
	var resources []string
	m.view(func(tx *store.Tx) (err error) {
		if ids, err = DueCycles(tx, m.now, 10); err != nil {
			return err
		}
		resources, err = DueVolumes(tx, m.now, 10)
		return err
	})
	if due := m.cycle != 0 && !m.begun.Add(CycleLength).After(m.now); due != (len(ids) == 1) {
		m.rt.Fatalf("cycle is due: %v; listed: %v", due, ids)
	}
	if due := m.stored && !m.suspended && !midnightAfter(m.billed).After(m.now); due != (len(resources) == 1) {
		m.rt.Fatalf("volume is due: %v; listed: %v", due, resources)
	}
	for _, id := range ids {
		m.settled(m.advance(id))
	}
	for range resources {
		m.charged(m.box.billed(BillStorage))
	}
	m.paid(m.pay())
	if w := m.wallet(); m.owes > 0 && w.Available > 0 || m.debtors() != 0 {
		m.rt.Fatalf("%s is owed, with %+v", m.owes, w)
	}
}

func (m *machine) startCycle() {
	if m.cycle != 0 {
		m.rt.Skip("it runs")
	}
	n := NewCycle{Account: alice, Resource: llama, Rate: ledger.MicroUSD(rapid.SampledFrom([]int64{1, 7, 999_999, 1_600_000}).Draw(m.rt, "rate"))}
	n.Reserve, n.Units = rapid.IntRange(0, 3).Draw(m.rt, "reserve"), rapid.IntRange(0, 3).Draw(m.rt, "units")
	var c Cycle
	err := m.update(func(tx *store.Tx) (err error) { c, err = StartCycle(tx, n, m.now); return err })
	need := n.Rate * ledger.MicroUSD(24*max(n.Reserve, n.Units))
	if enough := m.wallet().Available+m.heldBy(c) >= max(1, need)+m.owes; err != nil && !insufficient(err) || enough != (err == nil) {
		m.rt.Fatalf("a cycle of %s with %s available: %v", need, m.wallet().Available, err)
	}
	if err != nil {
		return
	}
	if held := m.heldBy(c); held != need {
		m.rt.Fatalf("%s held, want %s", held, need)
	}
	m.cycle, m.rate, m.reserve, m.begun, m.runs = c.ID, n.Rate, n.Reserve, m.now, []since[int]{{m.now, n.Units}}
}

func (m *machine) heldBy(c Cycle) (rest ledger.MicroUSD) {
	m.view(func(tx *store.Tx) (err error) { rest, err = c.rest(tx); return err })
	return rest
}

func (m *machine) changeUnits() {
	if m.cycle == 0 {
		m.rt.Skip("nothing runs")
	}
	units := rapid.IntRange(0, 4).Draw(m.rt, "units")
	from := m.now.Add(-rapid.SampledFrom([]time.Duration{0, 0, -time.Hour, time.Minute, 5 * time.Hour, 60 * time.Hour}).Draw(m.rt, "late"))
	o := m.outcome(func(tx *store.Tx) (Outcome, error) { return SetUnits(tx, m.cycle, units, from, m.now) })
	if m.settled(o); m.cycle == 0 {
		return
	}
	if from.After(m.now) {
		from = m.now
	}
	for _, t := range []time.Time{last(m.runs).from, m.begun} {
		if from.Before(t) {
			from = t
		}
	}
	m.runs = append(m.runs, since[int]{from, units})
	end := m.begun.Add(CycleLength)
	need, held := m.cost(m.ran(m.begun, end)), m.heldBy(o.Cycle)
	switch {
	case units == 0 && !o.Partial, held >= need && !o.Partial:
	case held >= need || !o.Partial || m.wallet().Available != 0:
		m.rt.Fatalf("%s is needed, %s held, %s available: %+v", need, held, m.wallet().Available, o)
	default: // to the micro-dollar
		used, before := m.cost(m.ran(m.begun, o.Cycle.Covered)), m.cost(m.ran(m.begun, from))
		if used > max(held, before) || used+1 < held {
			m.rt.Fatalf("covered until %s, when %s of %s is used", o.Cycle.Covered, used, held)
		}
	}
}

func (m *machine) stopCycle() {
	if m.cycle == 0 {
		m.rt.Skip("nothing runs")
	}
	o := m.stop(m.cycle)
	if m.settled(o); m.cycle != 0 || !o.Stopped {
		m.rt.Fatalf("it goes on: %+v", o)
	}
}

// ran is for how long units ran, all together.
func (m *machine) ran(from, to time.Time) (all time.Duration) {
	for n, r := range m.runs {
		begin, end := r.from, to
		if n+1 < len(m.runs) && m.runs[n+1].from.Before(to) {
			end = m.runs[n+1].from
		}
		if begin.Before(from) {
			begin = from
		}
		all += time.Duration(r.what) * max(0, end.Sub(begin))
	}
	return all
}

func (m *machine) cost(ran time.Duration) ledger.MicroUSD {
	c, err := ledger.MulDiv(m.rate, int64(ran), int64(time.Hour))
	if err != nil {
		m.rt.Fatal(err)
	}
	return c
}

// settled checks what was settled against what ran.
func (m *machine) settled(o Outcome) {
	w := m.wallet()
	for n, s := range o.Settled {
		whole := s.To.Equal(m.begun.Add(CycleLength))
		if !s.From.Equal(m.begun) || !whole && !o.Stopped {
			m.rt.Fatalf("settled %s to %s, want from %s", s.From, s.To, m.begun)
		}
		if ran := m.ran(s.From, s.To); s.UnitTime != ran || s.Used != m.cost(ran) || s.Charged+s.Owed+s.Unbilled != s.Used || s.Owed < 0 || s.Charged < 0 {
			m.rt.Fatalf("ran %s for %s: %+v", ran, m.cost(ran), s)
		}
		if s.Unbilled < 0 || s.Unbilled > 0 && (n != len(o.Settled)-1 || !o.Stopped || w.Available != 0) {
			m.rt.Fatalf("%s unbilled with %+v: %+v", s.Unbilled, w, o)
		}
		m.out += s.Charged
		m.owes += s.Owed
		m.begun = s.To
	}
	if m.paid(o.Debts); o.Stopped && o.Cycle.Unbilled > 0 && w.Total() > m.owes {
		m.rt.Fatalf("%s unbilled with %+v, of which %s is owed", o.Cycle.Unbilled, w, m.owes)
	}
	if o.Stopped {
		if depleted := o.Cycle.Reason == CreditDepleted; depleted && w.Total() > m.owes {
			m.rt.Fatalf("stopped with %+v and %s owed", w, m.owes)
		}
		m.cycle = 0
		return
	}
	if len(o.Settled) > 0 && o.Cycle.Reserve >= o.Cycle.Units {
		if held, full := m.heldBy(o.Cycle), m.rate*ledger.MicroUSD(24*m.reserve); held < full && w.Available != 0 {
			m.rt.Fatalf("%s of %s held with %s available", held, full, w.Available)
		}
	}
}

func (m *machine) check(*rapid.T) {
	m.verify()
	w := m.wallet()
	if w.Available < 0 || w.In != m.in || w.Out != m.out {
		m.rt.Fatalf("%+v, want %s in and %s out", w, m.in, m.out)
	}
	if owes := m.owed(); owes != m.owes {
		m.rt.Fatalf("%s is owed, want %s", owes, m.owes)
	}
	m.view(func(tx *store.Tx) error {
		active, err := ActiveCycles(tx, alice)
		if err != nil || len(active) != map[bool]int{false: 0, true: 1}[m.cycle != 0] {
			return errors.Join(err, fmt.Errorf("active: %v, want %d", active, m.cycle))
		}
		for _, c := range active {
			if c.Covered.After(c.End) || c.Covered.Before(c.Begun) {
				return fmt.Errorf("covered until %s: %+v", c.Covered, c)
			}
		}
		if len(active) == 0 && len(m.other) == 0 && w.Held != 0 {
			return fmt.Errorf("%s is held for nothing", w.Held)
		}
		all, err := Volumes(tx, alice)
		if err != nil || len(all) != map[bool]int{false: 0, true: 1}[m.stored] {
			return errors.Join(err, fmt.Errorf("volumes: %v", all))
		}
		off, err := SuspendedVolumes(tx, alice)
		if err != nil || len(off) != map[bool]int{false: 0, true: 1}[m.stored && m.suspended] {
			return errors.Join(err, fmt.Errorf("suspended: %v", off))
		}
		return nil
	})
}
