package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"ecolink/ledger/store"
)

// MinArchiveAge is how old a row must be to be archived. Its idempotency key is
// forgotten then: for so long at least, a call can be repeated safely.
const MinArchiveAge = 30 * 24 * time.Hour

// prunePages is how many pages of rows are deleted in one commit, with their
// idempotency keys: some two thousand rows, a few milliseconds.
const prunePages = 32

// ErrArchiving is returned while another Archive is at work.
var ErrArchiving = errors.New("rows are being archived already: wait until that has ended")

// ArchiveAgeError: rows were to be archived that are too new.
type ArchiveAgeError struct{ Before, Limit time.Time }

func (e *ArchiveAgeError) Error() string {
	return fmt.Sprintf("rows are archived when they are %d days old: choose %s or an earlier time, and not %s",
		MinArchiveAge/(24*time.Hour), e.Limit.UTC().Format(time.RFC3339), e.Before.UTC().Format(time.RFC3339))
}

// ArchiveReport is what Archive did.
type ArchiveReport struct {
	Files   []ArchiveFile `json:"files"`
	Rows    int64         `json:"rows"`
	Bytes   int64         `json:"bytes"`
	Through int64         `json:"through"` // rows up to this one are archived now
}

// Archive moves the rows that are older than the given time from the database to
// compressed files: whole pages of them, so that a few may stay. They are read
// from there as before; only their idempotency keys are forgotten, and the records
// of holds that have ended and have no later rows. The room that
// they took in the database is used for new rows; its file does not shrink.
//
// A file is on disk, read back and checked before the database forgets any of its
// rows, in commits of a bounded size. Archive can be cut off at any point: the
// next call goes on. It never deletes an archive that the database knows.
func Archive(ctx context.Context, st *store.Store, before, now time.Time) (ArchiveReport, error) {
	a := archiver{st: st, maxRows: archiveRows, maxPages: prunePages}
	return a.run(ctx, before, now)
}

type archiver struct {
	st       *store.Store
	maxRows  int64 // of a file
	maxPages int   // that a commit deletes
	folder   string
}

