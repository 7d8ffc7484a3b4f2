package ledger

import (
	"context"
	"errors"
	"testing"
	"time"

	"ecolink/ledger/store"
)

// Each way of tampering with the file must show, with its checksums made anew.
func TestVerifyFindsEveryKindOfTampering(t *testing.T) {
	tamper := map[string]func(*store.Tx) error{
		"an amount":             changeRow(1, func(r *Transfer) { r.Amount++ }),
		"a description":         changeRow(2, func(r *Transfer) { r.Description = "else" }),
		"an account":            changeRow(3, func(r *Transfer) { r.Account = 2 }),
		"a removed row":         changeTail(func(rows []Transfer) []Transfer { return append(rows[:1:1], rows[2:]...) }),
		"a removed last row":    changeTail(func(rows []Transfer) []Transfer { return rows[:len(rows)-1] }),
		"a row that was put in": changeTail(func(rows []Transfer) []Transfer { return append(rows, rows[0]) }),
		"a page": func(tx *store.Tx) error {
			rec, _, err := pages.Last(tx)
			page := append([]byte{}, rec.Value...)
			page[20] ^= 1
			return errors.Join(err, pages.Put(tx, rec.Key, page))
		},
		"a removed page": func(tx *store.Tx) error { return pages.Delete(tx, 1) },
		"a total": func(tx *store.Tx) error {
			f, err := readFront(tx)
			f.totals[revenueGPU].In++
			return errors.Join(err, fronts.Put(tx, frontKey, f))
		},
		"a balance": func(tx *store.Tx) error {
			f, err := readFront(tx)
			a, w := f.hot.at(0)
			w.available++
			f.hot = append(hotWallets{}.add(a, w), f.hot[hotBytes:]...)
			return errors.Join(err, fronts.Put(tx, frontKey, f))
		},
		"a balance at rest": func(tx *store.Tx) error {
			w, _, err := wallets.Get(tx, 300)
			w.available++
			return errors.Join(err, wallets.Put(tx, 300, w))
		},
		"a hold": func(tx *store.Tx) error {
			h, err := GetHold(tx, 1)
			h.Amount++
			return errors.Join(err, holds.Put(tx, 1, h))
		},
		"money without a row": func(tx *store.Tx) error { return wallets.Put(tx, 3, wallet{available: usd("1000")}) },
		"the greatest key": func(tx *store.Tx) error {
			f, err := readFront(tx)
			f.greatest = ""
			return errors.Join(err, fronts.Put(tx, frontKey, f))
		},
		"the time of the newest row": func(tx *store.Tx) error {
			f, err := readFront(tx)
			f.at = f.at.Add(-time.Hour)
			return errors.Join(err, fronts.Put(tx, frontKey, f))
		},
		"a settled hold listed as open":      func(tx *store.Tx) error { return openHolds.Put(tx, store.Pair{A: int64(alice), B: 1}, struct{}{}) },
		"a hold listed as another account's": func(tx *store.Tx) error { return openHolds.Put(tx, store.Pair{A: int64(bob), B: 2}, struct{}{}) },
		"a standing":                         func(tx *store.Tx) error { return standings.Put(tx, alice, Standing{Depleted: true}) },
		"the numbering of holds": func(tx *store.Tx) error {
			h, err := GetHold(tx, 1)
			h.ID = 9
			return errors.Join(err, holds.Put(tx, 9, h))
		},
		"a removed hold":                  func(tx *store.Tx) error { return holds.Delete(tx, 1) },
		"an open hold taken off its list": func(tx *store.Tx) error { return openHolds.Delete(tx, store.Pair{A: int64(alice), B: 2}) },
		"an index entry":                  func(tx *store.Tx) error { return marks.Put(tx, store.Pair{A: int64(alice), B: markEvery}, 1) },
		"an idempotency key":              func(tx *store.Tx) error { return keyed.Delete(tx, keyOf(alice, "row 7")) },
	}
	for what, do := range tamper {
		t.Run(what, func(t *testing.T) {
			s := newStore(t)
			crowd(t, s)
			fill(t, s, 700)
			if r, err := verify(s); err != nil || r.Open != 1 || r.Rows != 1004 {
				t.Fatalf("%+v, %v", r, err)
			}
			update(t, s, do)
			var found *Disagreement
			if _, err := verify(s); !errors.As(err, &found) {
				t.Fatalf("not found: %v", err)
			}
		})
	}
}

// changeRow changes a row of the first page or of the tail, with its hash made anew.
func changeRow(seq int64, change func(*Transfer)) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		rec, ok, err := pages.Floor(tx, seq)
		if err != nil || !ok {
			return errors.Join(err, errNoRow)
		}
		rows, err := decodePage(rec.Value)
		change(&rows[seq-rec.Key])
		return errors.Join(err, pages.Put(tx, rec.Key, encodePage(rows)))
	}
}

func changeTail(change func([]Transfer) []Transfer) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		f, err := readFront(tx)
		if err != nil {
			return err
		}
		rows, err := decodePage(f.tail)
		f.tail = encodePage(change(rows))
		return errors.Join(err, fronts.Put(tx, frontKey, f))
	}
}

func encodePage(rows []Transfer) (page []byte) {
	var h Hash
	for n := range rows {
		row := appendRow(nil, &rows[n])
		if n == 0 {
			h = rows[n].Hash
		} else {
			h = h.sum(row)
		}
		page = appendFramed(page, row, h)
	}
	return page
}

// A disk can put a page back to an older state, checksums and all.
func TestHoldThatIsOlderThanItsRowsIsNotSettledAgain(t *testing.T) {
	s := newStore(t)
	fill(t, s, 10)
	r, err := verify(s)
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *store.Tx) error { return SetCheckpoint(tx, r, noon) })
	var old Hold
	update(t, s, func(tx *store.Tx) (err error) {
		if old, err = GetHold(tx, 2); err != nil {
			return err
		}
		if _, err = PlaceHold(tx, Entry{At: noon.Add(2 * time.Hour), Account: alice, Amount: usd("7"), Resource: "gpu-instance/3"}, HoldTerms{}); err != nil {
			return err
		}
		_, err = SettleHold(tx, 2, GPUUsage, usd("3"), Entry{At: noon.Add(2 * time.Hour)})
		return err
	})
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(holds.Put(tx, 2, old), openHolds.Put(tx, store.Pair{A: int64(alice), B: 2}, struct{}{}))
	})
	err = s.Update(context.Background(), func(tx *store.Tx) error {
		_, err := SettleHold(tx, 2, GPUUsage, usd("3"), Entry{At: noon.Add(3 * time.Hour)})
		return err
	})
	if !errors.Is(err, store.ErrDamaged) {
		t.Errorf("settled again: %v", err)
	}
	var found *Disagreement
	err = s.View(func(tx *store.Tx) error { _, err := VerifySince(tx); return err })
	if !errors.As(err, &found) {
		t.Errorf("verified since the checkpoint: %v", err)
	}
}
