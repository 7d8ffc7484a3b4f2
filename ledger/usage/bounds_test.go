package usage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

func (w *world) acceptClock() {
	w.t.Helper()
	w.update(func(tx *store.Tx) error { _, err := ledger.AcceptClock(tx, w.now); return err })
}

func (w *world) check() error {
	return w.st.View(func(tx *store.Tx) error { _, err := Check(tx); return err })
}

func (w *world) series(from, to time.Time, s Step) (sum Sum, err error) {
	err = w.st.View(func(tx *store.Tx) error {
		sum = Sum{}
		points, err := Series(tx, 1, from, to, s)
		for _, p := range points {
			sum = sum.Plus(p.Sum)
		}
		return err
	})
	return sum, err
}

func TestAClockThatIsAheadForAMomentPrunesNothing(t *testing.T) {
	w := testWorld(t)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7})
	w.foldAll()
	w.must(pruneAll(t.Context(), w.st, noon.AddDate(10, 0, 0)))
	for _, s := range []Step{Hourly, Daily} {
		if sum, err := w.series(noon.AddDate(0, 0, -20), noon.Add(time.Hour), s); err != nil || sum.Amount != 7 {
			t.Errorf("by the %s: %+v, %v", s, sum, err)
		}
	}
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 8})
	w.foldAll()
	w.must(w.check())
}

func TestWhatWasPrunedByAWrongClockComesBackWhenItIsRight(t *testing.T) {
	w := testWorld(t)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7})
	w.foldAll()
	w.now = noon.Add(80 * 24 * time.Hour)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 9})
	w.foldAll()
	w.must(pruneAll(t.Context(), w.st, w.now))
	var old *RangeError
	if _, err := w.series(noon, noon.Add(time.Hour), Hourly); !errors.As(err, &old) {
		t.Fatalf("not pruned: %v", err)
	}
	w.now = noon.Add(2 * time.Hour)
	w.acceptClock()
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 10})
	w.must(pruneAll(t.Context(), w.st, w.now))
	w.foldAll()
	if sum, err := w.series(noon, noon.Add(3*time.Hour), Hourly); err != nil || sum.Amount != 17 {
		t.Fatalf("%+v, %v", sum, err)
	}
	w.must(w.check())
	// A clock that is behind for a moment makes nothing anew.
	w.must(pruneAll(t.Context(), w.st, noon.AddDate(-3, 0, 0)))
	w.view(func(tx *store.Tx) error {
		p, err := readProgress(tx)
		if p.Clearing || p.Row == 0 {
			t.Errorf("%+v", p)
		}
		return err
	})
}

func TestRebuildForgetsHowFarRecordsWerePruned(t *testing.T) {
	w := testWorld(t)
	w.update(func(tx *store.Tx) error {
		return progresses.Put(tx, progressKey, progress{HoursFrom: noon.AddDate(10, 0, 0).Unix(), DaysFrom: noon.AddDate(10, 0, 0).Unix()})
	})
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7})
	w.update(Rebuild)
	for range 2 { // at once, and folded
		if sum, err := w.series(noon.AddDate(0, 0, -20), noon.Add(time.Hour), Daily); err != nil || sum.Amount != 7 {
			t.Fatalf("%+v, %v", sum, err)
		}
		w.foldAll()
	}
}

