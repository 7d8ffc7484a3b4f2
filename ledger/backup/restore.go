package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// restoreAside is where a backup is unpacked, in the data folder: on the disk
// where it is to lie.
const restoreAside = "restore.new"

// Result is a backup that was found to be whole.
type Result struct {
	Manifest Manifest      `json:"manifest"`
	Books    ledger.Report `json:"books"`
}

// VerifyFile unpacks a backup in a folder of its own in tempDir, compares all
// checksums, opens the database and verifies its books. It leaves nothing.
func VerifyFile(ctx context.Context, r io.Reader, tempDir string) (res Result, err error) {
	dir, err := os.MkdirTemp(tempDir, "ecolink-backup-")
	if err != nil {
		return res, err
	}
	dir = filepath.Clean(dir) // in "." it is "./…", which no folder's own name is
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return unpackTo(ctx, r, dir)
}

// Restore makes dataDir a box's data folder from a backup: one that has no
// database yet, while no EcoLink uses it. The backup is unpacked aside and
// verified as VerifyFile does it; only then is it put in its place. When it
// fails, or is cut off, there is no database, and Restore can be called again.
func Restore(ctx context.Context, r io.Reader, dataDir string) (res Result, err error) {
	lock, made, err := lockFolder(dataDir)
	if err != nil {
		return res, fmt.Errorf("restore to %s: %w", dataDir, err)
	}
	defer func() {
		if err != nil && made {
			_ = os.Remove(dataDir) // only if there is nothing in it
		}
		err = errors.Join(err, lock.Close())
	}()
	if _, err := os.Lstat(filepath.Join(dataDir, databaseName)); !errors.Is(err, os.ErrNotExist) {
		return res, occupied(dataDir, databaseName, err)
	}
	if info, err := os.Lstat(filepath.Join(dataDir, ledger.ArchiveFolder)); err == nil && !info.IsDir() {
		return res, occupied(dataDir, ledger.ArchiveFolder, nil)
	}
	aside := filepath.Join(dataDir, restoreAside)
	if err := os.RemoveAll(aside); err != nil { // an earlier one was cut off
		return res, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	if err := os.Mkdir(aside, 0o700); err != nil {
		return res, err
	}
	if res, err = unpackTo(ctx, r, aside); err != nil {
		return Result{}, err
	}
	if err := clearLeft(dataDir, res.Manifest); err != nil {
		return Result{}, err
	}
	if err := install(aside, dataDir); err != nil {
		return Result{}, fmt.Errorf("restore to %s: %w", dataDir, err)
	}
	return res, nil
}

func occupied(dataDir, name string, err error) error {
	return fmt.Errorf("restore to %s, which has a %s: %w", dataDir, name, errors.Join(err, ErrOccupied))
}

// clearLeft removes archives that a restore has left that was cut off before it came
// to the database. Nothing is lost by it: only files that the backup has too, as
// they are in it, are removed, and any other is ErrOccupied.
func clearLeft(dataDir string, m Manifest) error {
	folder := filepath.Join(dataDir, ledger.ArchiveFolder)
	found, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore to %s: %w", dataDir, err)
	}
	for _, e := range found {
		own, err := e.Type().IsRegular(), error(nil)
		if own {
			own, err = m.has(folder, e.Name())
		}
		if err != nil || !own {
			return occupied(dataDir, ledger.ArchiveFolder, err)
		}
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("restore to %s: %w", dataDir, err)
	}
	return nil
}

// has tells whether a file in the folder is an archive of the backup.
func (m Manifest) has(folder, name string) (bool, error) {
	in, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return false, err
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		return false, err
	}
	return slices.Contains(m.Parts, Part{
		Name: ledger.ArchiveFolder + "/" + name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil)),
	}), nil
}

// install gives what was verified its place: the database last, which makes it a
// box, and only if there is still none.
func install(aside, dataDir string) (err error) {
	from, archives := filepath.Join(aside, ledger.ArchiveFolder), filepath.Join(dataDir, ledger.ArchiveFolder)
	if err = os.Rename(from, archives); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if moved := err == nil; moved {
		defer func() {
			if err != nil {
				err = errors.Join(err, os.Rename(archives, from))
			}
		}()
	}
	if err := store.SyncFolder(dataDir); err != nil {
		return err
	}
	database := filepath.Join(dataDir, databaseName)
	// A rename would replace a database that came meanwhile; this does not.
	err = os.Link(filepath.Join(aside, databaseName), database)
	if errors.Is(err, os.ErrExist) {
		err = errors.Join(err, ErrOccupied)
	}
	if err != nil {
		return err
	}
	if err := store.SyncFolder(dataDir); err != nil {
		return errors.Join(err, os.Remove(database))
	}
	return nil
}

// unpackTo unpacks a backup and verifies it.
func unpackTo(ctx context.Context, r io.Reader, dir string) (res Result, err error) {
	folders := []string{dir}
	res.Manifest, err = unpack(ctx, r, func(name string) (io.WriteCloser, error) {
		path := filepath.Join(dir, filepath.FromSlash(name)) // unpack knows all names
		if folder := filepath.Dir(path); folder != dir && len(folders) == 1 {
			folders = append(folders, folder)
			if err := os.Mkdir(folder, 0o700); err != nil {
				return nil, err
			}
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return durable{f}, err
	})
	if err != nil {
		return Result{}, err
	}
	for _, folder := range folders {
		if err := store.SyncFolder(folder); err != nil {
			return Result{}, err
		}
	}
	if res.Books, err = verify(filepath.Join(dir, databaseName), res.Manifest); err != nil {
		return Result{}, fmt.Errorf("the backup of %s: %w", res.Manifest.TakenAt.Format("2006-01-02 15:04:05 UTC"), err)
	}
	return res, nil
}

// durable is a file that is on disk when it has been closed.
type durable struct{ *os.File }

// Close implements io.Closer.
func (d durable) Close() error { return errors.Join(d.Sync(), d.File.Close()) }

// verify opens the database, which migrates one of an older EcoLink, and verifies
// its books.
func verify(path string, m Manifest) (r ledger.Report, err error) {
	st, err := store.Open(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	err = st.View(func(tx *store.Tx) error {
		named, err := ledger.Archives(tx)
		if err != nil {
			return err
		}
		if err := sameArchives(m, named); err != nil {
			return err
		}
		if r, err = ledger.Verify(tx); err != nil {
			return err
		}
		if r.Rows != m.Row || r.LastHash != m.Hash {
			return broken("its ledger ends at row %d (%s), and its manifest says row %d (%s)", r.Rows, r.LastHash, m.Row, m.Hash)
		}
		return nil
	})
	return r, err
}

// lockFolder makes the folder, if need be, and this the only one that restores to
// it. The lock ends with the process.
func lockFolder(dir string) (lock io.Closer, made bool, err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("something else is being restored there: wait until that has ended")
		}
		return nil, false, errors.Join(err, f.Close())
	}
	return f, made, nil
}
