package price

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// list is a price list in a store of its own.
type list struct {
	t     testing.TB
	store *store.Store
}

func newList(t testing.TB) *list {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &list{t, st}
}

func (l *list) update(fn func(*store.Tx) error) {
	l.t.Helper()
	if err := l.store.Update(context.Background(), fn); err != nil {
		l.t.Fatal(err)
	}
}

func (l *list) view(fn func(*store.Tx) error) {
	l.t.Helper()
	if err := l.store.View(fn); err != nil {
		l.t.Fatal(err)
	}
}

func (l *list) set(i Item, amount string, from, now time.Time) {
	l.t.Helper()
	l.update(func(tx *store.Tx) error { _, err := Set(tx, i, usd(amount), from, now, ""); return err })
}

func (l *list) withdraw(i Item, from, now time.Time) {
	l.t.Helper()
	l.update(func(tx *store.Tx) error { _, err := Withdraw(tx, i, from, now); return err })
}

// wantAt checks the price at an instant; "" is none.
func (l *list) wantAt(i Item, t time.Time, want string) {
	l.t.Helper()
	l.view(func(tx *store.Tx) error {
		p, ok, err := At(tx, i, t)
		if ok != (want != "") || ok && (p.Amount != usd(want) || p.Item != i || p.From.After(t)) {
			l.t.Errorf("%s at %s is %+v, %v, want %s", i, t, p, ok, want)
		}
		return err
	})
}

// refused checks that nothing was done and which input is at fault.
func (l *list) refused(kind error, field string, fn func(*store.Tx) (Change, error)) {
	l.t.Helper()
	err := l.store.Update(context.Background(), func(tx *store.Tx) error { _, err := fn(tx); return err })
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || e.Field != field {
		l.t.Errorf("got %v, want %v in %s", err, kind, field)
	}
}

func (l *list) history(i Item) (out []string) {
	l.t.Helper()
	l.view(func(tx *store.Tx) error {
		all, err := History(tx, i)
		for _, c := range all {
			amount := "none"
			if c.Amount != nil {
				amount = c.Amount.String()
			}
			out = append(out, fmt.Sprintf("%s %s", c.From.Format(time.DateOnly), amount))
		}
		return err
	})
	return out
}

func TestPriceHoldsFromItsInstantUntilTheNext(t *testing.T) {
	l := newList(t)
	h100 := GPU("h100")
	l.wantAt(h100, day(1), "")
	l.set(h100, "1.60", time.Time{}, day(1))
	l.set(h100, "1.80", day(10), day(2))
	l.set(h100, "1.70", day(5), day(3))
	l.set(GPU("h100-x"), "9", time.Time{}, day(1))
	l.set(GPU("h10"), "8", time.Time{}, day(1))
	for d, want := range map[int]string{1: "1.60", 4: "1.60", 5: "1.70", 9: "1.70", 10: "1.80", 31: "1.80"} {
		l.wantAt(h100, day(d), want)
	}
	l.wantAt(h100, day(1).Add(-1), "")
	l.wantAt(h100, day(5).Add(-1), "1.60")
	l.wantAt(h100, day(10).In(time.FixedZone("", 5*3600)), "1.80")
	if got := fmt.Sprint(l.history(h100)); got != "[2026-12-10 1.80 2026-12-05 1.70 2026-12-01 1.60]" {
		t.Error(got)
	}
}

func TestThePastIsNeverRewritten(t *testing.T) {
	l := newList(t)
	l.set(Drive, "0.08", time.Time{}, day(1))
	l.set(Drive, "0.09", day(5), day(1))
	for _, from := range []time.Time{day(1), day(5), day(6).Add(-1), date(1, 1, 1).Add(1)} {
		l.refused(ErrInvalid, "from", func(tx *store.Tx) (Change, error) { return Set(tx, Drive, 1, from, day(6), "") })
		l.refused(ErrInvalid, "from", func(tx *store.Tx) (Change, error) { return Withdraw(tx, Drive, from, day(6)) })
	}
	l.refused(ErrConflict, "from", func(tx *store.Tx) (Change, error) { return Cancel(tx, Drive, day(5), day(6)) })
	l.refused(ErrConflict, "from", func(tx *store.Tx) (Change, error) { return Cancel(tx, Drive, day(5), day(5)) })
	l.refused(ErrInvalid, "from", func(tx *store.Tx) (Change, error) { return Set(tx, Drive, 1, day(1).AddDate(11, 0, 0), day(1), "") })
	if got := fmt.Sprint(l.history(Drive)); got != "[2026-12-05 0.09 2026-12-01 0.08]" {
		t.Error(got)
	}
}

