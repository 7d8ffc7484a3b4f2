package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"ecolink/ledger/identity"
)

// model is the ledger as anybody would write it who need not keep it on a disk:
// plain slices and maps, and no cleverness. What it says is what the ledger must
// say; model_run_test.go plays both.
type model struct {
	at          time.Time
	rows        []Transfer
	holds       []Hold // by number, from 1
	keys        map[string]int64
	corrections map[string]correction
	caps        map[identity.KeyID]KeyCap
	accounts    map[identity.AccountID]modelAccount
	totals      map[Book]Balance
}

type modelAccount struct {
	Wallet
	rows     []int64
	standing Standing
}

func newModel(accounts int) *model {
	m := &model{
		keys: map[string]int64{}, corrections: map[string]correction{}, caps: map[identity.KeyID]KeyCap{},
		accounts: map[identity.AccountID]modelAccount{}, totals: map[Book]Balance{},
	}
	for n := range accounts {
		m.accounts[identity.AccountID(n+1)] = modelAccount{standing: Standing{Depleted: true}}
	}
	return m
}

// clone is a copy to go back to. Rows are only ever appended.
func (m *model) clone() *model {
	c := *m
	c.holds = slices.Clone(m.holds)
	c.keys, c.corrections, c.caps = maps.Clone(m.keys), maps.Clone(m.corrections), maps.Clone(m.caps)
	c.accounts, c.totals = maps.Clone(m.accounts), maps.Clone(m.totals)
	return &c
}

func modelKey(a identity.AccountID, key string) string { return fmt.Sprintf("%d %s", a, key) }

func (m *model) clock(at time.Time) error {
	if back := m.at.Sub(at); back > 5*time.Minute || -back > 92*24*time.Hour && len(m.rows) > 0 {
		return &ClockError{at, m.at}
	}
	return nil
}

func (m *model) move(e Entry, kind Type, from, to Book, hold HoldID, overdraft MicroUSD) (Transfer, error) {
	if e.Amount <= 0 {
		return Transfer{}, ErrAmount
	}
	a, known := m.accounts[e.Account]
	if !known {
		return Transfer{}, identity.ErrNotFound
	}
	if from == available(e.Account) && a.Available+overdraft < e.Amount {
		return Transfer{}, &InsufficientError{e.Amount, a.Available}
	}
	at := e.At
	if err := m.clock(at); err != nil {
		return Transfer{}, err
	}
	if at.Before(m.at) {
		at = m.at
	}
	for _, side := range []struct {
		book Book
		by   MicroUSD
	}{{from, -e.Amount}, {to, e.Amount}} {
		switch side.book {
		case available(e.Account):
			a.Available += side.by
		case held(e.Account):
			a.Held += side.by
		default:
			if side.by < 0 {
				a.In -= side.by
			} else {
				a.Out += side.by
			}
		}
		side.book.account = 0
		b := m.totals[side.book]
		b.In, b.Out = b.In+max(0, side.by), b.Out+max(0, -side.by)
		m.totals[side.book] = b
	}
	row := Transfer{
		Seq: int64(len(m.rows) + 1), At: at, Type: kind, From: from, To: to, Amount: e.Amount, Account: e.Account,
		Available: a.Available, Held: a.Held, Hold: hold, Resource: e.Resource, RequestID: e.RequestID, Key: e.Key,
		APIKey: e.APIKey, Tag: e.Tag, Usage: e.Usage, Description: e.Description,
	}
	if len(a.rows) > 0 {
		row.Before = a.rows[len(a.rows)-1]
	}
	if gone := a.Available+a.Held <= 0; len(a.rows) == 0 || gone != a.standing.Depleted {
		a.standing = Standing{gone, at}
	}
	a.rows = append(a.rows, row.Seq)
	m.rows, m.at, m.accounts[e.Account] = append(m.rows, row), at, a
	if e.Key != "" {
		m.keys[modelKey(e.Account, e.Key)] = row.Seq
	}
	return row, nil
}

