package lease

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Here records become rows of the journal, inside a transaction.

// byAccount sorts records by account; those of one stay in their order.
func byAccount(records []record) (out [][]*record) {
	all := make([]*record, len(records))
	for n := range records {
		all[n] = &records[n]
	}
	slices.SortStableFunc(all, func(a, b *record) int { return cmp.Compare(a.entry.Account, b.entry.Account) })
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].entry.Account == all[0].entry.Account {
			n++
		}
		out, all = append(out, all[:n:n]), all[n:]
	}
	return out
}

// folding is what became of an account's records.
type folding struct {
	records     []*record
	lost        bool // the lease can't be read
	hold        ledger.HoldID
	money       ledger.MicroUSD // what the hold has left
	charged     ledger.MicroUSD
	short       ledger.MicroUSD // nobody was charged for this
	shorted     int             // requests that it is of
	stuck       int             // records that can't be charged
	stuckAmount ledger.MicroUSD // what they cost
	why         string          // the last of them can't
}

// foldRecords charges records, all of them in the same transaction as the last
// one's number.
func foldRecords(tx *store.Tx, records []record, epoch logID, now time.Time) ([]folding, error) {
	state, _, err := states.Get(tx, stateKey)
	if err != nil {
		return nil, err
	}
	if state.Epoch != epoch {
		return nil, ErrReplaced
	}
	for n := range records {
		if number := records[n].number; number <= state.Folded {
			return nil, fmt.Errorf("record %d of the log of charges comes after number %d, which is in the journal already: report this", number, state.Folded)
		}
		state.Folded = records[n].number
	}
	sorted := byAccount(records)
	out := make([]folding, 0, len(sorted))
	for _, records := range sorted {
		f, err := foldAccount(tx, &state, records, now)
		if err != nil {
			return nil, fmt.Errorf("charge API requests of account %d: %w", records[0].entry.Account, err)
		}
		out = append(out, f)
	}
	return out, states.Put(tx, stateKey, state)
}

// foldAccount charges an account's records to its lease. If they come to more than
// the lease has, it grows by what is available.
func foldAccount(tx *store.Tx, state *logState, records []*record, now time.Time) (f folding, err error) {
	f.records = records
	g, h, err := leaseOf(tx, records)
	if f.lost = unreadable(err); f.lost {
		g, h = granted{}, ledger.Hold{}
	} else if err != nil {
		return f, err
	}
	entries := make([]ledger.Entry, 0, len(records))
	var total ledger.MicroUSD
	for _, r := range records {
		why := ""
		switch {
		case f.lost:
			why = err.Error()
		case r.lease != g.ID:
			why = fmt.Sprintf("lease %d of the account is not in the database", r.lease)
		default:
			entries = append(entries, dated(r.entry, now))
			total += r.entry.Amount
			continue
		}
		if err := f.stick(tx, state, r, why, now); err != nil {
			return f, err
		}
	}
	if len(entries) == 0 {
		f.hold, f.money = g.Hold, h.Rest()
		return f, nil
	}
	return f, f.charge(tx, g, h, entries, total, now)
}

// leaseOf reads an account's lease, and whatever else charging it needs of the
// account: an unreadable record is to be found before anything is written.
func leaseOf(tx *store.Tx, records []*record) (g granted, h ledger.Hold, err error) {
	a := records[0].entry.Account
	g, ok, err := grants.Get(tx, a)
	if err != nil || !ok {
		return g, h, err
	}
	if h, err = ledger.GetHold(tx, g.Hold); err != nil {
		return g, h, err
	}
	if _, err := ledger.WalletOf(tx, a); err != nil {
		return g, h, err
	}
	for _, r := range records {
		if r.entry.APIKey == 0 {
			continue
		}
		if _, _, err := ledger.CapOf(tx, r.entry.APIKey, r.entry.At); err != nil {
			return g, h, err
		}
	}
	return g, h, nil
}

// charge makes the rows.
func (f *folding) charge(tx *store.Tx, g granted, h ledger.Hold, entries []ledger.Entry, total ledger.MicroUSD, now time.Time) (err error) {
	if total > h.Rest() {
		if g, h, err = cover(tx, f.records[0].entry.Account, g, h, total, now); err != nil {
			return err
		}
	}
	entries, f.short, f.shorted = cutTo(entries, h.Rest())
	f.charged = total - f.short
	if len(entries) > 0 {
		if h, err = ledger.ChargeHold(tx, g.Hold, ledger.APIUsage, entries...); err != nil {
			return err
		}
	}
	f.hold, f.money = g.Hold, h.Rest()
	if f.short == 0 {
		return nil
	}
	return f.count(tx, now)
}

// cover lets a lease grow to what is to be charged, as far as the wallet goes.
func cover(tx *store.Tx, a identity.AccountID, g granted, h ledger.Hold, total ledger.MicroUSD, now time.Time) (granted, ledger.Hold, error) {
	w, err := ledger.WalletOf(tx, a)
	if err != nil {
		return g, h, err
	}
	if more := min(total-h.Rest(), w.Available); more > 0 {
		return grow(tx, a, more, now)
	}
	return g, h, nil
}

// cutTo shortens the charges to what there is, the last ones first. short is by how
// much, and shorted of how many.
func cutTo(entries []ledger.Entry, rest ledger.MicroUSD) (_ []ledger.Entry, short ledger.MicroUSD, shorted int) {
	for n := range entries {
		e := &entries[n]
		if e.Amount <= rest {
			rest -= e.Amount
			continue
		}
		for _, beyond := range entries[n:] {
			short += beyond.Amount
		}
		short -= rest
		shorted = len(entries) - n
		if rest == 0 {
			return entries[:n], short, shorted
		}
		e.Description = fmt.Sprintf("$%s of $%s: there was no more. %s", rest, e.Amount, e.Description)
		e.Amount = rest
		return entries[:n+1], short, shorted
	}
	return entries, 0, 0
}

// count adds what nobody was charged for to the account's Unbilled.
func (f *folding) count(tx *store.Tx, now time.Time) error {
	last := f.records[len(f.records)-1].entry
	u, _, err := unbilled.Get(tx, last.Account)
	if err != nil {
		return err
	}
	u.Amount += f.short
	u.Requests += int64(f.shorted)
	u.Last, u.LastRequest = now.UTC(), last.RequestID
	return unbilled.Put(tx, last.Account, u)
}

// dated gives a row its time: the request's, unless that is long ago, because
// EcoLink was down, or to come. The journal does not go back in time.
func dated(e ledger.Entry, now time.Time) ledger.Entry {
	if e.At.After(now) || now.Sub(e.At) > time.Minute {
		e.At = now
	}
	return e
}

// apply takes over what a fold has committed. A lease that can't be read has no
// money any more: the account's requests then hear why.
func (s *Spender) apply(f *folding) {
	l, now := f.records[0].from, time.Now()
	var sum ledger.MicroUSD
	for _, r := range f.records {
		sum += r.entry.Amount
		if r.key != nil {
			r.key.folded(r.entry.Amount)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending -= sum
	l.hold, l.money = f.hold, f.money
	s.serve(l, now)
}
