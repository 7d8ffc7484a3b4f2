package ledger

import (
	"math"
	"time"

	"ecolink/ledger/store"
)

// accepted has the times that were taken as right although the newest row was
// later, or far earlier, by that row's number. Rows up to one of them and rows
// after it rise in time; all of them together need not.
var accepted = store.NewIntCollection[int64, time.Time]("ledger.clock-accepted")

// AcceptClock takes the given time as right although rows were written later, by
// a clock that was wrong, or none for very long. It changes no row: those that follow are earlier than
// those before, and the chain still tells their order. It gives the time of the
// newest row.
func AcceptClock(tx *store.Tx, now time.Time) (newest time.Time, err error) {
	b, err := batchOf(tx)
	if err != nil {
		return newest, err
	}
	newest = b.at
	if leap := now.Sub(b.at); leap < 0 || leap > ClockLeap && b.last > 0 {
		b.at, b.changed = now.UTC().Round(0), true
		return newest, accepted.Put(tx, b.last, b.at)
	}
	return newest, nil
}

// risesAfter gives a row after which rows that are not before the instant are
// followed by none that is.
func risesAfter(tx *store.Tx, until time.Time) (int64, error) {
	for rec, err := range accepted.ScanDown(tx, math.MaxInt64, 0) {
		if err != nil || rec.Value.Before(until) {
			return rec.Key, err
		}
	}
	return 0, nil
}

// RisesSince gives the row after which all rows up to the given one rise in time:
// the last at which a clock was accepted, or 0. Rows up to it may be later.
func RisesSince(tx *store.Tx, seq int64) (int64, error) {
	for rec, err := range accepted.ScanDown(tx, seq-1, 0) {
		return rec.Key, err
	}
	return 0, nil
}

// CheckClock tells whether a row could be written at the given time. It changes
// nothing. A *ClockError says that the clock is behind the newest row, or far ahead.
func CheckClock(tx *store.Tx, now time.Time) error {
	f, err := readFront(tx)
	if err != nil {
		return err
	}
	_, err = (&batch{front: f}).clock(now)
	return err
}