// seen finds what the entry's key made before.
func (m *model) seen(e Entry, kind Type, from, to Book, hold HoldID) (Transfer, bool, error) {
	seq, ok := m.keys[modelKey(e.Account, e.Key)]
	if e.Key == "" || !ok {
		return Transfer{}, false, nil
	}
	t := m.rows[seq-1]
	if t.Type != kind || t.From != from || t.To != to || t.Amount != e.Amount || t.Resource != e.Resource || t.Usage != e.Usage ||
		t.Tag != e.Tag || t.Description != e.Description || hold != 0 && t.Hold != hold {
		return Transfer{}, false, ErrKeyReused
	}
	return t, true, nil
}

func (m *model) affordable(e Entry) error {
	if e.Amount <= 0 {
		return ErrAmount
	}
	a, known := m.accounts[e.Account]
	if !known {
		return identity.ErrNotFound
	}
	if a.Available < e.Amount {
		return &InsufficientError{e.Amount, a.Available}
	}
	if err := m.clock(e.At); err != nil {
		return err
	}
	if c, ok := m.capAt(e.APIKey, e.At); ok && c.Spent+e.Amount > c.Cap {
		return &CapError{e.APIKey, c.Cap, c.Spent, c.Month.AddDate(0, 1, 0)}
	}
	return nil
}

// capAt is a cap as it counts at the time. Its month never goes back.
func (m *model) capAt(key identity.KeyID, at time.Time) (KeyCap, bool) {
	c, ok := m.caps[key]
	if month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC); ok && month.After(c.Month) {
		c.Month, c.Spent = month, 0
	}
	return c, ok
}

func (m *model) spend(key identity.KeyID, at time.Time, amount MicroUSD) {
	if c, ok := m.capAt(key, at); ok {
		c.Spent = max(0, c.Spent+amount)
		m.caps[key] = c
	}
}

func (m *model) setCap(key identity.KeyID, limit, spent MicroUSD, now time.Time) {
	c, ok := m.caps[key]
	if !ok {
		c = KeyCap{Month: MonthOf(now), Spent: spent}
	}
	c.Cap = limit
	m.caps[key] = c
}

func (m *model) fund(kind Type, from bookKind, e Entry) (Transfer, error) {
	if t, ok, err := m.seen(e, kind, outside(from), available(e.Account), 0); ok || err != nil {
		return t, err
	}
	return m.move(e, kind, outside(from), available(e.Account), 0, 0)
}

func (m *model) charge(e Entry) (Transfer, error) {
	from, to := available(e.Account), outside(revenueAPI)
	if t, ok, err := m.seen(e, APIUsage, from, to, 0); ok || err != nil {
		return t, err
	}
	if err := m.affordable(e); err != nil {
		return Transfer{}, err
	}
	t, err := m.move(e, APIUsage, from, to, 0, 0)
	if err == nil {
		m.spend(e.APIKey, e.At, e.Amount)
	}
	return t, err
}

func (m *model) correct(e Entry) (Transfer, error) {
	if e.Description == "" {
		return Transfer{}, ErrNoReason
	}
	if e.Amount == 0 {
		return Transfer{}, ErrAmount
	}
	key := modelKey(e.Account, e.Key)
	if e.Key != "" {
		was, ok := m.corrections[key]
		if ok && was.Amount == e.Amount && was.Reason == e.Description {
			return m.rows[was.Row-1], nil
		}
		if _, used := m.keys[key]; ok || used {
			return Transfer{}, ErrKeyReused
		}
	}
	first, err := m.correctBy(e)
	if err == nil && e.Key != "" {
		m.corrections[key] = correction{first.Seq, e.Amount, e.Description}
	}
	return first, err
}

func (m *model) correctBy(e Entry) (first Transfer, err error) {
	if e.Amount > 0 {
		return m.move(e, AdminCorrection, outside(fundingCorrections), available(e.Account), 0, 0)
	}
	a, left := m.accounts[e.Account], -e.Amount
	if a.Available+a.Held < left {
		return first, &InsufficientError{left, a.Available + a.Held}
	}
	take := func(from Book, amount MicroUSD, hold HoldID) {
		if amount <= 0 || err != nil {
			return
		}
		e.Amount, left = amount, left-amount
		var t Transfer
		t, err = m.move(e, AdminCorrection, from, outside(fundingCorrections), hold, 0)
		if e.Key = ""; first.Seq == 0 {
			first = t
		}
	}
	take(available(e.Account), min(left, a.Available), 0)
	for n := len(m.holds) - 1; n >= 0 && left > 0; n-- { // the newest first
		if h := &m.holds[n]; h.Account == e.Account && h.Settled == nil {
			amount := min(left, h.Amount-h.Used-h.Taken)
			take(held(e.Account), amount, h.ID)
			if h.Taken += amount; amount > 0 {
				h.LastRow = int64(len(m.rows))
			}
		}
	}
	return first, err
}

