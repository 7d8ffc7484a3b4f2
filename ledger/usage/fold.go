package usage

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// Run folds the journal's new rows soon after they have been written, and prunes
// what is too old, until ctx ends. It must be run once in a process. What fails
// is logged and tried again: readers go on to get exact answers meanwhile.
func Run(ctx context.Context, st *store.Store, log *slog.Logger) error {
	news := st.Watch(ledger.JournalBucket)
	defer news.Close()
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	report := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "usage could not be "+what+", and will be tried again", "err", err)
		}
	}
	report("pruned", pruneAll(ctx, st, time.Now()))
	for {
		report("added up", catchUp(ctx, st))
		select { // rows that come now wait, so that one round folds many
		case <-ctx.Done():
			return nil
		case <-time.After(foldEvery):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news.Ready():
			news.Take()
		case <-prune.C:
			report("pruned", pruneAll(ctx, st, time.Now()))
		}
	}
}

// catchUp folds until there is nothing left that was there when it began.
func catchUp(ctx context.Context, st *store.Store) error {
	for {
		more, err := Fold(ctx, st, stepRows)
		if err != nil || !more {
			return err
		}
	}
}

func pruneAll(ctx context.Context, st *store.Store, now time.Time) error {
	for {
		var newest time.Time
		err := st.View(func(tx *store.Tx) (err error) { newest, err = newestAt(tx); return err })
		if err != nil || newest.IsZero() {
			return err
		}
		var more bool
		err = st.Update(ctx, func(tx *store.Tx) (err error) { more, err = prune(tx, now, newest); return err })
		if err != nil || !more {
			return err
		}
	}
}

// errOvertaken: somebody else has folded, pruned or cleared meanwhile.
var errOvertaken = errors.New("the usage records have changed meanwhile")

// Fold takes one step: at most limit rows more. more tells that there is something
// left to do. The work is done beside the writer; only the result goes through it.
func Fold(ctx context.Context, st *store.Store, limit int) (more bool, err error) {
	var p progress
	var f folding
	err = st.View(func(tx *store.Tx) (err error) {
		if p, err = readProgress(tx); err != nil || p.Clearing {
			return err
		}
		if f, err = foldRows(tx, p, limit); err != nil {
			return err
		}
		return f.encode()
	})
	switch {
	case err != nil:
		return false, err
	case p.Clearing:
		return true, st.Update(ctx, clearStep)
	case f.Row == p.Row:
		return false, nil
	}
	err = st.Update(ctx, func(tx *store.Tx) error {
		return f.save(tx, p)
	})
	if errors.Is(err, errOvertaken) {
		return true, nil
	}
	return f.more, err
}

// save writes what was folded on from p. The journal never changes, and records
// only together with the progress: so p tells whether they are still as they were
// read. Else the rows would be counted twice, and it is errOvertaken.
func (f *folding) save(tx *store.Tx, p progress) error {
	now, err := readProgress(tx)
	if err != nil {
		return err
	}
	if now != p {
		return errOvertaken
	}
	for _, r := range f.records {
		if err := r.at.step.encoded().Put(tx, r.at.key(), r.raw); err != nil {
			return err
		}
	}
	return progresses.Put(tx, progressKey, f.progress)
}

// encode makes the records out of the tallies, in the order on disk. It is done
// before the writer is asked, who has other things to write.
func (f *folding) encode() error {
	for _, at := range f.places() {
		raw, err := encodeTally(*f.tallies[at])
		if err != nil {
			return err
		}
		f.records = append(f.records, record{at, raw})
		delete(f.tallies, at)
	}
	return nil
}

type record struct {
	at  place
	raw []byte
}

// folding is the records as some more rows make them.
type folding struct {
	tallies map[place]*tally
	records []record // the tallies, once encoded
	names   int
	progress
	more bool
}

func foldRows(tx *store.Tx, p progress, limit int) (folding, error) {
	f := folding{tallies: map[place]*tally{}, progress: p}
	newest, err := ledger.Newest(tx)
	if err == nil && p.Row == 0 { // what is too old need not be made only to be pruned
		var last time.Time
		if last, err = newestAt(tx); err == nil {
			f.HoursFrom, f.DaysFrom = keptSince(last)
		}
	}
	if err != nil || newest == p.Row {
		return f, err
	}
	for row, err := range ledger.Rows(tx, p.Row+1) {
		if err != nil {
			return f, err
		}
		if limit--; limit < 0 || len(f.tallies) > stepRecords || f.names > stepNames {
			f.more = true
			return f, nil
		}
		if err := f.add(tx, row); err != nil {
			return f, err
		}
		f.Row = row.Seq
	}
	return f, nil
}

