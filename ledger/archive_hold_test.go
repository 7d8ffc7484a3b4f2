package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecolink/ledger/store"
)

// holdBox has holds that begin and end while rows are archived.
type holdBox struct {
	t       *rapid.T
	s       *store.Store
	at      time.Time
	ids     []HoldID
	settled map[HoldID]int64 // those that ended, and their last rows
	counts  *struct{ steps, gone, kept int }
}

func (b *holdBox) do(f func(*store.Tx) error) error { return b.s.Update(context.Background(), f) }

func (b *holdBox) amount() MicroUSD { return MicroUSD(rapid.Int64Range(1, 50).Draw(b.t, "amount")) }

func (b *holdBox) some(f func(tx *store.Tx, h Hold) (Hold, error)) {
	if len(b.ids) == 0 {
		return
	}
	id := rapid.SampledFrom(b.ids).Draw(b.t, "hold")
	var h Hold
	err := b.do(func(tx *store.Tx) (err error) {
		if h, err = GetHold(tx, id); err != nil || h.Settled != nil {
			return err
		}
		h, err = f(tx, h)
		return err
	})
	var over *OverageError
	var short *InsufficientError
	switch _, ended := b.settled[id]; {
	case errors.Is(err, ErrNoHold) && ended, errors.As(err, &over), errors.As(err, &short):
	case err != nil:
		b.t.Fatal(err)
	case h.Settled != nil:
		b.settled[id] = h.LastRow
	}
}

