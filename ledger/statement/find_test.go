package statement

import (
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
