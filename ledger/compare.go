package ledger

import (
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Here the auditor compares what the rows make with what is stored beside them.

// compareFront checks what the next row is judged by: its time must not be before
// the last row's, and its key is new only if it is not among those before.
func (a *auditor) compareFront(tx *store.Tx, f front) error {
	if a.greatest > f.greatest {
		return wrong(0, "the greatest idempotency key is stored as %q, and a row has %q", f.greatest, a.greatest)
	}
	if a.newest.IsZero() || a.newest.Equal(f.at) { // there were rows, and the last is as it should be
		return nil
	}
	at, ok, err := accepted.Get(tx, f.last)
	if err != nil {
		return unreadable(0, err)
	}
	if !ok || !at.Equal(f.at) {
		return wrong(0, "the time of the newest row is stored as %s, and it is of %s", f.at, a.newest)
	}
	return nil
}

// compareTotals checks that every row gave and took the same: money is neither
// made nor lost.
func (a *auditor) compareTotals(_ *store.Tx, f front) error {
	var sum MicroUSD
	for k := bookAvailable; k < numBooks; k++ {
		if a.totals[k] != f.totals[k] {
			return wrong(0, "%s is stored as %s in, %s out; the journal makes %s and %s",
				bookNames[k], f.totals[k].In, f.totals[k].Out, a.totals[k].In, a.totals[k].Out)
		}
		net := a.totals[k].Net()
		sum += net
		switch {
		case k.funding():
			a.report.InFlow -= net
		case k.revenue():
			a.report.Earned += net
		default:
			a.report.Holding += net
		}
	}
	if sum != 0 {
		return wrong(0, "the books add up to %s, and should to zero", sum)
	}
	return nil
}

func (a *auditor) compareWallets(tx *store.Tx, f front) error {
	if a.partial { // those that rows were written for since the checkpoint
		for account, want := range a.wallets {
			got, err := f.walletOf(tx, account)
			if err != nil {
				return unreadable(0, err)
			}
			want.in, want.out, want.rows = got.in, got.out, got.rows
			if err := compareWallet(account, got, want); err != nil {
				return err
			}
		}
		return nil
	}
	stored := 0
	each := func(account identity.AccountID, w wallet) error {
		stored++
		standing, err := StandingOf(tx, account)
		if err != nil {
			return unreadable(0, err)
		}
		if standing.Depleted != w.depleted {
			return wrong(0, "the standing of account %d is stored as depleted: %v; its wallet makes it %v", account, standing.Depleted, w.depleted)
		}
		return compareWallet(account, w, a.wallets[account])
	}
	for rec, err := range wallets.All(tx) {
		if err != nil {
			return unreadable(0, err)
		}
		if _, hot := f.hot.find(rec.Key); hot {
			continue
		}
		if err := each(rec.Key, rec.Value); err != nil {
			return err
		}
	}
	for n := range f.hot.len() {
		account, w := f.hot.at(n)
		if n > 0 && account <= f.hot.account(n-1) {
			return wrong(0, "the hot wallet of account %d stands behind that of account %d", account, f.hot.account(n-1))
		}
		if err := each(account, w); err != nil {
			return err
		}
	}
	if stored != len(a.wallets) {
		return wrong(0, "%d wallets are stored, the journal makes %d", stored, len(a.wallets))
	}
	return nil
}

func compareWallet(account identity.AccountID, got, want wallet) error {
	depleted := want.available+want.held <= 0
	want.depleted = depleted
	if got != want {
		return wrong(0, "account %d is stored with %s available, %s held, %s in, %s out, %d rows up to row %d, depleted %v; the journal makes %s, %s, %s, %s, %d, %d, %v",
			account, got.available, got.held, got.in, got.out, got.rows, got.last, got.depleted,
			want.available, want.held, want.in, want.out, want.rows, want.last, want.depleted)
	}
	if want.available+want.held != got.in-got.out {
		return wrong(0, "account %d has %s, and %s in less %s out", account, want.available+want.held, got.in, got.out)
	}
	return nil
}

// checkMark checks a row's entry in the index that statements are found by, if it
// is one of those that have one.
func (a *auditor) checkMark(tx *store.Tx, t Transfer, w wallet) error {
	if a.partial || w.rows%markEvery != 0 {
		return nil
	}
	a.marks++
	seq, _, err := marks.Get(tx, store.Pair{A: int64(t.Account), B: w.rows})
	if err != nil {
		return unreadable(t.Seq, err)
	}
	if seq != t.Seq {
		return wrong(t.Seq, "is row %d of the statement of account %d, whose index has row %d there", w.rows, t.Account, seq)
	}
	return nil
}

// compareMarks checks that the index has no more than it should.
func (a *auditor) compareMarks(tx *store.Tx, _ front) error {
	if a.partial {
		return nil
	}
	var n int64
	for _, err := range marks.All(tx) {
		if err != nil {
			return unreadable(0, err)
		}
		n++
	}
	if n != a.marks {
		return wrong(0, "the index of statements has %d entries, the journal makes %d", n, a.marks)
	}
	return nil
}

func (a *auditor) compareHolds(tx *store.Tx, _ front) error {
	if a.partial {
		return a.compareTouchedHolds(tx)
	}
	stored, newest, listedOpen := 0, HoldID(0), 0
	open := map[identity.AccountID]MicroUSD{}
	for rec, err := range holds.All(tx) {
		if err != nil {
			return unreadable(0, err)
		}
		stored++
		newest = max(newest, rec.Key)
		h, j := rec.Value, a.holds[rec.Key]
		var s Settlement
		if h.Settled != nil {
			s = *h.Settled
		} else {
			a.report.Open++
			open[h.Account] += h.Rest()
		}
		if j != (heldMoney{h.Account, h.Amount, h.Used, h.Taken, s.Refunded, s.Over, h.LastRow}) {
			return wrong(0, "hold %d of account %d is stored with %s placed, %s used, %s taken, %s refunded, %s above it, up to row %d; the journal makes %s, %s, %s, %s, %s, %d for account %d",
				rec.Key, h.Account, h.Amount, h.Used, h.Taken, s.Refunded, s.Over, h.LastRow, j.placed, j.used, j.taken, j.refunded, j.above, j.last, j.account)
		}
		if h.Settled != nil && h.Used+h.Taken+s.Refunded != h.Amount || s.Over > h.Overage || h.Settled == nil && h.Rest() < 0 {
			return wrong(0, "hold %d of %s ended with %s used, %s taken, %s refunded and %s above it", rec.Key, h.Amount, h.Used, h.Taken, s.Refunded, s.Over)
		}
		if h.Settled == nil {
			listedOpen++
		}
		if _, listed, err := openHolds.Get(tx, store.Pair{A: int64(h.Account), B: int64(h.ID)}); err != nil || listed != (h.Settled == nil) {
			return wrong(0, "hold %d is listed as open: %v; it is: %v", rec.Key, listed, h.Settled == nil)
		}
	}
	for rec, err := range openHolds.All(tx) {
		if err != nil {
			return unreadable(0, err)
		}
		if listedOpen--; listedOpen < 0 {
			return wrong(0, "hold %d of account %d is listed as open, and is not", rec.Key.B, rec.Key.A)
		}
	}
	if last, err := tx.LastID(holds.Name()); err != nil || int64(newest) > last {
		return wrong(0, "hold %d is stored, and the next one would be numbered %d (%v)", newest, last+1, err)
	}
	if stored != len(a.holds) {
		return wrong(0, "%d holds are stored, the journal makes %d", stored, len(a.holds))
	}
	for account, w := range a.wallets {
		if w.held != open[account] {
			return wrong(0, "account %d has %s held, and open holds of %s", account, w.held, open[account])
		}
	}
	return nil
}

// compareTouchedHolds checks the holds that rows are about since the checkpoint: a
// hold whose record is older than its rows would be charged again. What the rows
// before the checkpoint made of it is not known here.
func (a *auditor) compareTouchedHolds(tx *store.Tx) error {
	for id, j := range a.holds {
		h, err := GetHold(tx, id)
		if err != nil {
			return wrong(0, "hold %d can't be read, and rows are about it: %v", id, err)
		}
		var s Settlement
		if h.Settled != nil {
			s = *h.Settled
		}
		if h.Account != j.account || h.Amount < j.placed || h.Used < j.used || h.Taken < j.taken || s.Refunded < j.refunded || s.Over < j.above || h.LastRow != j.last {
			return wrong(0, "hold %d of account %d is stored with %s placed, %s used, %s taken, %s refunded, %s above it, up to row %d; the newest rows alone make %s, %s, %s, %s, %s, %d for account %d",
				id, h.Account, h.Amount, h.Used, h.Taken, s.Refunded, s.Over, h.LastRow, j.placed, j.used, j.taken, j.refunded, j.above, j.last, j.account)
		}
	}
	for account, w := range a.wallets {
		open, err := OpenHolds(tx, account)
		if err != nil {
			return unreadable(0, err)
		}
		if sum := restOf(open); sum != w.held {
			return wrong(0, "account %d has %s held, and open holds of %s", account, w.held, sum)
		}
	}
	return nil
}

func restOf(open []Hold) (sum MicroUSD) {
	for _, h := range open {
		sum += h.Rest()
	}
	return sum
}

// compareKeys checks that the second call with a key will find the first one's row.
func (a *auditor) compareKeys(tx *store.Tx, _ front) error {
	if a.partial {
		return nil
	}
	var n int64
	for rec, err := range keyed.All(tx) {
		if err != nil {
			return unreadable(0, err)
		}
		n++
		if rec.Key > a.indexed {
			return wrong(rec.Value, "has the idempotency key %q, which is beyond what the index is said to have", rec.Key)
		}
		t, err := rowAt(tx, rec.Value)
		if err != nil {
			return unreadable(rec.Value, err)
		}
		if keyOf(t.Account, t.Key) != rec.Key {
			return wrong(rec.Value, "is not the one that the idempotency key %q made", rec.Key)
		}
	}
	if n != a.keys {
		return wrong(0, "%d idempotency keys are indexed, the journal makes %d", n, a.keys)
	}
	return nil
}