func (b *holdBox) step() {
	b.at = b.at.Add(time.Duration(rapid.IntRange(0, 30).Draw(b.t, "hours")) * time.Hour)
	b.counts.steps++
	e := Entry{At: b.at, Account: alice, Amount: b.amount(), Resource: "x/1", Description: strings.Repeat("because ", 120)} // few of these fill a page
	switch rapid.IntRange(0, 6).Draw(b.t, "step") {
	case 0, 1:
		err := b.do(func(tx *store.Tx) error {
			h, err := PlaceHold(tx, e, HoldTerms{Overage: 20, Overdraft: 20})
			b.ids = append(b.ids, h.ID)
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
	case 2:
		b.some(func(tx *store.Tx, h Hold) (Hold, error) {
			h, _, err := ExtendHold(tx, h.ID, e, time.Time{})
			return h, err
		})
	case 3: // maybe all that there is
		b.some(func(tx *store.Tx, h Hold) (Hold, error) {
			if e.Amount = max(1, min(e.Amount, h.Rest())); rapid.Bool().Draw(b.t, "all") {
				e.Amount = max(1, h.Rest())
			}
			return ChargeHold(tx, h.ID, GPUUsage, e)
		})
	case 4:
		b.some(func(tx *store.Tx, h Hold) (Hold, error) {
			return SettleHold(tx, h.ID, GPUUsage, rapid.SampledFrom([]MicroUSD{0, h.Rest(), h.Rest() + 7}).Draw(b.t, "used"), e)
		})
	case 5:
		b.some(func(tx *store.Tx, h Hold) (Hold, error) { return VoidHold(tx, h.ID, e) })
	case 6:
		most := min(b.at.Sub(noon), later.Add(-MinArchiveAge).Sub(noon))
		before := noon.Add(time.Duration(rapid.Int64Range(0, int64(most)).Draw(b.t, "before")))
		if _, err := archiveAll(context.Background(), b.s, before); err != nil {
			b.t.Fatal(err)
		}
	}
}

// agrees checks that those holds are gone whose rows are all archived, no others,
// and that the books agree.
func (b *holdBox) agrees() {
	err := b.s.View(func(tx *store.Tx) error {
		f, err := readFront(tx)
		if err != nil {
			return err
		}
		for _, id := range b.ids {
			_, err := GetHold(tx, id)
			last, ended := b.settled[id]
			if gone := ended && last <= f.pruned; gone != errors.Is(err, ErrNoHold) {
				return fmt.Errorf("hold %d, ended %v in row %d, rows up to %d archived: %w", id, ended, last, f.pruned, err)
			} else if gone {
				b.counts.gone++
			} else {
				b.counts.kept++
			}
		}
		_, err = Verify(tx)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// checkpoint verifies since the last one, and has the next begin here.
func (b *holdBox) checkpoint() {
	err := b.do(func(tx *store.Tx) error {
		r, err := VerifySince(tx)
		if err != nil {
			return err
		}
		return SetCheckpoint(tx, r, b.at)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestHoldIsForgottenWhenItHasEndedAndItsLastRowIsArchived(t *testing.T) {
	var counts struct{ steps, gone, kept int }
	rapid.Check(t, func(r *rapid.T) {
		s, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
		if err != nil {
			r.Fatal(err)
		}
		defer s.Close()
		addAccounts(t, s)
		b := &holdBox{t: r, s: s, at: noon, settled: map[HoldID]int64{}, counts: &counts}
		err = b.do(func(tx *store.Tx) error {
			_, err := Credit(tx, Entry{At: noon, Account: alice, Amount: usd("1")})
			return err
		})
		if err != nil {
			r.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(r, "rounds") {
			for range rapid.IntRange(1, 60).Draw(r, "steps") {
				b.step()
			}
			b.agrees()
			if rapid.Bool().Draw(r, "checkpoint") {
				b.checkpoint()
			}
		}
	})
	if counts.gone == 0 || counts.kept == 0 {
		t.Error("nothing was tried")
	}
	t.Logf("%d steps; %d holds gone, %d kept", counts.steps, counts.gone, counts.kept)
}

// A hold of which all was charged long ago may end with a charge beyond it.
func TestHoldThatEndsLongAfterAllOfItWasCharged(t *testing.T) {
	for _, used := range []MicroUSD{0, 7} {
		s := newStore(t)
		var h Hold
		at := noon
		do := func(f func(tx *store.Tx) (Hold, error)) {
			t.Helper()
			update(t, s, func(tx *store.Tx) (err error) { h, err = f(tx); return err })
			at = at.Add(time.Hour)
			spend(t, s, at, 400, alternating) // so that its rows fill pages
			at = at.Add(time.Hour)
			mustArchive(t, s, at)
			if _, err := verify(s); err != nil {
				t.Fatal(err)
			}
		}
		spend(t, s, at, 1, alternating)
		do(func(tx *store.Tx) (Hold, error) {
			e := Entry{At: at, Account: alice, Amount: 10, Resource: "x/1"}
			h, err := PlaceHold(tx, e, HoldTerms{Overage: 20, Overdraft: 20})
			if err != nil {
				return h, err
			}
			return ChargeHold(tx, h.ID, GPUUsage, e)
		})
		do(func(tx *store.Tx) (Hold, error) { return SettleHold(tx, h.ID, GPUUsage, used, Entry{At: at}) })
		err := s.View(func(tx *store.Tx) error { _, err := GetHold(tx, h.ID); return err })
		if h.Settled == nil || h.Settled.Over != used || !errors.Is(err, ErrNoHold) {
			t.Errorf("%d used: %+v, %v", used, h, err)
		}
	}
}

func TestHoldThatIsForgottenTooEarlyIsFound(t *testing.T) {
	for what, finish := range map[string]func(tx *store.Tx, h Hold) error{
		"open, with money in it": func(*store.Tx, Hold) error { return nil },
		"ended by a newer row": func(tx *store.Tx, h Hold) error {
			_, err := VoidHold(tx, h.ID, Entry{At: noon.Add(time.Hour)})
			return err
		},
	} {
		s := newStore(t)
		var h Hold
		spend(t, s, noon, 1, alternating)
		update(t, s, func(tx *store.Tx) (err error) {
			h, err = PlaceHold(tx, Entry{At: noon.Add(time.Minute), Account: alice, Amount: 10, Resource: "x/1"}, HoldTerms{})
			return err
		})
		spend(t, s, noon.Add(2*time.Minute), 400, alternating)
		mustArchive(t, s, later.Add(-MinArchiveAge))
		update(t, s, func(tx *store.Tx) error { return finish(tx, h) })
		if _, err := verify(s); err != nil {
			t.Fatal(err)
		}
		update(t, s, func(tx *store.Tx) error {
			return errors.Join(holds.Delete(tx, h.ID), openHolds.Delete(tx, store.Pair{A: int64(alice), B: int64(h.ID)}))
		})
		var wrong *Disagreement
		if _, err := verify(s); !errors.As(err, &wrong) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
