package metering

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// Streams are what an account's cycles and volumes spend at now, and what it owes
// already, which has no rate. Whoever runs
// something under a hold of its own, which a GPU instance is, adds that.
func Streams(tx *store.Tx, a identity.AccountID, now time.Time) (out []Stream, err error) {
	active, err := ActiveCycles(tx, a)
	if err != nil {
		return nil, err
	}
	for _, c := range active {
		s, err := c.stream(tx, now)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	stored, err := Volumes(tx, a)
	if err != nil {
		return nil, err
	}
	for _, v := range stored {
		s, err := v.stream(tx, now)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	debt, err := owed(tx, a)
	if debt > 0 {
		out = append(out, Stream{Accrued: debt})
	}
	return out, err
}

// stream has no end, since a cycle renews itself.
func (c Cycle) stream(tx *store.Tx, now time.Time) (s Stream, err error) {
	if s.Rate, err = ledger.MulDiv(c.Rate, int64(c.Units), 1); err != nil {
		return s, err
	}
	if s.Accrued, err = c.Accrued(now); err != nil {
		return s, err
	}
	s.Held, err = c.rest(tx)
	return s, err
}

// stream is what a volume costs at the price of now and the present month's
// length; nothing while it is suspended or not there yet. What has accrued is what will be charged
// for it.
func (v Volume) stream(tx *store.Tx, now time.Time) (s Stream, err error) {
	if !v.accrues() {
		return s, nil
	}
	if s.Accrued, err = v.accrued(tx, now); err != nil {
		return s, err
	}
	p, priced, err := price.At(tx, v.Item, now)
	if err != nil || !priced {
		return s, err
	}
	begun := ledger.MonthOf(now)
	end := begun.AddDate(0, 1, 0)
	month, err := p.CostOfStorage(v.GB, begun, end)
	if err != nil {
		return s, err
	}
	s.Rate, err = ledger.MulDiv(month, 1, int64(end.Sub(begun)/time.Hour))
	return s, err
}
