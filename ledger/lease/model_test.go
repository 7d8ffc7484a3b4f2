package lease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// model says what a Spender must do, without leases, logs or a disk.
type model struct {
	money    map[identity.AccountID]ledger.MicroUSD // not spent, wherever it lies
	spent    map[identity.AccountID]ledger.MicroUSD
	unbilled map[identity.AccountID]ledger.MicroUSD
	cap      ledger.MicroUSD // of key 7; below zero: none
	byKey    ledger.MicroUSD // since it was capped
	open     []flight
	requests map[string]ledger.MicroUSD // what each was charged
}

type flight struct {
	r       *Reservation
	account identity.AccountID
	key     identity.KeyID
	need    ledger.MicroUSD
}

func (m *model) reserved(of func(flight) bool) (sum ledger.MicroUSD) {
	for _, f := range m.open {
		if of(f) {
			sum += f.need
		}
	}
	return sum
}

func TestSpenderDoesWhatTheModelDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, Config{Block: 500, MinBlock: 50, MaxBlock: 2000})
		defer func() {
			if w.Spender != nil {
				w.close()
			}
		}()
		m := &model{
			money: map[identity.AccountID]ledger.MicroUSD{}, spent: map[identity.AccountID]ledger.MicroUSD{},
			unbilled: map[identity.AccountID]ledger.MicroUSD{}, cap: -1, requests: map[string]ledger.MicroUSD{},
		}
		account := rapid.Map(rapid.IntRange(1, 2), func(n int) identity.AccountID { return identity.AccountID(n) })
		rt.Repeat(map[string]func(*rapid.T){
			"credit": func(rt *rapid.T) {
				a, amount := account.Draw(rt, "account"), ledger.MicroUSD(rapid.IntRange(1, 5000).Draw(rt, "amount"))
				w.credit(a, amount)
				m.money[a] += amount
			},
			"reserve": func(rt *rapid.T) { m.reserve(rt, w, account.Draw(rt, "account")) },
			"charge": func(rt *rapid.T) {
				if f, ok := m.take(rt); ok {
					m.charge(rt, w, f)
				}
			},
			"release": func(rt *rapid.T) {
				if f, ok := m.take(rt); ok {
					f.r.Release()
				}
			},
			"cap": func(rt *rapid.T) {
				limit := ledger.MicroUSD(rapid.IntRange(0, 3000).Draw(rt, "cap"))
				if m.cap < 0 {
					m.byKey = 0
				}
				m.cap = limit
				w.update(func(tx *store.Tx) error { return ledger.SetKeyCap(tx, 7, limit, 0, time.Now()) })
			},
			"reopen": func(rt *rapid.T) {
				m.open = nil
				w.close()
				w.open()
			},
			"": func(rt *rapid.T) { m.compare(rt, w) },
		})
		if rows := w.verify(); len(rows) != len(m.requests) {
			rt.Fatalf("%d rows, %d charges", len(rows), len(m.requests))
		} else {
			for _, row := range rows {
				if m.requests[row.RequestID] != row.Amount {
					rt.Fatalf("request %s was charged %s, not %s", row.RequestID, row.Amount, m.requests[row.RequestID])
				}
			}
		}
	})
}

func (m *model) reserve(rt *rapid.T, w *world, a identity.AccountID) {
	estimate := ledger.MicroUSD(rapid.IntRange(0, 1500).Draw(rt, "estimate"))
	key := identity.KeyID(rapid.SampledFrom([]int{0, 7}).Draw(rt, "key"))
	need := max(1, estimate)
	r, err := w.Reserve(context.Background(), a, key, estimate)
	var over *ledger.CapError
	var short *ledger.InsufficientError
	switch has := m.money[a] - m.reserved(func(f flight) bool { return f.account == a }); {
	case key == 7 && m.cap >= 0 && m.byKey+m.reserved(func(f flight) bool { return f.key == 7 })+need > m.cap:
		if !errors.As(err, &over) {
			rt.Fatalf("beyond the cap: %v", err)
		}
	case has < need:
		if !errors.As(err, &short) || short.Available != max(0, has) || short.Needed != need {
			rt.Fatalf("%s of %s: %v", need, has, err)
		}
	case err != nil:
		rt.Fatalf("%s of %s: %v", need, has, err)
	default:
		m.open = append(m.open, flight{r, a, key, need})
	}
}

// take ends a request in flight.
func (m *model) take(rt *rapid.T) (f flight, ok bool) {
	if len(m.open) == 0 {
		return f, false
	}
	n := rapid.IntRange(0, len(m.open)-1).Draw(rt, "which")
	f = m.open[n]
	m.open = append(m.open[:n:n], m.open[n+1:]...)
	return f, true
}

func (m *model) charge(rt *rapid.T, w *world, f flight) {
	cost := ledger.MicroUSD(rapid.IntRange(0, 2000).Draw(rt, "cost"))
	id := fmt.Sprint("request-", len(m.requests)+1000*len(m.open))
	for m.requests[id] != 0 {
		id += "'"
	}
	if err := f.r.Charge(charge(cost, id)); err != nil {
		rt.Fatal(err)
	}
	w.flush()
	charged := min(cost, m.money[f.account])
	m.money[f.account] -= charged
	m.spent[f.account] += charged
	m.unbilled[f.account] += cost - charged
	if f.key == 7 {
		m.byKey += charged
	}
	if charged > 0 {
		m.requests[id] = charged
	}
}

func (m *model) compare(rt *rapid.T, w *world) {
	for a := identity.AccountID(1); a <= 2; a++ {
		got := w.wallet(a)
		if got.Total() != m.money[a] || got.Out != m.spent[a] || got.In != m.money[a]+m.spent[a] || got.Available < 0 || got.Held < 0 {
			rt.Fatalf("account %d: %+v; the model has %s and spent %s", a, got, m.money[a], m.spent[a])
		}
		if u := w.unbilled(a); u.Amount != m.unbilled[a] {
			rt.Fatalf("account %d: %s unbilled, not %s", a, u.Amount, m.unbilled[a])
		}
	}
}