func (a *archiver) run(ctx context.Context, before, now time.Time) (r ArchiveReport, err error) {
	if limit := now.Add(-MinArchiveAge); before.After(limit) {
		return r, &ArchiveAgeError{Before: before, Limit: limit}
	}
	a.folder = filepath.Join(filepath.Dir(a.st.Path()), ArchiveFolder)
	lock, err := lockFolder(a.folder)
	if err != nil {
		return r, fmt.Errorf("archive to %s: %w", a.folder, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := a.finishLast(ctx); err != nil {
		return r, err
	}
	if err := a.sweep(); err != nil {
		return r, err
	}
	for {
		f, made, err := a.next(ctx, before, now)
		if err != nil {
			return r, err
		}
		if !made {
			break
		}
		r.Files, r.Rows, r.Bytes = append(r.Files, f), r.Rows+f.Last-f.First+1, r.Bytes+f.Bytes
		if err := a.prune(ctx, f.Last); err != nil {
			return r, err
		}
	}
	err = a.st.View(func(tx *store.Tx) error {
		f, err := readFront(tx)
		r.Through = f.pruned
		return err
	})
	return r, err
}

// finishLast deletes the rows that an earlier call has archived and not deleted,
// if the archive is still what it was. One that is gone is forgotten, as long as
// the database has all of its rows itself: they are archived again.
func (a *archiver) finishLast(ctx context.Context) error {
	var last store.Record[int64, ArchiveFile]
	var pending, whole bool
	err := a.st.View(func(tx *store.Tx) error {
		f, err := readFront(tx)
		if err != nil {
			return err
		}
		last, _, err = archives.Last(tx)
		pending, whole = last.Value.Last > f.pruned, last.Value.First > f.pruned
		return err
	})
	if err != nil || !pending {
		return err
	}
	file, err := openArchive(a.folder, last.Value)
	if whole && errors.Is(err, os.ErrNotExist) {
		return a.drop(ctx, last.Value)
	}
	if err != nil {
		return err
	}
	defer file.close()
	if err := file.verify(); err != nil {
		return err
	}
	return a.prune(ctx, last.Value.Last)
}

// drop forgets an archive that is gone, none of whose rows has been deleted.
func (a *archiver) drop(ctx context.Context, f ArchiveFile) error {
	return a.st.Update(ctx, func(tx *store.Tx) error {
		b, err := batchOf(tx)
		if err != nil {
			return err
		}
		if b.pruned >= f.First {
			return wrong(f.First, "is deleted, and its archive %s is gone", f.Name)
		}
		return archives.Delete(tx, f.First)
	})
}

// sweep removes what earlier calls that were cut off have left: files that the
// database does not know, and whose rows it still has itself.
func (a *archiver) sweep() error {
	known, pruned := map[string]bool{}, int64(0)
	err := a.st.View(func(tx *store.Tx) error {
		all, err := Archives(tx)
		for _, f := range all {
			known[f.Name] = true
		}
		f, unread := readFront(tx)
		pruned = f.pruned
		return errors.Join(err, unread)
	})
	if err != nil {
		return err
	}
	found, err := os.ReadDir(a.folder)
	if err != nil {
		return err
	}
	name := regexp.MustCompile(`^journal-(\d{12,18})-\d{12,18}\.eca$`)
	for _, e := range found {
		left := e.Name() == archiveAside
		if m := name.FindStringSubmatch(e.Name()); m != nil && !known[e.Name()] {
			first, err := strconv.ParseInt(m[1], 10, 64)
			left = err == nil && first > pruned
		}
		if !left {
			continue
		}
		if err := os.Remove(filepath.Join(a.folder, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// next makes one more archive, with the oldest rows that the database has; made
// is false when there are none to archive.
func (a *archiver) next(ctx context.Context, before, now time.Time) (f ArchiveFile, made bool, err error) {
	w, err := a.write(ctx, before)
	if w == nil || err != nil {
		return f, false, err
	}
	defer func() { err = errors.Join(err, w.discard()) }()
	if err := ctx.Err(); err != nil {
		return f, false, err
	}
	if err := w.finish(); err != nil {
		return f, false, err
	}
	if err := ctx.Err(); err != nil {
		return f, false, err
	}
	if err := w.publish(); err != nil {
		return f, false, err
	}
	f = w.ArchiveFile
	f.ArchivedAt = now.UTC()
	// From here on the file stays: whoever gives up now must not leave the lock to
	// another call while the record of the file is still on its way.
	err = a.st.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		b, err := batchOf(tx)
		if err != nil {
			return err
		}
		if b.pruned != f.First-1 {
			return fmt.Errorf("rows from %d on were archived, and the database has those from %d on: somebody else archives too", f.First, b.pruned+1)
		}
		return archives.Put(tx, f.First, f)
	})
	return f, err == nil, err
}

// write writes rows aside that are old enough; nil when there are none.
func (a *archiver) write(ctx context.Context, before time.Time) (w *archiveWriter, err error) {
	defer func() {
		if err != nil && w != nil {
			err = errors.Join(err, w.discard())
		}
	}()
	err = a.st.View(func(tx *store.Tx) error {
		f, err := readFront(tx)
		if err != nil {
			return err
		}
		hash, err := hashAt(tx, f.pruned)
		if err != nil {
			return err
		}
		for rec, err := range pages.Scan(tx, f.pruned+1, math.MaxInt64) {
			if err != nil {
				return unreadable(f.pruned+1, err)
			}
			rows, old, err := olderThan(rec.Value, before)
			if err != nil {
				return unreadable(rec.Key, err)
			}
			if !old || w != nil && w.Last-w.First+1+rows > a.maxRows {
				return nil
			}
			if w == nil {
				if w, err = newArchiveWriter(a.folder, f.pruned+1, hash); err != nil {
					return err
				}
			}
			if err := w.page(rec.Value); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return w, err
}

// hashAt is the hash of the last row that archives have.
func hashAt(tx *store.Tx, pruned int64) (h Hash, err error) {
	if pruned == 0 {
		return h, nil
	}
	last, ok, err := archives.Last(tx)
	if err == nil && (!ok || last.Value.Last != pruned) {
		err = fmt.Errorf("row %d is archived, and no archive is known to have it: %w", pruned, store.ErrDamaged)
	}
	return last.Value.LastHash, err
}

// olderThan tells whether all rows of a page were made before the time, and how
// many there are.
func olderThan(page []byte, before time.Time) (n int64, old bool, err error) {
	rows, err := decodePage(page)
	if err != nil {
		return 0, false, err
	}
	for _, t := range rows {
		if !t.At.Before(before) {
			return 0, false, nil
		}
	}
	return int64(len(rows)), true, nil
}

// prune deletes the rows up to the given one, which an archive has.
func (a *archiver) prune(ctx context.Context, last int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var done bool
		err := a.st.Update(ctx, func(tx *store.Tx) (err error) {
			done, err = prunePart(tx, last, a.maxPages)
			return err
		})
		if err != nil || done {
			return err
		}
	}
}

// prunePart deletes some pages with their idempotency keys, and the records of
// holds that have no other rows. That the rows now lie
// in an archive is written in the same commit.
func prunePart(tx *store.Tx, last int64, maxPages int) (done bool, err error) {
	b, err := batchOf(tx)
	if err != nil {
		return false, err
	}
	pruned := b.pruned
	for n := 0; n < maxPages && pruned < last; n++ {
		rec, ok, err := pages.Floor(tx, pruned+1)
		if err != nil {
			return false, unreadable(pruned+1, err)
		}
		if !ok || rec.Key != pruned+1 {
			return false, wrong(pruned+1, "is not at the beginning of a page")
		}
		rows, err := decodePage(rec.Value)
		if err != nil {
			return false, unreadable(rec.Key, err)
		}
		for _, t := range rows {
			if err := errors.Join(forget(tx, t), forgetHold(tx, t)); err != nil {
				return false, err
			}
		}
		if err := pages.Delete(tx, rec.Key); err != nil {
			return false, err
		}
		pruned += int64(len(rows))
	}
	if pruned > last {
		return false, wrong(last, "is not at the end of a page")
	}
	if pruned != b.pruned {
		b.pruned, b.changed = pruned, true
		tx.Touch()
	}
	return pruned == last, nil
}

// forget takes a row's idempotency key out of the index.
func forget(tx *store.Tx, t Transfer) error {
	if t.Key == "" {
		return nil
	}
	k := keyOf(t.Account, t.Key)
	seq, ok, err := keyed.Get(tx, k)
	if err != nil || !ok || seq != t.Seq {
		return err
	}
	return keyed.Delete(tx, k)
}