// Whoever is overtaken must not write: its rows would be counted twice.
func TestRowsThatSomebodyElseHasFoldedAreNotCountedAgain(t *testing.T) {
	w := testWorld(t)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7})
	w.foldAll()
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 9})
	for name, overtake := range map[string]func(){
		"folded":      w.foldAll,
		"void":        func() { w.update(Rebuild) },
		"made anew":   func() { w.update(Rebuild); w.foldAll() },
		"more of it":  func() { w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 1}); w.foldAll() },
		"half folded": func() { w.update(Rebuild); w.fold(1); w.fold(3) },
	} {
		t.Run(name, func(t *testing.T) {
			w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 100})
			var p progress
			var f folding
			w.view(func(tx *store.Tx) (err error) {
				if p, err = readProgress(tx); err != nil {
					return err
				}
				if f, err = foldRows(tx, p, stepRows); err != nil {
					return err
				}
				return f.encode()
			})
			overtake()
			var now progress
			w.view(func(tx *store.Tx) (err error) { now, err = readProgress(tx); return err })
			err := w.st.Update(t.Context(), func(tx *store.Tx) error { return f.save(tx, p) })
			// Half folded, it may by chance be at p again. The records are then as they were.
			if errors.Is(err, errOvertaken) != (now != p) || now == p && err != nil {
				t.Errorf("got %v, at %+v and not %+v", err, now, p)
			}
			w.foldAll()
			w.agrees()
		})
	}
}

func TestACapBeginsWithoutLastMonthsHolds(t *testing.T) {
	w := testWorld(t)
	const key = 4
	march := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	april := march.AddDate(0, 0, 2)
	var h ledger.Hold
	w.update(func(tx *store.Tx) (err error) {
		h, err = ledger.PlaceHold(tx, ledger.Entry{At: march, Account: 1, Amount: 100, Resource: "gpu-instance/1", APIKey: key}, ledger.HoldTerms{})
		return err
	})
	w.update(func(tx *store.Tx) error {
		spent, err := AgainstCap(tx, 1, key, april)
		if err != nil || spent != 0 {
			t.Errorf("%s counts: %v", spent, err)
		}
		return ledger.SetKeyCap(tx, key, 100, spent, april)
	})
	w.update(func(tx *store.Tx) error {
		_, err := ledger.VoidHold(tx, h.ID, ledger.Entry{At: april.Add(time.Hour), Description: "refund"})
		return err
	})
	w.view(func(tx *store.Tx) error {
		c, _, err := ledger.CapOf(tx, key, april)
		if c.Spent != 0 {
			t.Errorf("%s counts", c.Spent)
		}
		return err
	})
}

// A hold that was extended with another key, or in another month, counts with what
// its own key has placed in this one.
func TestACapBeginsWithTheKeysPartOfAHold(t *testing.T) {
	w := testWorld(t)
	var h ledger.Hold
	hold := func(amount ledger.MicroUSD, key identity.KeyID, at time.Time) {
		w.update(func(tx *store.Tx) (err error) {
			e := ledger.Entry{At: at, Account: 1, Amount: amount, APIKey: key}
			if h.ID == 0 {
				h, err = ledger.PlaceHold(tx, e, ledger.HoldTerms{})
			} else {
				h, _, err = ledger.ExtendHold(tx, h.ID, e, time.Time{})
			}
			return err
		})
	}
	april := noon.AddDate(0, 1, 0)
	hold(300, 4, noon)
	hold(50, 4, april)
	hold(7, 5, april)
	w.view(func(tx *store.Tx) error {
		for key, want := range map[identity.KeyID]ledger.MicroUSD{4: 50, 5: 0} {
			if counts, err := AgainstCap(tx, 1, key, april); err != nil || counts != want {
				t.Errorf("key %d: %s counts, want %s; %v", key, counts, want, err)
			}
		}
		return nil
	})
	w.update(func(tx *store.Tx) error { // less is left than the key has placed
		var err error
		h, err = ledger.ChargeHold(tx, h.ID, ledger.GPUUsage, ledger.Entry{At: april, Amount: 340, APIKey: 4})
		if err != nil {
			return err
		}
		counts, err := AgainstCap(tx, 1, 4, april)
		if counts != 340+17 {
			t.Errorf("%s counts", counts)
		}
		return err
	})
}

