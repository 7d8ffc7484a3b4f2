package usage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("20") // each makes a database on a real disk
	}
	os.Exit(m.Run())
}

// fatal is what tests and rapid's checks have in common.
type fatal interface {
	Helper()
	Fatal(...any)
}

// world is a store of two accounts with money, and what was charged there.
type world struct {
	t    fatal
	path string
	st   *store.Store
	rows []ledger.Transfer // that spend
	now  time.Time
}

func newWorld(t fatal, dir string) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(dir, "ecolink.db"), now: noon}
	w.open()
	w.update(func(tx *store.Tx) error {
		for _, name := range []string{"alice", "bob"} {
			a, err := identity.CreateAccount(tx, name, noon)
			if err != nil {
				return err
			}
			if _, err := ledger.Credit(tx, ledger.Entry{At: noon, Account: a.ID, Amount: 1_000_000 * ledger.Dollar}); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() {
	w.t.Helper()
	st, err := store.Open(w.path)
	w.must(err)
	w.st = st
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	w.must(w.st.Update(context.Background(), fn))
}

func (w *world) view(fn func(*store.Tx) error) {
	w.t.Helper()
	w.must(w.st.View(fn))
}

// charge charges entries as usage of the type.
func (w *world) charge(kind ledger.Type, entries ...ledger.Entry) {
	w.t.Helper()
	var rows []ledger.Transfer
	w.update(func(tx *store.Tx) error {
		rows = nil
		for _, e := range entries {
			e.At = w.now
			t, err := ledger.Charge(tx, kind, e)
			if err != nil {
				return err
			}
			rows = append(rows, t)
		}
		return nil
	})
	w.rows = append(w.rows, rows...)
}

// settle charges a hold in part and ends it.
func (w *world) settle(e ledger.Entry) {
	w.t.Helper()
	var rows []ledger.Transfer
	w.update(func(tx *store.Tx) error {
		rows = nil
		e.At = w.now
		used := e.Amount
		e.Amount *= 2
		usage := e.Usage
		e.Usage = ledger.Usage{}
		h, err := ledger.PlaceHold(tx, e, ledger.HoldTerms{})
		if err != nil {
			return err
		}
		if _, err := ledger.SettleHold(tx, h.ID, ledger.GPUUsage, used, ledger.Entry{At: w.now, Tag: e.Tag, Usage: usage}); err != nil {
			return err
		}
		for t, err := range ledger.Statement(tx, e.Account, 0) {
			if err != nil {
				return err
			}
			if t.Hold != h.ID {
				break
			}
			if t.Spent() > 0 {
				rows = append(rows, t)
			}
		}
		return nil
	})
	w.rows = append(w.rows, rows...)
}

func (w *world) fold(limit int) (more bool) {
	w.t.Helper()
	more, err := Fold(context.Background(), w.st, limit)
	w.must(err)
	return more
}

func (w *world) foldAll() {
	w.t.Helper()
	for w.fold(stepRows) {
	}
}

func (w *world) month(a identity.AccountID, t time.Time) (b Breakdown) {
	w.t.Helper()
	w.view(func(tx *store.Tx) (err error) { b, err = Month(tx, a, t); return err })
	return b
}

// naive is what the rows make, counted in the simplest way.
func (w *world) naive(a identity.AccountID, s Step, t time.Time) (total Sum, named [numDimensions]map[string]Sum) {
	for d := range named {
		named[d] = map[string]Sum{}
	}
	for _, row := range w.rows {
		if row.Account != a || !s.of(row.At).Equal(s.of(t)) {
			continue
		}
		sum := sumOf(row)
		total = total.Plus(sum)
		for d, name := range namesOf(row) {
			named[d][name] = named[d][name].Plus(sum)
		}
	}
	return total, named
}

// agrees compares all that can be read with the naive sums.
func (w *world) agrees() {
	w.t.Helper()
	for a := identity.AccountID(1); a <= 2; a++ {
		for _, at := range []time.Time{noon, w.now, w.now.AddDate(0, -1, 0)} {
			total, named := w.naive(a, Monthly, at)
			b := w.month(a, at)
			if b.Total != total {
				w.t.Fatal(fmt.Sprintf("account %d spent %+v in the month of %s, want %+v", a, b.Total, at, total))
			}
			for d, part := range []Part{b.ByProduct, b.ByModel, b.ByKey, b.ByTag, b.ByResource} {
				got := map[string]Sum{}
				if part.Unnamed != (Sum{}) {
					got[""] = part.Unnamed
				}
				for _, s := range part.Shares {
					got[s.Name] = s.Sum
				}
				if !reflect.DeepEqual(got, named[d]) {
					w.t.Fatal(fmt.Sprintf("account %d, dimension %d: %v, want %v", a, d, got, named[d]))
				}
			}
		}
		for _, s := range steps {
			w.view(func(tx *store.Tx) error {
				points, err := Series(tx, a, w.now.Add(-100*time.Hour), w.now.Add(time.Second), s)
				if err != nil {
					return err
				}
				for _, p := range points {
					if want, _ := w.naive(a, s, p.From); p.Sum != want {
						return fmt.Errorf("account %d, %s of %s: %+v, want %+v", a, s, p.From, p.Sum, want)
					}
				}
				return nil
			})
		}
	}
	w.view(func(tx *store.Tx) error { _, err := Check(tx); return err })
}

func entries(t *rapid.T) ledger.Entry {
	pick := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "name") }
	e := ledger.Entry{
		Account: identity.AccountID(rapid.IntRange(1, 2).Draw(t, "account")), Amount: ledger.MicroUSD(rapid.IntRange(1, 5_000_000).Draw(t, "amount")),
		Resource: pick("", "model/llama", "gpu-instance/1", "gpu-instance/2"), APIKey: identity.KeyID(rapid.IntRange(0, 3).Draw(t, "key")),
		Tag: pick("", "web", "nightly", "ü"), Usage: ledger.Usage{Model: pick("", "llama", "whisper")},
	}
	for _, n := range []*int64{&e.Usage.InputTokens, &e.Usage.OutputTokens, &e.Usage.Images, &e.Usage.AudioMillis, &e.Usage.VideoMillis, &e.Usage.Seconds, &e.Usage.Bytes} {
		*n = rapid.Int64Range(0, 1000).Draw(t, "quantity")
	}
	return e
}

// Whatever is charged, and whenever it is folded, cleared or interrupted, what is
// read is what the rows of the journal make.
func TestReadsAreExactAtAnyMoment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		w := newWorld(rt, dir)
		defer func() { w.st.Close() }()
		kinds := []ledger.Type{ledger.GPUUsage, ledger.InferenceUsage, ledger.APIUsage, ledger.StorageBilling}
		rt.Repeat(map[string]func(*rapid.T){
			"charge": func(rt *rapid.T) {
				kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
				w.charge(kind, rapid.SliceOfN(rapid.Custom(entries), 1, 4).Draw(rt, "entries")...)
			},
			"settle a hold": func(rt *rapid.T) { w.settle(entries(rt)) },
			"credit": func(rt *rapid.T) {
				w.update(func(tx *store.Tx) error {
					_, err := ledger.Credit(tx, ledger.Entry{At: w.now, Account: 1, Amount: ledger.Dollar})
					return err
				})
			},
			"time passes": func(rt *rapid.T) {
				w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 50 * time.Minute, 20 * time.Hour, 20 * 24 * time.Hour}).Draw(rt, "time"))
			},
			"the clock is put back": func(rt *rapid.T) {
				w.now = w.now.Add(-3 * time.Hour)
				w.update(func(tx *store.Tx) error { _, err := ledger.AcceptClock(tx, w.now); return err })
			},
			"fold":      func(rt *rapid.T) { w.fold(rapid.IntRange(1, 6).Draw(rt, "rows")) },
			"fold all":  func(rt *rapid.T) { w.foldAll() },
			"make anew": func(rt *rapid.T) { w.update(Rebuild) },
			"crash": func(rt *rapid.T) {
				gone, cancel := context.WithCancel(context.Background())
				cancel()
				if _, err := Fold(gone, w.st, 3); err != nil && !errors.Is(err, context.Canceled) {
					rt.Fatal(err)
				}
				w.must(w.st.Close())
				w.open()
			},
			"": func(rt *rapid.T) { w.agrees() },
		})
	})
}

