package ledger

import (
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"time"

	"ecolink/ledger/store"
)

// ArchiveFolder is where archives lie, in the folder of the database.
const ArchiveFolder = "ledger-archive"

// ArchiveFile is what the database remembers of an archive: a compressed file
// with rows that it has itself forgotten. Such a file is never changed.
type ArchiveFile struct {
	First      int64     `json:"first"`
	Last       int64     `json:"last"`
	Name       string    `json:"name"` // in ArchiveFolder
	Bytes      int64     `json:"bytes"`
	SHA256     string    `json:"sha256"`
	Before     Hash      `json:"before"`    // of the row before the first
	LastHash   Hash      `json:"last_hash"` // of the last row
	Newest     time.Time `json:"newest"`    // the time of the last row
	ArchivedAt time.Time `json:"archived_at"`
}

// archives are the records of the archives, by their first rows. They are in the
// order of their rows, without gaps, and the rows of all but the last one are
// gone from the database.
var archives = store.NewIntCollection[int64, ArchiveFile]("ledger.archives")

// Archives lists the archives, oldest first.
func Archives(tx *store.Tx) (out []ArchiveFile, err error) {
	for rec, err := range archives.All(tx) {
		if err != nil {
			return nil, err
		}
		out = append(out, rec.Value)
	}
	return out, nil
}

// ArchiveError is an archive that is missing or is not as it was written. Only
// the rows in it can't be read; balances and holds do not need them.
type ArchiveError struct {
	Path        string
	First, Last int64
	Err         error
}

func (e *ArchiveError) Error() string {
	return fmt.Sprintf("the archive %s, which has the ledger rows %d to %d, can't be read: %v; put the file back from a backup",
		e.Path, e.First, e.Last, e.Err)
}

func (e *ArchiveError) Unwrap() error { return e.Err }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return errMalformed
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// archiveCache is what a transaction keeps of the archives that it reads: an
// account's rows are read one by one, and many of them lie in the same block. The
// file is open only while a block is read.
type archiveCache struct {
	archive *archive
	first   int64 // of rows
	rows    []Transfer
}

type archiveCacheKey struct{}

// Flush implements store.Local: there is nothing to write.
func (c *archiveCache) Flush(*store.Tx) error { return nil }

// archivedRow reads a row from the archive that has it.
func archivedRow(tx *store.Tx, seq int64) (Transfer, error) {
	l, err := tx.Local(archiveCacheKey{}, func() (store.Local, error) { return &archiveCache{}, nil })
	if err != nil {
		return Transfer{}, err
	}
	c := l.(*archiveCache)
	if seq < c.first || seq >= c.first+int64(len(c.rows)) {
		if err := c.load(tx, seq); err != nil {
			return Transfer{}, err
		}
	}
	return c.rows[seq-c.first], nil
}

// load reads the block that has the row.
func (c *archiveCache) load(tx *store.Tx, seq int64) error {
	if c.archive == nil || !c.archive.has(seq) {
		rec, ok, err := archives.Floor(tx, seq)
		if err != nil {
			return err
		}
		if !ok || seq > rec.Value.Last {
			return fmt.Errorf("row %d is archived, and no archive is known to have it: %w", seq, store.ErrDamaged)
		}
		a, err := openArchive(filepath.Join(tx.Folder(), ArchiveFolder), rec.Value)
		if err != nil {
			return err
		}
		a.close()
		c.archive = a
	}
	n := c.archive.find(seq)
	rows, err := c.archive.block(n)
	c.archive.close()
	if err != nil {
		return err
	}
	c.first, c.rows = c.archive.blocks[n].first, rows
	return nil
}

// archivedRows yields the rows from one to the other, both included, block by block.
func archivedRows(tx *store.Tx, from, to int64) iter.Seq2[Transfer, error] {
	return func(yield func(Transfer, error) bool) {
		if err := eachArchived(tx, from, to, func(t Transfer) bool { return yield(t, nil) }); err != nil {
			yield(Transfer{}, err)
		}
	}
}

// eachArchived calls f with the rows until it has had enough.
func eachArchived(tx *store.Tx, from, to int64, f func(Transfer) bool) error {
	floor, ok, err := archives.Floor(tx, from)
	if err != nil {
		return err
	}
	if !ok {
		floor.Key = from
	}
	next := from
	for rec, err := range archives.Scan(tx, floor.Key, math.MaxInt64) {
		if err != nil {
			return err
		}
		if next > to {
			return nil
		}
		if rec.Value.First > next || rec.Value.Last < next {
			break
		}
		more, err := eachIn(tx, rec.Value, next, to, f)
		if err != nil || !more {
			return err
		}
		next = rec.Value.Last + 1
	}
	if next <= to {
		return fmt.Errorf("row %d is archived, and no archive is known to have it: %w", next, store.ErrDamaged)
	}
	return nil
}

// eachIn is eachArchived for one archive.
func eachIn(tx *store.Tx, rec ArchiveFile, from, to int64, f func(Transfer) bool) (more bool, err error) {
	a, err := openArchive(filepath.Join(tx.Folder(), ArchiveFolder), rec)
	if err != nil {
		return false, err
	}
	defer a.close()
	for n := a.find(from); n < len(a.blocks); n++ {
		rows, err := a.block(n)
		if err != nil {
			return false, err
		}
		for _, t := range rows {
			if t.Seq > to {
				return true, nil
			}
			if t.Seq >= from && !f(t) {
				return false, nil
			}
		}
	}
	return true, nil
}
