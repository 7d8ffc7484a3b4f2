package scheduler

import (
	"context"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/drives"
	"ecolink/ledger/store"
)

const (
	// keepRecords is how long the record of a drive is kept after its deletion, and
	// an idempotency key after its request: as long as the ledger promises it for
	// calls that move money.
	keepRecords = ledger.MinArchiveAge
	// forgetEvery is how often older ones are looked for.
	forgetEvery = time.Hour
	// forgetBatch is how many records are read at once, and deleted at most in one
	// transaction.
	forgetBatch = 256
)

// keeping is how long records are kept that nobody needs any more, and how often
// they are looked for. Tests have less time.
type keeping struct{ long, every time.Duration }

// forget removes the records that have been kept for long enough. The keys go before
// the drives that they are of. A crash leaves some of them, for the next time; so does a failure,
// which would read everything again each minute if it did not wait as long.
func (b *biller) forget(ctx context.Context, now time.Time) {
	b.swept = now
	before := now.Add(-b.keep.long)
	keys, err := sweep(ctx, b, outdatedRequests, func(tx *store.Tx, keys []string, before time.Time) error {
		return forgetRequests(tx, keys, before, now)
	}, before)
	gone, err2 := 0, err
	if err == nil {
		gone, err2 = sweep(ctx, b, drives.Outdated, drives.Forget, before)
	}
	if keys > 0 || gone > 0 {
		b.log.Info("forgot what nobody needs any more", "keys", keys, "drives", gone)
	}
	if err2 != nil && ctx.Err() == nil {
		b.log.Error("old records could not be forgotten; will be tried again", "in", b.keep.every, "err", err2)
	}
}

// sweep finds records and drops them, part by part. It gives how many were found.
func sweep[K comparable](ctx context.Context, b *biller,
	find func(tx *store.Tx, from K, before time.Time, limit int) (found []K, next K, err error),
	drop func(tx *store.Tx, found []K, before time.Time) error, before time.Time) (n int, err error) {
	var from, none K
	for {
		var found []K
		var next K
		err := b.store.View(func(tx *store.Tx) (err error) { found, next, err = find(tx, from, before, forgetBatch); return err })
		if err == nil && len(found) > 0 {
			err = b.store.Update(ctx, func(tx *store.Tx) error { return drop(tx, found, before) })
		}
		if err != nil {
			return n, err
		}
		if n += len(found); next == none {
			return n, nil
		}
		from = next
	}
}

// outdatedRequests finds the keys of requests that came before a time. Those that an
// older EcoLink has written do not tell, and count from when they are found.
func outdatedRequests(tx *store.Tx, from string, before time.Time, limit int) (keys []string, next string, err error) {
	last, ok, err := drivesByRequest.Last(tx)
	if err != nil || !ok {
		return nil, "", err
	}
	for rec, err := range drivesByRequest.Scan(tx, from, last.Key) {
		if err != nil {
			return nil, "", err
		}
		if limit == 0 {
			return keys, rec.Key, nil
		}
		limit--
		if rec.Value.At.Before(before) {
			keys = append(keys, rec.Key)
		}
	}
	return keys, "", nil
}

func forgetRequests(tx *store.Tx, keys []string, before, now time.Time) error {
	for _, key := range keys {
		rec, ok, err := drivesByRequest.Get(tx, key)
		switch {
		case err != nil:
			return err
		case !ok || !rec.At.Before(before):
		case rec.At.IsZero():
			rec.At = now.UTC()
			err = drivesByRequest.Put(tx, key, rec)
		default:
			err = drivesByRequest.Delete(tx, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
