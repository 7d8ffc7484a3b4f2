package metering

import (
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// Here is what the machine does with its volume, and what it knows of it.

func (m *machine) addVolume() {
	if m.stored {
		m.rt.Skip("it is there")
	}
	gb := rapid.SampledFrom([]int64{1, 10, 1000}).Draw(m.rt, "gb")
	_, err := m.add(gb)
	if err != nil && !insufficient(err) {
		m.rt.Fatal(err)
	}
	if err == nil {
		m.stored, m.suspended, m.billed, m.sizes = true, false, m.now, []since[int64]{{m.now, gb}}
	}
}

func (m *machine) needVolume() {
	if !m.stored {
		m.rt.Skip("no volume")
	}
}

func (m *machine) resize() {
	m.needVolume()
	gb := rapid.SampledFrom([]int64{1, 25, 5000}).Draw(m.rt, "gb")
	var b Bill
	err := m.update(func(tx *store.Tx) (err error) { b, err = ResizeVolume(tx, disk, gb, m.now); return err })
	if insufficient(err) && gb > last(m.sizes).what {
		return // the books and the volume are as they were
	}
	if err != nil {
		m.rt.Fatal(err)
	}
	m.charged(b)
	if day := m.day(gb); gb > last(m.sizes).what && day > 0 && m.wallet().Available < day+m.owes {
		m.rt.Fatalf("grown to %d GB with %+v and %s owed", gb, m.wallet(), m.owes)
	}
	if m.suspended { // no piece begins
		m.sizes = []since[int64]{{m.billed, gb}}
		return
	}
	from := m.now
	for _, t := range []time.Time{last(m.sizes).from, m.billed} {
		if from.Before(t) {
			from = t
		}
	}
	m.sizes = append(m.sizes, since[int64]{from, gb})
}

// day is what 24 hours from now cost.
func (m *machine) day(gb int64) ledger.MicroUSD {
	cost, err := price.StorageCost(at(m.prices, m.now), gb, m.now, m.now.Add(24*time.Hour))
	if err != nil {
		m.rt.Fatal(err)
	}
	return cost
}

func (m *machine) suspend() {
	m.needVolume()
	m.charged(m.box.billed(SuspendVolume))
	if !m.suspended {
		m.rt.Fatal("it is not suspended")
	}
}

func (m *machine) restoreVolume() {
	m.needVolume()
	v, err := m.restore()
	if err != nil && !insufficient(err) {
		m.rt.Fatal(err)
	}
	if err != nil || !m.suspended {
		return
	}
	was := m.owes
	m.owes = m.owed()
	m.out += was - m.owes
	if m.suspended = false; m.owes > 0 && m.wallet().Available > 0 {
		m.rt.Fatalf("restored with %s owed", m.owes)
	}
	if m.now.After(m.billed) {
		m.billed = m.now
	}
	if !v.BilledUntil.Equal(m.billed) {
		m.rt.Fatalf("restored as of %s, want %s", v.BilledUntil, m.billed)
	}
	m.sizes = []since[int64]{{m.billed, last(m.sizes).what}}
}

func (m *machine) remove() {
	m.needVolume()
	m.charged(m.box.billed(RemoveVolume))
	m.stored, m.suspended = false, false
}

// charged checks what was charged for days against what was stored.
func (m *machine) charged(b Bill) {
	w := m.wallet()
	m.paid(b.Debts)
	for n, d := range b.Days {
		if !d.From.Equal(m.billed) || d.To.After(midnightAfter(d.From)) {
			m.rt.Fatalf("charged %s to %s, want from %s", d.From, d.To, m.billed)
		}
		if cost := m.kept(d.From, d.To); d.Cost != cost || d.Charged+d.Owed+d.Unbilled != cost || d.Owed < 0 || d.Charged < 0 {
			m.rt.Fatalf("kept for %s: %+v", cost, d)
		}
		m.owes += d.Owed
		if d.Unbilled < 0 || d.Unbilled > 0 && (n != len(b.Days)-1 || !b.Suspended || w.Available != 0 || w.Total() > m.owes) {
			m.rt.Fatalf("%s unbilled with %+v and %s owed: %+v", d.Unbilled, w, m.owes, b)
		}
		if d.Owed > 0 && w.Available != 0 {
			m.rt.Fatalf("%s owed with %+v", d.Owed, w)
		}
		m.out += d.Charged
		m.billed = d.To
	}
	if b.Suspended {
		m.suspended = true
	}
	if b.Volume.Suspended != m.suspended {
		m.rt.Fatalf("suspended: %v, want %v", b.Volume.Suspended, m.suspended)
	}
}

// kept is what a part of a day costs, in pieces of one size each.
func (m *machine) kept(from, to time.Time) (all ledger.MicroUSD) {
	for begin := from; begin.Before(to); {
		end := to
		for _, s := range m.sizes {
			if s.from.After(begin) && s.from.Before(end) {
				end = s.from
			}
		}
		cost, err := price.StorageCost(at(m.prices, begin), at(m.sizes, begin), begin, end)
		if err != nil {
			m.rt.Fatal(err)
		}
		all += cost
		begin = end
	}
	return all
}