func TestAnnouncedPriceIsReplacedAndCancelledUntilItComesIntoForce(t *testing.T) {
	l := newList(t)
	h100 := GPU("h100")
	l.set(h100, "1.60", time.Time{}, day(1))
	l.set(h100, "1.80", day(10), day(1))
	l.set(h100, "1.90", day(10), day(2))
	l.wantAt(h100, day(10), "1.90")
	l.update(func(tx *store.Tx) error {
		c, err := Cancel(tx, h100, day(10), day(3))
		if *c.Amount != usd("1.90") || !c.SetAt.Equal(day(2)) {
			t.Errorf("%+v", c)
		}
		return err
	})
	l.wantAt(h100, day(10), "1.60")
	l.refused(ErrNotFound, "from", func(tx *store.Tx) (Change, error) { return Cancel(tx, h100, day(10), day(3)) })
}

func TestWithdrawnItemHasNoPriceWhateverWasAnnounced(t *testing.T) {
	l := newList(t)
	llama := Model("meta-llama/Llama-3.1-8B", InputTokens)
	l.set(llama, "0.05", time.Time{}, day(1))
	l.set(llama, "0.04", day(5), day(1))
	l.set(llama, "0.03", day(20), day(1))
	l.withdraw(llama, day(10), day(2))
	for d, want := range map[int]string{2: "0.05", 5: "0.04", 9: "0.04", 10: "", 20: "", 31: ""} {
		l.wantAt(llama, day(d), want)
	}
	l.refused(ErrNotFound, "item", func(tx *store.Tx) (Change, error) { return Withdraw(tx, llama, day(11), day(2)) })
	l.refused(ErrNotFound, "item", func(tx *store.Tx) (Change, error) { return Withdraw(tx, GPU("v100"), time.Time{}, day(2)) })
	l.set(llama, "0.02", day(25), day(3))
	l.wantAt(llama, day(24), "")
	l.wantAt(llama, day(25), "0.02")
	l.withdraw(llama, time.Time{}, day(4))
	l.wantAt(llama, day(4), "")
	l.wantAt(llama, day(5), "")
	if got := fmt.Sprint(l.history(llama)); got != "[2026-12-04 none 2026-12-01 0.05]" {
		t.Error(got)
	}
}

