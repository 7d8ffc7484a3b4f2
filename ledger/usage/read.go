package usage

import (
	"fmt"
	"strconv"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Share is what was spent under one name of a dimension.
type Share struct {
	Name string `json:"name"`
	Sum
}

// Part is an account's spending in a month by the names of one dimension.
type Part struct {
	Shares []Share // the dearest first; a month has KeptInMonth at most, and 500 keys
	// Others is what was spent under names that were too many to be kept apart.
	Others Sum
	// Unnamed is what the dimension says nothing of: a charge that came with no
	// API key, no tag, no model.
	Unnamed Sum
}

// Breakdown is an account's spending in a calendar month, UTC. In each part,
// shares, others and what is unnamed add up to the total.
type Breakdown struct {
	Month      time.Time // when it began
	Total      Sum
	ByProduct  Part // row types: api_usage, gpu_usage, …
	ByModel    Part
	ByKey      Part // API keys' numbers
	ByTag      Part
	ByResource Part // gpu-instance/142
}

// Product is what was spent on a type of usage.
func (b Breakdown) Product(t ledger.Type) Sum {
	for _, s := range b.ByProduct.Shares {
		if s.Name == string(t) {
			return s.Sum
		}
	}
	return Sum{}
}

// Month breaks down what an account spent in the month that t lies in, exactly as
// it stands at the transaction's moment, rows of the transaction itself included.
// It reads one record, and the account's rows that are not in it yet.
func Month(tx *store.Tx, a identity.AccountID, t time.Time) (Breakdown, error) {
	total, err := month(tx, a, t)
	if err != nil {
		return Breakdown{}, err
	}
	b := Breakdown{Month: Monthly.of(t), Total: total.total}
	for d, out := range [numDimensions]*Part{&b.ByProduct, &b.ByModel, &b.ByKey, &b.ByTag, &b.ByResource} {
		*out = total.part(dimension(d))
	}
	return b, nil
}

func (t *tally) part(d dimension) Part {
	p := &t.parts[d]
	out := Part{Shares: p.sorted(), Others: p.others, Unnamed: t.total.minus(p.others)}
	if kept := Monthly.kept(d); len(out.Shares) > kept {
		for _, s := range out.Shares[kept:] {
			out.Others = out.Others.Plus(s.Sum)
			out.Unnamed = out.Unnamed.minus(s.Sum)
		}
		out.Shares = out.Shares[:kept]
	}
	for _, s := range out.Shares {
		out.Unnamed = out.Unnamed.minus(s.Sum)
	}
	return out
}

// SpentWithKey is what was spent with an API key in the month that t lies in.
// Where an account spent with more keys in a month than are kept apart, it may
// leave out what was spent with the cheapest of them.
func SpentWithKey(tx *store.Tx, a identity.AccountID, key identity.KeyID, t time.Time) (ledger.MicroUSD, error) {
	all, err := SpentWithKeys(tx, a, t)
	return all[key], err
}

// SpentWithKeys is SpentWithKey for all keys of an account.
func SpentWithKeys(tx *store.Tx, a identity.AccountID, t time.Time) (map[identity.KeyID]ledger.MicroUSD, error) {
	total, err := month(tx, a, t)
	if err != nil {
		return nil, err
	}
	out := make(map[identity.KeyID]ledger.MicroUSD, len(total.parts[byKey].named))
	for name, s := range total.parts[byKey].named {
		if n, err := strconv.ParseInt(name, 10, 64); err == nil {
			out[identity.KeyID(n)] = s.Amount
		}
	}
	return out, nil
}

// AgainstCap is what counts against a cap that is set for an API key now: what
// was spent with it in this month, and what it has set aside in holds.
func AgainstCap(tx *store.Tx, a identity.AccountID, key identity.KeyID, now time.Time) (ledger.MicroUSD, error) {
	spent, err := SpentWithKey(tx, a, key, now)
	if err != nil {
		return 0, err
	}
	open, err := ledger.OpenHolds(tx, a)
	if err != nil {
		return 0, err
	}
	for _, h := range open {
		if h.APIKey == key && !h.KeyMonth.Before(ledger.MonthOf(now)) { // what came before is that month's
			spent += min(h.Rest(), h.KeyAmount)
		}
	}
	return spent, nil
}

// Point is a step of a Series.
type Point struct {
	From time.Time
	Sum
}

// Series gives what an account spent in each step from the one that from lies in
// to the one that ends at or after to, oldest first; steps without any are zero.
// More than MaxPoints, or steps that are no longer kept, are a *RangeError.
func Series(tx *store.Tx, a identity.AccountID, from, to time.Time, step Step) ([]Point, error) {
	if step != Hourly && step != Daily && step != Monthly {
		return nil, &RangeError{Field: "step", Why: "choose hour, day or month"}
	}
	if !from.Before(to) {
		return nil, &RangeError{Field: "to", Why: "it must be after from"}
	}
	p, err := readProgress(tx)
	if err != nil {
		return nil, err
	}
	if p.pruned(placeOf(step, from, a)) {
		return nil, p.tooOld(step)
	}
	var out []Point
	wanted := sums{step: step, account: a, totals: true, places: map[int64]*tally{}}
	for t := step.of(from); t.Before(to); t = step.next(t) {
		if len(out) == MaxPoints {
			return nil, &RangeError{Field: "to", Why: fmt.Sprintf("this would be more than %d points: ask for less, or in larger steps", MaxPoints)}
		}
		out = append(out, Point{From: t})
		wanted.places[t.Unix()] = &tally{}
	}
	if err := wanted.read(tx, p); err != nil {
		return nil, err
	}
	for n := range out {
		out[n].Sum = wanted.places[out[n].From.Unix()].total
	}
	return out, nil
}

// sums are an account's records of one step, as far as somebody asks for them.
type sums struct {
	step    Step
	account identity.AccountID
	totals  bool             // nothing but the totals is asked for
	places  map[int64]*tally // by their beginnings
}

// read fills in what is asked for: the records, and the rows that they lack. Of
// those there are but the last moments', except while all is being made anew.
func (s sums) read(tx *store.Tx, p progress) error {
	if !p.Clearing {
		for begin, t := range s.places {
			at := place{s.step, begin, s.account}
			var err error
			if s.totals {
				t.total, _, err = s.step.totals().Get(tx, at.key())
			} else {
				*t, err = at.read(tx)
			}
			if err != nil {
				return err
			}
		}
	}
	for row, err := range ledger.Statement(tx, s.account, 0) {
		if err != nil {
			return err
		}
		if row.Seq <= p.Row {
			return nil
		}
		if row.Spent() == 0 {
			continue
		}
		switch t := s.places[s.step.of(row.At).Unix()]; {
		case t == nil:
		case s.totals:
			t.total = t.total.Plus(sumOf(row))
		default:
			t.add(row, s.step)
		}
	}
	return nil
}

// month reads one month's tally.
func month(tx *store.Tx, a identity.AccountID, t time.Time) (tally, error) {
	p, err := readProgress(tx)
	if err != nil {
		return tally{}, err
	}
	var out tally
	s := sums{step: Monthly, account: a, places: map[int64]*tally{Monthly.of(t).Unix(): &out}}
	err = s.read(tx, p)
	return out, err
}