func (f *folding) add(tx *store.Tx, row ledger.Transfer) error {
	if row.Spent() == 0 {
		return nil
	}
	for _, s := range steps {
		at := placeOf(s, row.At, row.Account)
		if f.pruned(at) {
			continue
		}
		t, err := f.at(tx, at)
		if err != nil {
			return err
		}
		t.add(row, s)
	}
	return nil
}

func (f *folding) at(tx *store.Tx, at place) (*tally, error) {
	if t := f.tallies[at]; t != nil {
		return t, nil
	}
	t, err := at.read(tx)
	if err != nil {
		return nil, err
	}
	f.tallies[at] = &t
	f.names += t.names()
	return &t, nil
}

// places lists where the tallies are kept, in the order on disk.
func (f *folding) places() []place {
	return slices.SortedFunc(maps.Keys(f.tallies), func(x, y place) int {
		return cmp.Or(cmp.Compare(x.step, y.step), cmp.Compare(x.begin, y.begin), cmp.Compare(x.account, y.account))
	})
}

// newestAt is the time of the journal's newest row, in its order: what the box's
// clock says now may be wrong, and this no longer. It is for read-only transactions.
func newestAt(tx *store.Tx) (time.Time, error) {
	newest, err := ledger.Newest(tx)
	if err != nil || newest == 0 {
		return time.Time{}, err
	}
	for row, err := range ledger.Rows(tx, newest) {
		return row.At, err
	}
	return time.Time{}, nil
}

// keptSince is which hours and days are not too old.
func keptSince(now time.Time) (hours, days int64) {
	return Hourly.of(now.Add(-KeepHours)).Unix(), Daily.of(now.Add(-KeepDays)).Unix()
}

// prune deletes hours and days that are older than they are kept, a step of them.
// more tells that there are others. A clock that is ahead prunes nothing before
// rows are written by it. Where it has, and the operator has put it right since,
// hours that are not too old are gone: then all is made anew.
func prune(tx *store.Tx, now, newest time.Time) (more bool, err error) {
	p, err := readProgress(tx)
	if err != nil || p.Clearing {
		return false, err
	}
	if hours, days := keptSince(newest.Add(24 * time.Hour)); hours < p.HoursFrom || days < p.DaysFrom {
		return false, Rebuild(tx)
	}
	if now.After(newest) {
		now = newest
	}
	hours, days := keptSince(now)
	if hours > p.HoursFrom || days > p.DaysFrom {
		p.HoursFrom, p.DaysFrom = max(hours, p.HoursFrom), max(days, p.DaysFrom)
		if err := progresses.Put(tx, progressKey, p); err != nil {
			return false, err
		}
	}
	n, err := deleteBefore(tx, Hourly, p.HoursFrom, deleteStep)
	if err == nil && n < deleteStep {
		var d int
		d, err = deleteBefore(tx, Daily, p.DaysFrom, deleteStep-n)
		n += d
	}
	return n == deleteStep, err
}

// deleteBefore deletes at most limit records that began before the instant.
func deleteBefore(tx *store.Tx, s Step, before int64, limit int) (n int, err error) {
	var old []store.Pair
	for rec, err := range s.records().Scan(tx, store.First(0), store.Last(before-1)) {
		if err != nil {
			return 0, err
		}
		if len(old) == limit {
			break
		}
		old = append(old, rec.Key)
	}
	for _, k := range old {
		if err := s.records().Delete(tx, k); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}

// Rebuild throws all records away; Run makes them anew, of the whole journal.
// Meanwhile readers get exact answers, slowly.
func Rebuild(tx *store.Tx) error {
	// Nor is anything taken over of how far records were pruned: the clock may have
	// been wrong then.
	return progresses.Put(tx, progressKey, progress{Clearing: true})
}

// clearStep deletes a step of the records.
func clearStep(tx *store.Tx) error {
	p, err := readProgress(tx)
	if err != nil || !p.Clearing {
		return err
	}
	n := 0
	for _, s := range steps {
		deleted, err := deleteBefore(tx, s, 1<<62, deleteStep-n)
		if err != nil {
			return err
		}
		n += deleted
	}
	if n < deleteStep {
		p.Clearing = false
		return progresses.Put(tx, progressKey, p)
	}
	return nil
}