func testWorld(t *testing.T) *world {
	w := newWorld(t, t.TempDir())
	t.Cleanup(func() { w.st.Close() })
	return w
}

func TestCheckFindsARecordThatIsWrong(t *testing.T) {
	w := testWorld(t)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7}, ledger.Entry{Account: 2, Amount: 8})
	w.foldAll()
	check := func() (c Checked, err error) {
		err = w.st.View(func(tx *store.Tx) (err error) { c, err = Check(tx); return err })
		return c, err
	}
	if c, err := check(); err != nil || c != (Checked{Rows: 4, Records: 6}) {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, harm := range map[string]func(*store.Tx) error{
		"another amount": func(tx *store.Tx) error {
			at := placeOf(Daily, noon, 1)
			return days.Put(tx, at.key(), tally{total: Sum{Amount: 8, Calls: 1}})
		},
		"one that is gone":     func(tx *store.Tx) error { return months.Delete(tx, placeOf(Monthly, noon, 2).key()) },
		"one too many":         func(tx *store.Tx) error { return hours.Put(tx, placeOf(Hourly, noon, 9).key(), tally{}) },
		"more rows than there": func(tx *store.Tx) error { return progresses.Put(tx, progressKey, progress{Row: 5}) },
	} {
		t.Run(name, func(t *testing.T) {
			w.update(harm)
			var d *Disagreement
			if _, err := check(); !errors.As(err, &d) {
				t.Errorf("got %v", err)
			}
			w.update(Rebuild)
			w.foldAll()
			if _, err := check(); err != nil {
				t.Errorf("after it was made anew: %v", err)
			}
		})
	}
}

