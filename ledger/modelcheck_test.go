package ledger

import (
	"iter"
	"math"
	"slices"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// check compares all that can be read of the ledger with the model.
func (w *world) check(t *rapid.T) {
	must(t, w.s.View(func(tx *store.Tx) error {
		w.checkMoney(t, tx)
		w.checkHolds(t, tx)
		w.checkStatements(t, tx)
		w.checkVerify(t, tx)
		return nil
	}))
}

func (w *world) checkMoney(t *rapid.T, tx *store.Tx) {
	var gone []identity.AccountID
	for a := identity.AccountID(1); a <= 4; a++ {
		want, known := w.m.accounts[a]
		got, err := WalletOf(tx, a)
		must(t, err)
		if got != want.Wallet || got.Available+got.Held != got.In-got.Out || got.Held < 0 {
			t.Fatalf("account %d has %+v, should have %+v", a, got, want.Wallet)
		}
		standing, err := StandingOf(tx, a)
		must(t, err)
		if known && standing != want.standing {
			t.Fatalf("account %d stands %+v, should %+v", a, standing, want.standing)
		}
		if known && len(want.rows) > 0 && want.standing.Depleted {
			gone = append(gone, a)
		}
		var overdrafts MicroUSD
		for _, h := range w.m.holds {
			if h.Account == a {
				overdrafts = max(overdrafts, h.Overdraft)
			}
		}
		if got.Available < -overdrafts {
			t.Fatalf("account %d has %s, and no hold may overdraw more than %s", a, got.Available, overdrafts)
		}
	}
	if got, err := Depleted(tx, 10); err != nil || !slices.Equal(got, gone) {
		t.Fatalf("depleted are %v (%v), should be %v", got, err, gone)
	}
	for key := identity.KeyID(1); key <= 2; key++ {
		got, ok, err := CapOf(tx, key, w.now)
		want, capped := w.m.capAt(key, w.now)
		if must(t, err); ok != capped || got != want {
			t.Fatalf("cap of key %d: %+v %v, should be %+v %v", key, got, ok, want, capped)
		}
	}
	f, err := readFront(tx)
	must(t, err)
	var sum MicroUSD
	for k := bookAvailable; k < numBooks; k++ {
		if want := w.m.totals[Book{kind: k}]; f.totals[k] != want {
			t.Fatalf("%s: %+v, should be %+v", bookNames[k], f.totals[k], want)
		}
		sum += f.totals[k].Net()
	}
	if sum != 0 {
		t.Fatalf("the books add up to %s", sum)
	}
}

func (w *world) checkHolds(t *rapid.T, tx *store.Tx) {
	n := 0
	for rec, err := range holds.All(tx) {
		must(t, err)
		if n++; n > len(w.m.holds) {
			t.Fatalf("a hold too many: %+v", rec.Value)
		}
		if got, want := describe(rec.Value, nil), describe(w.m.holds[n-1], nil); got != want {
			t.Fatalf("hold %s\nshould be %s", got, want)
		}
	}
	if n != len(w.m.holds) {
		t.Fatalf("%d holds, should be %d", n, len(w.m.holds))
	}
	for a := range w.m.accounts {
		got, err := OpenHolds(tx, a)
		must(t, err)
		if want := w.m.openHolds(a); describe(got, nil) != describe(want, nil) {
			t.Fatalf("open holds of account %d: %+v, should be %+v", a, got, want)
		}
	}
}

func (w *world) checkStatements(t *rapid.T, tx *store.Tx) {
	a := identity.AccountID(rapid.IntRange(1, 4).Draw(t, "statement of"))
	before := rapid.Int64Range(0, int64(len(w.m.rows)+2)).Draw(t, "before")
	size := rapid.SampledFrom([]int{1, 7, 600}).Draw(t, "page size")
	for seq, more := before, 3; more > 0; more-- { // page after page
		got, err := collect(Statement(tx, a, seq), size)
		must(t, err)
		w.same(t, got, w.m.statement(a, seq, size, func(Transfer) bool { return true }))
		if len(got) == 0 {
			break
		}
		seq = got[len(got)-1].Seq
	}
	until := noon.Add(time.Duration(rapid.Int64Range(-100, 100).Draw(t, "until")) * 12 * time.Hour)
	if len(w.m.rows) > 0 && rapid.Bool().Draw(t, "until a row") {
		until = rapid.SampledFrom(w.m.rows).Draw(t, "row").At
	}
	got, err := collect(StatementUntil(tx, a, until), size)
	must(t, err)
	w.same(t, got, w.m.statement(a, 0, size, func(t Transfer) bool { return t.At.Before(until) }))

	newest, err := Newest(tx)
	if must(t, err); newest != int64(len(w.m.rows)) {
		t.Fatalf("newest row is %d, should be %d", newest, len(w.m.rows))
	}
	from := rapid.Int64Range(0, newest+1).Draw(t, "from")
	got, err = collect(Rows(tx, from), math.MaxInt)
	must(t, err)
	w.same(t, got, w.m.rows[min(newest, max(0, from-1)):])
}

func (w *world) same(t *rapid.T, got, want []Transfer) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, should be %d", len(got), len(want))
	}
	for n := range got {
		if got[n].Hash = (Hash{}); got[n] != want[n] {
			t.Fatalf("row %+v\nshould be %+v", got[n], want[n])
		}
	}
}

func (m *model) statement(a identity.AccountID, before int64, limit int, like func(Transfer) bool) (out []Transfer) {
	rows := m.accounts[a].rows
	for n := len(rows) - 1; n >= 0 && len(out) < limit; n-- {
		if t := m.rows[rows[n]-1]; (before <= 0 || t.Seq < before) && like(t) {
			out = append(out, t)
		}
	}
	return out
}

func (w *world) checkVerify(t *rapid.T, tx *store.Tx) {
	full, err := Verify(tx)
	must(t, err)
	since, err := VerifySince(tx)
	must(t, err)
	if full.Rows != int64(len(w.m.rows)) || since.Rows != full.Rows || since.LastHash != full.LastHash || since.totals != full.totals || full.Holding != full.InFlow-full.Earned {
		t.Fatalf("verified %+v, and since the checkpoint %+v, of %d rows", full, since, len(w.m.rows))
	}
	w.saved = append(w.saved, full, since)
	n := 0
	for _, err := range pages.All(tx) {
		must(t, err)
		n++
	}
	w.count.pages, n = max(w.count.pages, n), 0
	for _, err := range marks.All(tx) {
		must(t, err)
		n++
	}
	w.count.marks = max(w.count.marks, n)
}

// collect takes the first rows of a sequence.
func collect(rows iter.Seq2[Transfer, error], limit int) (out []Transfer, err error) {
	for t, err := range rows {
		if err != nil {
			return nil, err
		}
		if out = append(out, t); len(out) == limit {
			break
		}
	}
	return out, nil
}
