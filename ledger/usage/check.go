package usage

import (
	"bytes"
	"fmt"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Checked is what Check found in records that agree.
type Checked struct {
	Rows    int64 `json:"rows"`    // that have been folded
	Behind  int64 `json:"behind"`  // rows that have not
	Records int64 `json:"records"` // that were compared
}

// Check makes all records anew from the journal and compares them with what is
// stored. It returns a *Disagreement for the first that differs. It reads the
// journal once, and keeps in memory the current hour, day and month of each
// account.
func Check(tx *store.Tx) (Checked, error) {
	p, err := readProgress(tx)
	if err != nil {
		return Checked{}, err
	}
	newest, err := ledger.Newest(tx)
	if err != nil {
		return Checked{}, err
	}
	c := checker{tx: tx, progress: p, current: map[slot]*counted{}, pending: map[place]*tally{}}
	if p.Row > newest {
		return Checked{}, &Disagreement{fmt.Sprintf("usage counts rows up to %d, and the ledger ends at %d", p.Row, newest)}
	}
	if p.Clearing { // what is stored is void
		return Checked{Behind: newest}, nil
	}
	for row, err := range ledger.Rows(tx, 1) {
		if err != nil {
			return Checked{}, err
		}
		if row.Seq > p.Row {
			break
		}
		if err := c.row(row); err != nil {
			return Checked{}, err
		}
	}
	if err := c.finish(); err != nil {
		return Checked{}, err
	}
	return Checked{Rows: p.Row, Behind: newest - p.Row, Records: c.agreed}, nil
}

// slot is where an account's current tally of a step is.
type slot struct {
	step    Step
	account identity.AccountID
}

type counted struct {
	at place
	tally
}

// checker makes tallies from rows as folding does. Rows come in the order of
// time, so a tally is complete when the account's next one begins, and can be
// compared and forgotten. But the box's clock may have been put back: a tally
// that does not agree then may be one that goes on, and is kept till the end.
type checker struct {
	tx       *store.Tx
	progress progress
	current  map[slot]*counted
	pending  map[place]*tally
	agreed   int64
}

func (c *checker) row(row ledger.Transfer) error {
	if row.Spent() == 0 {
		return nil
	}
	for _, s := range steps {
		at, in := placeOf(s, row.At, row.Account), slot{s, row.Account}
		if c.progress.pruned(at) {
			continue
		}
		now := c.current[in]
		if now == nil || now.at != at {
			if now != nil {
				if err := c.complete(now); err != nil {
					return err
				}
			}
			now = &counted{at: at}
			if before := c.pending[at]; before != nil {
				now.tally = *before
				delete(c.pending, at)
			}
			c.current[in] = now
		}
		now.add(row, s.kept())
	}
	return nil
}

// complete compares a tally that may be complete.
func (c *checker) complete(t *counted) error {
	same, err := c.same(t.at, t.tally)
	if err != nil {
		return err
	}
	if same {
		c.agreed++
		return nil
	}
	if len(c.pending) == maxPending {
		return disagree(t.at)
	}
	c.pending[t.at] = &t.tally
	return nil
}

func (c *checker) same(at place, want tally) (bool, error) {
	got, err := at.read(c.tx)
	if err != nil {
		return false, err
	}
	x, err := encodeTally(got)
	if err != nil {
		return false, err
	}
	y, err := encodeTally(want)
	return bytes.Equal(x, y), err
}

func (c *checker) finish() error {
	for _, t := range c.current {
		if err := c.complete(t); err != nil {
			return err
		}
	}
	for at := range c.pending {
		return disagree(at)
	}
	stored := int64(0)
	for _, s := range steps {
		for rec, err := range s.records().All(c.tx) {
			if err != nil {
				return err
			}
			at := place{step: s, begin: rec.Key.A, account: identity.AccountID(rec.Key.B)}
			if !c.progress.pruned(at) {
				stored++
			}
		}
	}
	if stored != c.agreed {
		return &Disagreement{fmt.Sprintf("usage has %d records, and the ledger makes %d", stored, c.agreed)}
	}
	return nil
}

func disagree(at place) error {
	return &Disagreement{at.String() + " is not what the ledger makes"}
}