func TestTheDearestNamesAreKeptAndTheOthersCounted(t *testing.T) {
	w := testWorld(t)
	const many = 1600
	var all []ledger.Entry
	for n := range many {
		e := ledger.Entry{Account: 1, Amount: ledger.MicroUSD(1 + n%100), Resource: fmt.Sprint("gpu-instance/", n), Tag: "one"}
		if n == 3 {
			e.Amount = ledger.Dollar
		}
		all = append(all, e)
	}
	w.charge(ledger.APIUsage, all...)
	want, _ := w.naive(1, Monthly, noon)
	for _, state := range []string{"unfolded", "in part", "folded"} {
		switch state {
		case "in part":
			w.fold(1500)
		case "folded":
			w.foldAll()
		}
		b := w.month(1, noon)
		sum := b.ByResource.Others.Plus(b.ByResource.Unnamed)
		for _, s := range b.ByResource.Shares {
			sum = sum.Plus(s.Sum)
		}
		if b.Total != want || sum != want || len(b.ByResource.Shares) != KeptInMonth || b.ByResource.Shares[0].Name != "gpu-instance/3" || len(b.ByTag.Shares) != 1 {
			t.Errorf("%s: %+v, want %+v; %d resources, the dearest %+v", state, sum, want, len(b.ByResource.Shares), b.ByResource.Shares[0])
		}
	}
	w.view(func(tx *store.Tx) error {
		rec, err := placeOf(Hourly, noon, 1).read(tx)
		if n := len(rec.parts[byResource].named); err == nil && n > 13 {
			t.Errorf("an hour has %d resources", n)
		}
		_, checked := Check(tx)
		return errors.Join(err, checked)
	})
}

