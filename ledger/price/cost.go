package price

import (
	"fmt"
	"time"

	"ecolink/ledger"
)

// Price is what an item costs, and since when.
type Price struct {
	Item   Item
	Amount ledger.MicroUSD // for one of Item.Unit
	From   time.Time
}

// All of the costs below round alike: a fraction of a micro-dollar is dropped.

// Cost is what n tokens or images cost.
func (p Price) Cost(n int64) (ledger.MicroUSD, error) {
	m, err := p.measured(things)
	if err != nil {
		return 0, err
	}
	return ledger.MulDiv(p.Amount, n, m.size)
}

// CostOfTime is what units GPUs or slices cost for d each, or d of audio or video.
func (p Price) CostOfTime(units int, d time.Duration) (ledger.MicroUSD, error) {
	m, err := p.measured(timeUsed)
	if err != nil {
		return 0, err
	}
	all, err := ledger.MulDiv(p.Amount, int64(units), 1)
	if err != nil {
		return 0, err
	}
	return ledger.MulDiv(all, int64(d), m.size)
}

// CostOfStorage is what keeping gb GB costs, as StorageCost has it.
func (p Price) CostOfStorage(gb int64, from, to time.Time) (ledger.MicroUSD, error) {
	if _, err := p.measured(storageKept); err != nil {
		return 0, err
	}
	return StorageCost(p.Amount, gb, from, to)
}

// measured gives the item's measure, which must be of the dimension.
func (p Price) measured(want dimension) (measure, error) {
	m, err := p.Item.measure()
	if err == nil && m.of != want {
		err = fmt.Errorf("%s is priced %s and not by what was counted", p.Item, m.words)
	}
	return m, err
}

// StorageCost is what keeping gb GB (of 10⁹ bytes) from one instant to another
// costs. A calendar month in UTC costs exactly gb × perGBMonth, and a part of it
// its share of that month's own length.
//
// It is the difference of two running totals, each rounded down: so the costs of
// the days of a month, or of any other pieces of a span, add up to the whole's to
// the micro-dollar, and a piece may get a micro-dollar that its neighbour dropped.
func StorageCost(perGBMonth ledger.MicroUSD, gb int64, from, to time.Time) (ledger.MicroUSD, error) {
	if to.Before(from) {
		return 0, fmt.Errorf("storage from %s to %s: ends before it begins", from, to)
	}
	monthly, err := ledger.MulDiv(perGBMonth, gb, 1)
	if err != nil {
		return 0, fmt.Errorf("storage of %d GB at %s: %w", gb, perGBMonth, err)
	}
	begun, before, err := monthSoFar(monthly, from)
	if err != nil {
		return 0, err
	}
	ended, after, err := monthSoFar(monthly, to)
	if err != nil {
		return 0, err
	}
	months, err := ledger.MulDiv(monthly, ended-begun, 1)
	if err != nil {
		return 0, err
	}
	rest, err := after.Sub(before)
	if err != nil {
		return 0, err
	}
	return months.Add(rest)
}

// monthSoFar counts t's month, from whenever, and gives the cost of its part until t.
func monthSoFar(monthly ledger.MicroUSD, t time.Time) (month int64, cost ledger.MicroUSD, err error) {
	t = t.UTC()
	first := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	cost, err = ledger.MulDiv(monthly, int64(t.Sub(first)), int64(first.AddDate(0, 1, 0).Sub(first)))
	return int64(t.Year())*12 + int64(t.Month()), cost, err
}