func TestCheckAfterTheClockWasPutBackForManyAccounts(t *testing.T) {
	w := testWorld(t)
	const accounts = 30
	w.update(func(tx *store.Tx) error {
		for i := range accounts {
			a, err := identity.CreateAccount(tx, fmt.Sprint("x", i), noon)
			if err != nil {
				return err
			}
			if _, err := ledger.Credit(tx, ledger.Entry{At: noon, Account: a.ID, Amount: ledger.Dollar}); err != nil {
				return err
			}
		}
		return nil
	})
	round := func() {
		var all []ledger.Entry
		for i := range accounts {
			all = append(all, ledger.Entry{Account: identity.AccountID(3 + i), Amount: 1})
		}
		w.charge(ledger.APIUsage, all...)
	}
	w.now = noon.Add(48 * time.Hour)
	round()
	w.now = noon
	w.acceptClock()
	round()
	w.now = noon.Add(48 * time.Hour)
	round()
	w.foldAll()
	checked := func(limit int) (c Checked, err error) {
		err = w.st.View(func(tx *store.Tx) (err error) { c, err = check(t.Context(), tx, limit); return err })
		return c, err
	}
	for _, limit := range []int{1, 7, 1000} {
		if c, err := checked(limit); err != nil || c.Records != 5*accounts {
			t.Errorf("with room for %d: %+v, %v", limit, c, err)
		}
	}
	w.update(func(tx *store.Tx) error {
		return hours.Put(tx, placeOf(Hourly, w.now, 20).key(), tally{total: Sum{Amount: 3, Calls: 2}})
	})
	var d *Disagreement
	for _, limit := range []int{1, 7, 1000} {
		if _, err := checked(limit); !errors.As(err, &d) {
			t.Errorf("with room for %d a wrong record is not found: %v", limit, err)
		}
	}
}

func TestLongNamesAreCut(t *testing.T) {
	w := testWorld(t)
	long := strings.Repeat("ü", 60)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7, Tag: long + "a"}, ledger.Entry{Account: 1, Amount: 9, Tag: long + "b"})
	w.foldAll()
	tags := w.month(1, noon).ByTag.Shares
	if len(tags) != 1 || tags[0].Name != strings.Repeat("ü", 30)+"…" || tags[0].Amount != 16 {
		t.Errorf("%+v", tags)
	}
	if exact := strings.Repeat("x", maxNameBytes); cut(exact) != exact {
		t.Errorf("%s was cut", exact)
	}
}

// A few accounts that name each of their rows differently slow folding down for
// everybody: within bounds. The bound here is far below the 20,000 rows a second
// that it is about, so that a busy machine does not fail.
func TestAccountsWithThousandsOfNamesDoNotStopFolding(t *testing.T) {
	w := testWorld(t)
	const accounts = 30
	w.update(func(tx *store.Tx) error {
		for i := range accounts {
			a, err := identity.CreateAccount(tx, fmt.Sprint("x", i), noon)
			if err != nil {
				return err
			}
			if _, err := ledger.Credit(tx, ledger.Entry{At: noon, Account: a.ID, Amount: 1000 * ledger.Dollar}); err != nil {
				return err
			}
		}
		return nil
	})
	named := 0
	add := func(rows int) {
		w.update(func(tx *store.Tx) error {
			for i := range rows {
				long := fmt.Sprintf("%d%s", named+i, strings.Repeat("x", 240))
				e := ledger.Entry{At: noon, Account: identity.AccountID(3 + i%accounts), Amount: 1, Resource: long, Tag: long, Usage: ledger.Usage{Model: long}}
				if _, err := ledger.Charge(tx, ledger.APIUsage, e); err != nil {
					return err
				}
			}
			return nil
		})
		named += rows
	}
	add(260 * accounts)
	w.foldAll()
	add(1500)
	begun := time.Now()
	w.foldAll()
	rate := 1500 / time.Since(begun).Seconds()
	t.Logf("%.0f rows a second", rate)
	if rate < 2000 {
		t.Errorf("%.0f rows a second", rate)
	}
	w.view(func(tx *store.Tx) error {
		for _, s := range steps {
			rec, err := placeOf(s, noon, 3).read(tx)
			if raw, _ := encodeTally(rec); err != nil || len(raw) > 80_000 {
				t.Errorf("the %s's record has %d bytes, %v", s, len(raw), err)
			}
		}
		return nil
	})
}