func TestOldHoursAndDaysArePrunedAndMonthsAreNot(t *testing.T) {
	w := testWorld(t)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7})
	w.foldAll()
	w.now = noon.AddDate(3, 0, 0)
	w.update(func(tx *store.Tx) error { _, err := ledger.AcceptClock(tx, w.now); return err })
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 9})
	w.foldAll()
	w.must(pruneAll(t.Context(), w.st, w.now))
	count := func() (n int) {
		w.view(func(tx *store.Tx) error {
			for _, s := range steps {
				for range s.records().All(tx) {
					n++
				}
			}
			return nil
		})
		return n
	}
	if n := count(); n != 4 {
		t.Errorf("%d records are left", n)
	}
	if b := w.month(1, noon); b.Total.Amount != 7 {
		t.Errorf("the old month has %s", b.Total.Amount)
	}
	for _, s := range []Step{Hourly, Daily} {
		w.view(func(tx *store.Tx) error {
			var e *RangeError
			if _, err := Series(tx, 1, noon, noon.Add(time.Hour), s); !errors.As(err, &e) || e.Field != "from" {
				t.Errorf("by the %s: %v", s, err)
			}
			return nil
		})
	}
	w.update(Rebuild)
	w.foldAll()
	if n := count(); n != 4 { // none only to be pruned
		t.Errorf("%d records were made anew", n)
	}
	w.view(func(tx *store.Tx) error { _, err := Check(tx); return err })
}

func TestSeriesHasBounds(t *testing.T) {
	w := testWorld(t)
	w.view(func(tx *store.Tx) error {
		for field, ask := range map[string]func() ([]Point, error){
			"to":   func() ([]Point, error) { return Series(tx, 1, noon, noon.Add((MaxPoints+1)*time.Hour), Hourly) },
			"step": func() ([]Point, error) { return Series(tx, 1, noon, noon.Add(time.Hour), "week") },
		} {
			var e *RangeError
			if _, err := ask(); !errors.As(err, &e) || e.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		if _, err := Series(tx, 1, noon, noon, Hourly); err == nil {
			t.Error("an empty stretch is taken")
		}
		points, err := Series(tx, 1, noon.Add(time.Minute), noon.Add(2*time.Hour+time.Minute), Hourly)
		if err == nil && (len(points) != 3 || !points[0].From.Equal(noon)) {
			t.Errorf("%+v", points)
		}
		return err
	})
}

// A cap that is set in mid-month counts what the key has spent and what it holds.
func TestACapBeginsWithWhatTheKeyHasSpentAndHolds(t *testing.T) {
	w := testWorld(t)
	w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7, APIKey: 4}, ledger.Entry{Account: 1, Amount: 100, APIKey: 5})
	w.settle(ledger.Entry{Account: 1, Amount: 20, APIKey: 4})
	w.update(func(tx *store.Tx) error {
		if _, err := ledger.PlaceHold(tx, ledger.Entry{At: noon, Account: 1, Amount: 300, APIKey: 4}, ledger.HoldTerms{}); err != nil {
			return err
		}
		spent, err := SpentWithKey(tx, 1, 4, noon)
		counts, err2 := AgainstCap(tx, 1, 4, noon)
		if spent != 27 || counts != 327 {
			t.Errorf("%s is spent and %s counts", spent, counts)
		}
		return errors.Join(err, err2)
	})
}

func TestRunFoldsSoonAfterRowsAreWritten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer func() { w.st.Close() }()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- Run(ctx, w.st, slog.New(slog.DiscardHandler)) }()
		w.charge(ledger.APIUsage, ledger.Entry{Account: 1, Amount: 7})
		time.Sleep(3 * foldEvery)
		w.view(func(tx *store.Tx) error {
			p, err := readProgress(tx)
			if p.Row != 3 {
				t.Errorf("folded up to row %d", p.Row)
			}
			return err
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func FuzzDecodeTally(f *testing.F) {
	var t tally
	t.add(ledger.Transfer{Type: ledger.APIUsage, Amount: 5, Tag: "x", Resource: "y", APIKey: 3, Usage: ledger.Usage{Model: "m", InputTokens: 9}}, Hourly)
	raw, err := encodeTally(t)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, err := decodeTally(raw)
		if err != nil {
			return
		}
		again, err := encodeTally(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decodeTally(again); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v, then %+v, %v", first, second, err)
		}
	})
}
