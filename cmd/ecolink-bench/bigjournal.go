package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

// Goals of a large journal.
const (
	goalOpen      = 2 * time.Second
	goalPage      = 5 * time.Millisecond  // 99 of 100
	goalBreakdown = 50 * time.Millisecond // 99 of 100
	goalHeapMiB   = 32.0                  // more than before: less than 4 bytes a row of ten million
)

// What is in it.
const (
	// busyAccount has one row in busyShare, the others share the rest.
	busyAccount = accounts + 1
	busyShare   = 100
	// fillReach is how far back the first row is.
	fillReach = 60 * 24 * time.Hour
	// fillGroup is how many rows an update writes. There is one update at a time:
	// the rows' times must rise with their numbers, or the ledger refuses them.
	fillGroup = 2000
	// fillModels and fillKeys are how many models and keys an account uses.
	fillModels = 8
	fillKeys   = 5
)

// How often things are repeated.
const (
	openings   = 5
	pages      = 1000
	coldPages  = 50
	pageRows   = 50
	breakdowns = 100
	// sinceCheckpoint is how many rows came after the last time that the books were
	// verified: a restart has that many to verify, twice what it ever should.
	sinceCheckpoint = 100_000
	foldStep        = 20_000
)

// measureRows fills a journal and measures what its size costs.
func measureRows(ctx context.Context, opts options, dir string, rep *report) (err error) {
	before := heapMiB()
	first := time.Now().Add(-fillReach)
	b, err := newBooks(ctx, filepath.Join(dir, "rows"), busyAccount, first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	began := time.Now()
	if err := b.fill(ctx, opts.rows, first); err != nil {
		return fmt.Errorf("fill a journal: %w", err)
	}
	rep.figure("filling, "+rowsWord(opts.rows), "/s", float64(opts.rows)/time.Since(began).Seconds())
	if err := b.measureVerify(ctx, rep); err != nil {
		return err
	}
	// The file is in memory now, as far as there is room.
	if err := b.measurePages(ctx, opts.rows, rep); err != nil {
		return err
	}
	if err := b.measureFolding(ctx, rep); err != nil {
		return err
	}
	if err := b.fill(ctx, sinceCheckpoint, time.Now()); err != nil {
		return fmt.Errorf("fill a journal: %w", err)
	}
	if err := b.measureOpening(ctx, opts.rows, rep); err != nil {
		return err
	}
	if err := b.measureColdPages(ctx, opts.rows, rep); err != nil {
		return err
	}
	if err := b.measureBreakdown(ctx, rep); err != nil {
		return err
	}
	after := heapMiB()
	rep.beside("heap in use", "MiB", after, less, "before", before, 0)
	rep.limit("heap grown by", "MiB", max(0, after-before), goalHeapMiB)
	return nil
}

func rowsWord(n int) string {
	if n%1_000_000 == 0 {
		return fmt.Sprintf("%d million rows", n/1_000_000)
	}
	return plural(n, "row")
}

// heapMiB is what is reachable: garbage is collected first.
func heapMiB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// fill writes the rows, spread over the accounts and evenly from first until now.
func (b *books) fill(ctx context.Context, rows int, first time.Time) error {
	step := time.Since(first) / time.Duration(rows)
	began := time.Now()
	for done := 0; done < rows; {
		group := make([]ledger.Entry, min(fillGroup, rows-done))
		for n := range group {
			var err error
			if group[n], err = fillCharge(done+n, first.Add(time.Duration(done+n)*step)); err != nil {
				return err
			}
		}
		err := b.store.Update(ctx, func(tx *store.Tx) error {
			for _, entry := range group {
				if err := charge(tx, entry); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.rows.Add(int64(len(group)))
		if done += len(group); done%1_000_000 == 0 {
			fmt.Fprintf(os.Stderr, "filled in %s after %s\n", rowsWord(done), time.Since(began).Round(time.Second))
		}
	}
	return nil
}

// fillCharge is the n-th charge: of some account, with one of its keys, for one of
// a few models.
func fillCharge(n int, at time.Time) (ledger.Entry, error) {
	account := identity.AccountID(busyAccount)
	if n%busyShare != 0 {
		account = 1 + rand.N(identity.AccountID(accounts))
	}
	e, err := chargeOf(account, at)
	e.Usage.Model = fmt.Sprintf("%s-%d", chargeModel, n/busyShare%fillModels)
	e.Resource = "model/" + e.Usage.Model
	e.APIKey = identity.KeyID(1 + n/busyShare%fillKeys)
	return e, err
}

// measureOpening is from a cold file to the first answer, with the books verified
// since the last checkpoint.
func (b *books) measureOpening(ctx context.Context, rows int, rep *report) error {
	var took timings
	for range openings {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.close(); err != nil {
			return err
		}
		if err := forget(filepath.Dir(b.path)); err != nil {
			return err
		}
		began := time.Now()
		var err error
		if b.store, err = store.Open(b.path); err != nil {
			return err
		}
		err = b.store.View(func(tx *store.Tx) error {
			found, err := ledger.VerifySince(tx)
			if err == nil && found.From == 1 {
				err = errors.New("there is no checkpoint to verify from")
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		took = append(took, time.Since(began))
	}
	size, err := folderBytes(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	rep.within("opening, "+rowsWord(rows), took.median(), goalOpen)
	rep.figure("file size", "bytes/row", float64(size)/float64(b.rows.Load()))
	rep.noise = append(rep.noise, "noise: opening: "+took.spread())
	return nil
}

// forget has the kernel drop what it holds of the files, as after a restart of
// the machine.
func forget(dir string) error {
	return eachFile(dir, func(f *os.File) error {
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// folderBytes is what the files take on the disk, holes left out.
func folderBytes(dir string) (total int64, err error) {
	const block = 512 // stat(2)'s unit, whatever the file system's own is
	err = eachFile(dir, func(f *os.File) error {
		var stat unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
			return err
		}
		total += stat.Blocks * block
		return nil
	})
	return total, err
}

func eachFile(dir string, do func(*os.File) error) error {
	return filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	})
}

// measureColdPages reads pages that nobody has read since the file was opened.
// How long that takes is the disk's doing, so it has no goal.
func (b *books) measureColdPages(ctx context.Context, rows int, rep *report) error {
	took, err := repeat(ctx, coldPages, func() error { return b.page(busyAccount, middle(rows)) })
	if err != nil {
		return fmt.Errorf("a page of a statement: %w", err)
	}
	rep.figure(fmt.Sprintf("a page of %d, from the middle, not in memory, p99", pageRows), "ms", milliseconds(quantile(took, 0.99)))
	return nil
}

// measurePages reads pages of the busy account's statement: the newest, and from
// the middle.
func (b *books) measurePages(ctx context.Context, rows int, rep *report) error {
	for _, kind := range []struct {
		name   string
		before func() int64
	}{
		{"newest", func() int64 { return 0 }},
		{"from the middle", func() int64 { return middle(rows) }},
	} {
		took, err := repeat(ctx, pages, func() error { return b.page(busyAccount, kind.before()) })
		if err != nil {
			return fmt.Errorf("a page of a statement: %w", err)
		}
		name := fmt.Sprintf("a page of %d, %s", pageRows, kind.name)
		rep.within(name+", p99", quantile(took, 0.99), goalPage)
		rep.noise = append(rep.noise, fmt.Sprintf("noise: %s: %s", name, took.spread()))
	}
	return nil
}

// middle is a row somewhere in the middle half of the journal, whose first rows
// are the accounts' credits.
func middle(rows int) int64 { return int64(busyAccount + rows/4 + rand.IntN(rows/2)) }

func repeat(ctx context.Context, times int, do func() error) (timings, error) {
	var took timings
	for range times {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func (b *books) page(account identity.AccountID, before int64) error {
	return b.store.View(func(tx *store.Tx) error {
		n := 0
		for _, err := range ledger.Statement(tx, account, before) {
			if err != nil {
				return err
			}
			if n++; n == pageRows {
				return nil
			}
		}
		return fmt.Errorf("account %d has only %d rows before row %d: run it with more -rows", account, n, before)
	})
}

// measureBreakdown asks for a whole month of an account.
func (b *books) measureBreakdown(ctx context.Context, rep *report) error {
	month := time.Now().AddDate(0, 0, -31)
	took, err := repeat(ctx, breakdowns, func() error {
		return b.store.View(func(tx *store.Tx) error {
			found, err := usage.Month(tx, busyAccount, month)
			if err == nil && found.Total.Calls == 0 {
				err = fmt.Errorf("account %d used nothing in the month of %s", busyAccount, month.Format(time.DateOnly))
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("a month's usage: %w", err)
	}
	rep.within("a month's usage, p99", quantile(took, 0.99), goalBreakdown)
	rep.noise = append(rep.noise, "noise: a month's usage: "+took.spread())
	return nil
}

// measureVerify verifies all of the books, and sets the checkpoint.
func (b *books) measureVerify(ctx context.Context, rep *report) error {
	began := time.Now()
	found, err := b.verified()
	if err != nil {
		return err
	}
	rep.figure("verifying all of the books", "s", time.Since(began).Seconds())
	return b.store.Update(ctx, func(tx *store.Tx) error { return ledger.SetCheckpoint(tx, found, time.Now()) })
}

// measureFolding is how fast usage is added up behind the journal.
func (b *books) measureFolding(ctx context.Context, rep *report) error {
	began := time.Now()
	for more := true; more; {
		var err error
		if more, err = usage.Fold(ctx, b.store, foldStep); err != nil {
			return fmt.Errorf("add up usage: %w", err)
		}
	}
	rep.figure("adding up usage", "rows/s", float64(b.rows.Load())/time.Since(began).Seconds())
	return nil
}
