package statement

import (
	"slices"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

func TestFindGivesAllMatchesInBoundedSteps(t *testing.T) {
	st := newStore(t)
	fill(t, st, maxScan+100)
	for name, c := range map[string]struct {
		filter Filter
		match  func(ledger.Transfer) bool
	}{
		"all":     {Filter{}, func(ledger.Transfer) bool { return true }},
		"a type":  {Filter{Type: ledger.TopUp}, func(t ledger.Transfer) bool { return t.Type == ledger.TopUp }},
		"a month": {Filter{From: march, To: march.AddDate(0, 1, 0)}, func(t ledger.Transfer) bool { return !t.At.Before(march) && t.At.Before(march.AddDate(0, 1, 0)) }},
		"both":    {Filter{Type: ledger.Refund, To: march.Add(time.Minute)}, func(t ledger.Transfer) bool { return t.Type == ledger.Refund && t.At.Before(march.Add(time.Minute)) }},
	} {
		t.Run(name, func(t *testing.T) {
			var want []int64
			err := st.View(func(tx *store.Tx) error {
				for row, err := range ledger.Statement(tx, 1, 0) {
					if err != nil {
						return err
					}
					if c.match(row) {
						want = append(want, row.Seq)
					}
				}
				f, at := c.filter, 0
				for {
					rows, next, err := Find(tx, 1, f, 200)
					if err != nil {
						return err
					}
					for _, row := range rows {
						if at == len(want) || row.Seq != want[at] {
							t.Fatalf("row %d is the match number %d of %d", row.Seq, at, len(want))
						}
						at++
					}
					if next == 0 {
						break
					}
					if f.Before != 0 && next >= f.Before {
						t.Fatalf("after row %d it goes on at row %d", f.Before, next)
					}
					f.Before = next
				}
				if at != len(want) {
					t.Errorf("%d of %d were found", at, len(want))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// putBack makes rows of the days 9, 20, 5 and 11 of March, in this order: the clock
// was ahead for a while.
func putBack(t *testing.T) *store.Store {
	t.Helper()
	st := newStore(t)
	credit := func(days ...int) {
		for _, d := range days {
			update(t, st, func(tx *store.Tx) error {
				_, err := ledger.Credit(tx, ledger.Entry{At: day(d), Account: 1, Amount: ledger.MicroUSD(d)})
				return err
			})
		}
	}
	credit(9, 20)
	update(t, st, func(tx *store.Tx) error { _, err := ledger.AcceptClock(tx, day(4)); return err })
	credit(5, 11)
	return st
}

func day(n int) time.Time { return march.AddDate(0, 0, n) }

func TestFindGoesOnBelowWhereTheClockWasPutBack(t *testing.T) {
	st := putBack(t)
	for name, c := range map[string]struct {
		from, to int // days; 0: no bound
		want     []int
	}{
		"from 8 on":          {8, 0, []int{11, 20, 9}},
		"from 12 on":         {12, 0, []int{20}},
		"from 21 on":         {21, 0, nil},
		"up to 10":           {0, 10, []int{5, 9}},
		"from 6 up to 10":    {6, 10, []int{9}},
		"from 15 up to 21":   {15, 21, []int{20}},
		"from 1 up to 4":     {1, 4, nil},
		"everything":         {0, 0, []int{11, 5, 20, 9}},
		"from 5, all of it":  {5, 30, []int{11, 5, 20, 9}},
		"from 10 up to half": {10, 12, []int{11}},
	} {
		for _, limit := range []int{1, 2, 10} {
			f := Filter{}
			if c.from > 0 {
				f.From = day(c.from)
			}
			if c.to > 0 {
				f.To = day(c.to)
			}
			var got []int
			err := st.View(func(tx *store.Tx) error {
				for pages := 0; ; pages++ {
					rows, next, err := Find(tx, 1, f, limit)
					if err != nil {
						return err
					}
					for _, r := range rows {
						got = append(got, int(r.Amount))
					}
					if next == 0 {
						return nil
					}
					if f.Before != 0 && next >= f.Before || pages > 10 {
						t.Fatalf("%s: after row %d it goes on at row %d", name, f.Before, next)
					}
					f.Before = next
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, by %d: days %v, want %v", name, limit, got, c.want)
			}
		}
	}
}

// Whatever the clock did, a statement is a stretch of the journal that adds up.
func TestAStatementAddsUpWhereTheClockWasPutBack(t *testing.T) {
	st := putBack(t)
	for _, c := range []struct {
		from, to        int
		want            []int
		opening, closed ledger.MicroUSD
	}{
		{1, 30, []int{9, 20, 5, 11}, 0, 45},
		{8, 15, []int{11}, 34, 45},
		{1, 8, []int{9, 20, 5}, 0, 34},
		{15, 30, nil, 45, 45},
	} {
		s, err := Open(t.Context(), st, 1, day(c.from), day(c.to), 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		sum := s.Opening.Total
		for r, err := range s.All(t.Context(), st) {
			if err != nil {
				t.Fatal(err)
			}
			got, sum = append(got, int(r.Amount)), sum+r.Amount
		}
		if !slices.Equal(got, c.want) || s.Opening.Total != c.opening || s.Closing.Total != c.closed || sum != c.closed {
			t.Errorf("from %d to %d: %v, %+v to %+v", c.from, c.to, got, s.Opening, s.Closing)
		}
	}
}