func (m *model) placeHold(e Entry, terms HoldTerms) (Hold, error) {
	from, to := available(e.Account), held(e.Account)
	if t, ok, err := m.seen(e, HoldPlaced, from, to, 0); err != nil {
		return Hold{}, err
	} else if ok {
		return m.holds[t.Hold-1], nil
	}
	if terms.Overage < 0 || terms.Overdraft < 0 || terms.Overdraft > terms.Overage {
		return Hold{}, ErrAmount
	}
	if err := m.affordable(e); err != nil {
		return Hold{}, err
	}
	h := Hold{
		ID: HoldID(len(m.holds) + 1), Account: e.Account, Resource: e.Resource, PlacedAt: e.At, Deadline: terms.Deadline,
		Amount: e.Amount, Overage: terms.Overage, Overdraft: terms.Overdraft,
	}
	h.countKey(e)
	if _, err := m.move(e, HoldPlaced, from, to, h.ID, 0); err != nil {
		return Hold{}, err
	}
	m.spend(e.APIKey, e.At, e.Amount)
	h.LastRow = int64(len(m.rows))
	m.holds = append(m.holds, h)
	return h, nil
}

func (m *model) hold(id HoldID) (Hold, error) {
	if id < 1 || int(id) > len(m.holds) {
		return Hold{}, ErrNoHold
	}
	return m.holds[id-1], nil
}

func (m *model) openHold(id HoldID) (Hold, error) {
	h, err := m.hold(id)
	if err == nil && h.Settled != nil {
		err = ErrHoldSettled
	}
	return h, err
}

func (m *model) extendHold(id HoldID, e Entry, deadline time.Time) (Hold, error) {
	h, err := m.hold(id)
	if err != nil {
		return Hold{}, err
	}
	e.Account, e.Resource = h.Account, h.Resource
	if _, ok, err := m.seen(e, HoldPlaced, available(h.Account), held(h.Account), id); ok || err != nil {
		return h, err
	}
	if h.Settled != nil {
		return h, ErrHoldSettled
	}
	if err := m.affordable(e); err != nil {
		return h, err
	}
	if _, err := m.move(e, HoldPlaced, available(h.Account), held(h.Account), id, 0); err != nil {
		return h, err
	}
	m.spend(e.APIKey, e.At, e.Amount)
	h.Amount += e.Amount
	h.countKey(e)
	if !deadline.IsZero() {
		h.Deadline = deadline
	}
	h.LastRow = int64(len(m.rows))
	m.holds[id-1] = h
	return h, nil
}

// chargeHold charges all entries or none, less those that it charged before.
func (m *model) chargeHold(id HoldID, entries ...Entry) (Hold, error) {
	h, err := m.hold(id)
	if err != nil {
		return h, err
	}
	var left []Entry
	var sum MicroUSD
	for _, e := range entries {
		e.Account, e.Resource, e.APIKey = h.Account, cmp.Or(e.Resource, h.Resource), cmp.Or(e.APIKey, h.APIKey)
		if _, ok, err := m.seen(e, GPUUsage, held(h.Account), outside(revenueGPU), id); err != nil {
			return h, err
		} else if ok {
			continue
		}
		if e.Amount <= 0 {
			return h, ErrAmount
		}
		if e.Key != "" && slices.ContainsFunc(left, func(l Entry) bool { return l.Key == e.Key }) {
			return h, ErrKeyReused
		}
		left, sum = append(left, e), sum+e.Amount
	}
	if len(left) == 0 {
		return h, nil
	}
	if h.Settled != nil {
		return h, ErrHoldSettled
	}
	if rest := h.Amount - h.Used - h.Taken; sum > rest {
		return h, &OverageError{id, sum, rest}
	}
	for _, e := range left {
		if _, err := m.move(e, GPUUsage, held(h.Account), outside(revenueGPU), id, 0); err != nil {
			return h, err
		}
		if h.Used += e.Amount; h.APIKey == 0 {
			m.spend(e.APIKey, e.At, e.Amount)
		}
	}
	h.LastRow = int64(len(m.rows))
	m.holds[id-1] = h
	return h, nil
}