func TestCurrentListsWhatHasAPriceOrWillHaveOne(t *testing.T) {
	l := newList(t)
	l.set(GPU("h100"), "1.60", time.Time{}, day(1))
	l.set(GPU("h100"), "1.70", day(3), day(1))
	l.set(GPU("h100"), "1.80", day(10), day(1))
	l.set(GPU("a100"), "0.90", day(20), day(1))
	l.set(GPU("v100"), "0.10", time.Time{}, day(1))
	l.withdraw(GPU("v100"), time.Time{}, day(2))
	l.set(Model("b", Image), "0", time.Time{}, day(1))
	l.withdraw(Model("b", Image), day(9), day(2))
	var got []string
	l.view(func(tx *store.Tx) error {
		all, err := Current(tx, day(4))
		for _, s := range all {
			line := string(s.Item)
			if s.Price != nil {
				line += fmt.Sprintf(" %s since %d", s.Price.Amount, s.Price.From.Day())
			}
			if s.Next != nil && s.Next.Amount != nil {
				line += fmt.Sprintf(", %s from %d", s.Next.Amount, s.Next.From.Day())
			} else if s.Next != nil {
				line += fmt.Sprintf(", none from %d", s.Next.From.Day())
			}
			got = append(got, line)
		}
		return err
	})
	want := []string{"gpu/a100, 0.90 from 20", "gpu/h100 1.70 since 3, 1.80 from 10", "model/b/image 0.00 since 1, none from 9"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	l.view(func(tx *store.Tx) error {
		rates, err := GPURates(tx, day(4))
		if !maps.Equal(rates, map[string]ledger.MicroUSD{"h100": usd("1.70")}) {
			t.Errorf("%v", rates)
		}
		return err
	})
}

func TestOnlyModelsAndStorageAreFree(t *testing.T) {
	l := newList(t)
	for _, i := range []Item{GPU("h100"), MIG("h100", "1g.10gb")} {
		l.refused(ErrInvalid, "amount", func(tx *store.Tx) (Change, error) { return Set(tx, i, 0, time.Time{}, day(1), "") })
	}
	for _, i := range []Item{Drive, SharedFilesystem, Model("m", OutputTokens)} {
		l.set(i, "0", time.Time{}, day(1))
		l.wantAt(i, day(1), "0")
		l.refused(ErrInvalid, "amount", func(tx *store.Tx) (Change, error) { return Set(tx, i, -1, time.Time{}, day(1), "") })
	}
}

func TestListHasLimits(t *testing.T) {
	l := newList(t)
	set := func(i Item, amount ledger.MicroUSD, from time.Time, note string) func(*store.Tx) (Change, error) {
		return func(tx *store.Tx) (Change, error) { return Set(tx, i, amount, from, day(1), note) }
	}
	l.refused(ErrInvalid, "item", set("gpu/", 1, time.Time{}, ""))
	l.refused(ErrInvalid, "amount", set(Drive, maxAmount+1, time.Time{}, ""))
	l.refused(ErrInvalid, "note", set(Drive, 1, time.Time{}, strings.Repeat("n", 501)))
	l.refused(ErrInvalid, "note", set(Drive, 1, time.Time{}, "two\nlines"))
	l.refused(ErrInvalid, "note", set(Drive, 1, time.Time{}, "\xff"))
	l.update(func(tx *store.Tx) error {
		for n := range maxAnnounced {
			if _, err := Set(tx, Drive, 1, day(2).Add(time.Duration(n)), day(1), ""); err != nil {
				return err
			}
		}
		for n := range maxItems - 1 {
			if err := changes.Put(tx, keyOf(GPU(fmt.Sprint("g", n)), day(1)), stored{Amount: new(usd("1"))}); err != nil {
				return err
			}
		}
		return nil
	})
	l.refused(ErrConflict, "from", set(Drive, 1, day(3), ""))
	l.refused(ErrConflict, "item", set(SharedFilesystem, 1, time.Time{}, ""))
	l.set(Drive, "2", day(2), day(1))           // in another's place
	l.set(Drive, "3", time.Time{}, day(1))      // now is not ahead
	l.set(GPU("g0"), "2", time.Time{}, day(31)) // known already
}

// Whatever is set, withdrawn and cancelled, what held once holds for ever.
func TestWhatHeldOnceHoldsForEver(t *testing.T) {
	l := newList(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		i := Model(fmt.Sprint("m", n), Image)
		now, seen := day(1), map[time.Time]string{}
		look := func(tx *store.Tx, at time.Time) string {
			p, ok, err := At(tx, i, at)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(p.Amount, ok)
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hours")) * time.Hour)
			from := now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "ahead")) * time.Hour)
			amount := ledger.MicroUSD(rapid.IntRange(0, 5).Draw(t, "amount"))
			op := rapid.IntRange(0, 3).Draw(t, "op")
			if err := l.store.Update(context.Background(), func(tx *store.Tx) (err error) {
				switch op {
				case 0, 1:
					_, err = Set(tx, i, amount, from, now, "")
				case 2:
					_, err = Withdraw(tx, i, from, now)
				case 3:
					_, err = Cancel(tx, i, from, now)
				}
				var told *Error
				if errors.As(err, &told) {
					err = nil
				}
				if op < 2 && err == nil && look(tx, from) != fmt.Sprint(amount, true) {
					t.Fatalf("set %s from %s, found %s", amount, from, look(tx, from))
				}
				for at, was := range seen {
					if is := look(tx, at); at.Before(now) && is != was {
						t.Fatalf("at %s it was %s and is %s", at, was, is)
					}
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if err := l.store.View(func(tx *store.Tx) error { seen[now] = look(tx, now); return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}
