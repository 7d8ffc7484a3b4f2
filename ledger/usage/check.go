package usage

import (
	"bytes"
	"context"
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
// journal once, and again only where the clock was put back for many accounts. It
// keeps in memory the current hour, day and month of each account.
func Check(tx *store.Tx) (Checked, error) { return CheckContext(context.Background(), tx) }

// CheckContext is Check that gives up, with its error, when ctx ends.
func CheckContext(ctx context.Context, tx *store.Tx) (Checked, error) {
	return check(ctx, tx, maxPending)
}

func check(ctx context.Context, tx *store.Tx, limit int) (Checked, error) {
	p, err := readProgress(tx)
	if err != nil {
		return Checked{}, err
	}
	newest, err := ledger.Newest(tx)
	if err != nil {
		return Checked{}, err
	}
	c := checker{
		ctx: ctx, tx: tx, limit: limit, progress: p,
		current: map[slot]*counted{}, pending: map[place]*tally{}, again: map[place]struct{}{},
	}
	if p.Row > newest {
		return Checked{}, &Disagreement{fmt.Sprintf("usage counts rows up to %d, and the ledger ends at %d", p.Row, newest)}
	}
	if p.Clearing { // what is stored is void
		return Checked{Behind: newest}, nil
	}
	if err := c.rows(c.row); err != nil {
		return Checked{}, err
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
	partial bool // its first rows are not in it
}

// checker makes tallies from rows as folding does. Rows come in the order of
// time, so a tally is complete when the account's next one begins, and can be
// compared and forgotten. But the box's clock may have been put back: a tally
// that does not agree then may be one that goes on, and is kept till the end. When
// they become too many to be kept, they are made once more after it.
type checker struct {
	ctx      context.Context
	tx       *store.Tx
	limit    int // of pending ones
	progress progress
	current  map[slot]*counted
	pending  map[place]*tally
	again    map[place]struct{}
	agreed   int64
}

// rows goes through what has been folded.
func (c *checker) rows(each func(ledger.Transfer) error) error {
	for row, err := range ledger.Rows(c.tx, 1) {
		switch {
		case err != nil:
			return err
		case row.Seq > c.progress.Row:
			return nil
		case row.Seq%4096 == 0 && c.ctx.Err() != nil:
			return c.ctx.Err()
		}
		if row.Spent() == 0 {
			continue
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) row(row ledger.Transfer) error {
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
			_, now.partial = c.again[at]
			c.current[in] = now
		}
		now.add(row, s)
	}
	return nil
}

// complete compares a tally that may be complete.
func (c *checker) complete(t *counted) error {
	if t.partial {
		return nil
	}
	same, err := c.same(t.at, t.tally)
	if err != nil {
		return err
	}
	if same {
		c.agreed++
		return nil
	}
	if len(c.pending) == c.limit {
		c.again[t.at] = struct{}{}
		return nil
	}
	c.pending[t.at] = &t.tally
	return nil
}

// makeAgain makes the tallies that were too many, some in each reading of the
// journal.
func (c *checker) makeAgain() error {
	for len(c.again) > 0 {
		some := map[place]*tally{}
		for at := range c.again {
			if len(some) == c.limit {
				break
			}
			some[at] = &tally{}
			delete(c.again, at)
		}
		err := c.rows(func(row ledger.Transfer) error {
			for _, s := range steps {
				if t := some[placeOf(s, row.At, row.Account)]; t != nil {
					t.add(row, s)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for at, t := range some {
			same, err := c.same(at, *t)
			if err != nil {
				return err
			}
			if !same {
				return disagree(at)
			}
			c.agreed++
		}
	}
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
	c.current = nil
	if err := c.makeAgain(); err != nil {
		return err
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