func (m *model) settleHold(id HoldID, used MicroUSD, e Entry) (Hold, error) {
	h, err := m.openHold(id)
	if err != nil {
		return h, err
	}
	if used < 0 {
		return h, ErrAmount
	}
	rest := h.Amount - h.Used - h.Taken
	if used > rest+h.Overage {
		return h, &OverageError{id, used, rest + h.Overage}
	}
	e.Account, e.Resource, e.Key, e.APIKey = h.Account, h.Resource, "", cmp.Or(e.APIKey, h.APIKey)
	beyond := max(0, used-rest)
	over := max(0, min(beyond, m.accounts[h.Account].Available+h.Overdraft))
	if e.Amount = used - beyond; e.Amount > 0 {
		if _, err := m.move(e, GPUUsage, held(h.Account), outside(revenueGPU), id, 0); err != nil {
			return h, err
		}
		h.Used, h.LastRow = h.Used+e.Amount, int64(len(m.rows))
	}
	e.Usage = Usage{}
	if e.Amount, e.Description = over, "used beyond the hold"; over > 0 {
		if _, err := m.move(e, GPUUsage, available(h.Account), outside(revenueGPU), id, h.Overdraft); err != nil {
			return h, err
		}
		m.spend(e.APIKey, e.At, over)
		h.LastRow = int64(len(m.rows))
	}
	e.Description = "unused part of the hold"
	return m.end(h, Settlement{Over: over, Unbilled: beyond - over}, e)
}

func (m *model) voidHold(id HoldID, e Entry) (Hold, error) {
	h, err := m.openHold(id)
	if err != nil {
		return h, err
	}
	e.Account, e.Resource, e.Key, e.Usage = h.Account, h.Resource, "", Usage{}
	return m.end(h, Settlement{}, e)
}

func (m *model) end(h Hold, s Settlement, e Entry) (Hold, error) {
	s.At, s.Refunded = e.At, h.Amount-h.Used-h.Taken
	if e.Amount, e.APIKey = s.Refunded, h.APIKey; s.Refunded > 0 {
		if _, err := m.move(e, Refund, held(h.Account), available(h.Account), h.ID, 0); err != nil {
			return h, err
		}
		// What was spent in an earlier month does not raise this month's cap.
		if c, ok := m.capAt(h.APIKey, e.At); ok && !c.Month.After(h.KeyMonth) {
			m.spend(h.APIKey, e.At, -min(s.Refunded, h.KeyAmount))
		}
	}
	if s.Refunded > 0 {
		h.LastRow = int64(len(m.rows))
	}
	h.Settled = &s
	m.holds[h.ID-1] = h
	return h, nil
}

func (m *model) reconcile(now time.Time, grace time.Duration) (r Reconciled, err error) {
	for _, h := range m.openHolds(0) {
		switch owners[h.Resource] {
		case OwnerGone:
			released, err := m.voidHold(h.ID, Entry{At: now, Description: fmt.Sprintf("hold %d released: %s is gone", h.ID, h.Resource)})
			if err != nil {
				return Reconciled{}, err
			}
			r.Released = append(r.Released, released)
		case OwnerUnknown:
			r.Unowned = append(r.Unowned, h)
		case OwnerLives:
			if !h.Deadline.IsZero() && now.Sub(h.Deadline) > grace {
				r.Overdue = append(r.Overdue, h)
			}
		}
	}
	return r, nil
}

// openHolds are those of an account, or of all accounts, one after the other.
func (m *model) openHolds(a identity.AccountID) (out []Hold) {
	for _, h := range m.holds {
		if h.Settled == nil && (a == 0 || h.Account == a) {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(g, h Hold) int { return cmp.Compare(g.Account, h.Account) })
	return out
}

func (m *model) acceptClock(now time.Time) time.Time {
	was := m.at
	if m.clock(now) != nil || now.Before(was) {
		m.at = now
	}
	return was
}
