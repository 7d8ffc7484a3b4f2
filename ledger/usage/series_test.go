package usage

import (
	"testing"
	"time"

	"ecolink/ledger/store"
)

// What a series needs lies in front of a record: the names behind it are not read.
func TestASeriesReadsOnlyTotals(t *testing.T) {
	w := testWorld(t)
	want := Sum{Amount: 5, Calls: 3, GPUSeconds: 9}
	w.update(func(tx *store.Tx) error {
		raw, err := encodeTally(tally{total: want})
		if err != nil {
			return err
		}
		raw = append(raw[:len(raw):len(raw)], "nobody can read this"...)
		return daysEncoded.Put(tx, placeOf(Daily, noon, 1).key(), raw)
	})
	got, err := w.series(noon, noon.Add(time.Hour), Daily)
	if err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := totals.Encode(want); err == nil {
		t.Error("a total can be written over a record")
	}
}
