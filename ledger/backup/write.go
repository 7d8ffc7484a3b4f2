package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// Write writes a backup of the store to w, and gives its manifest. version is
// EcoLink's own. After an error what w has is no backup, and every reader says so.
//
// Others read and write meanwhile, and nothing of what they write is in it. Until
// the database has been copied, the room of what was there at its beginning is not
// used again when they delete or replace it: w should not be slow for hours. It
// takes little memory.
func Write(ctx context.Context, st *store.Store, w io.Writer, version string, now time.Time) (Manifest, error) {
	// One goroutine: EcoLink has other things to do.
	packed, err := zstd.NewWriter(while{ctx, w}, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return Manifest{}, err
	}
	p := packer{Manifest: Manifest{Format: format, TakenAt: now.UTC(), EcoLink: version}, tar: tar.NewWriter(packed)}
	var archives []ledger.ArchiveFile
	err = st.View(func(tx *store.Tx) (err error) {
		if p.Row, p.Hash, err = ledger.Tip(tx); err != nil {
			return err
		}
		if archives, err = ledger.Archives(tx); err != nil {
			return err
		}
		if len(archives) > maxArchives {
			return fmt.Errorf("the ledger has %d archives, and a backup can have %d", len(archives), maxArchives)
		}
		return p.part(databaseName, tx.Size(), func(w io.Writer) error { _, err := tx.WriteTo(w); return err })
	})
	if err != nil {
		return Manifest{}, fmt.Errorf("back up the database: %w", err)
	}
	folder := filepath.Join(filepath.Dir(st.Path()), ledger.ArchiveFolder)
	for _, f := range archives { // they never change
		if err := p.archive(folder, f); err != nil {
			return Manifest{}, err
		}
	}
	if err := p.end(); err != nil {
		return Manifest{}, err
	}
	return p.Manifest, packed.Close()
}

// packer writes the parts one after the other.
type packer struct {
	Manifest
	tar *tar.Writer
}

func (p *packer) header(name string, size int64) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: p.TakenAt.Truncate(time.Second)})
}

// part adds what copy writes.
func (p *packer) part(name string, size int64, copy func(io.Writer) error) error {
	if err := p.header(name, size); err != nil {
		return err
	}
	sum := sha256.New()
	written := &count{w: io.MultiWriter(p.tar, sum)}
	if err := copy(written); err != nil {
		return err
	}
	if written.n != size {
		return fmt.Errorf("%s has %d bytes and should have %d", name, written.n, size)
	}
	p.Parts = append(p.Parts, Part{Name: name, Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// archive adds an archive, which must be as it was written: a backup with another
// could not be restored.
func (p *packer) archive(folder string, f ledger.ArchiveFile) error {
	file := filepath.Join(folder, f.Name)
	damaged := func(err error) error {
		return &ledger.ArchiveError{Path: file, First: f.First, Last: f.Last, Err: err}
	}
	in, err := os.Open(file)
	if err != nil {
		return damaged(errors.Unwrap(err))
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || info.Size() != f.Bytes {
		return damaged(errors.Join(err, errors.New("its size is not what it was")))
	}
	err = p.part(path.Join(ledger.ArchiveFolder, f.Name), f.Bytes, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err != nil {
		return err
	}
	if p.Parts[len(p.Parts)-1].SHA256 != f.SHA256 {
		return damaged(errors.New("it is not as it was written"))
	}
	return nil
}

// end adds the manifest, which makes it a backup.
func (p *packer) end() error {
	raw, err := json.MarshalIndent(p.Manifest, "", "  ")
	if err != nil {
		return err
	}
	if len(raw) > maxManifestBytes {
		return fmt.Errorf("the manifest has %d bytes, and may have %d", len(raw), maxManifestBytes)
	}
	if err := p.header(manifestName, int64(len(raw))); err != nil {
		return err
	}
	if _, err := p.tar.Write(raw); err != nil {
		return err
	}
	return p.tar.Close()
}

// while is a writer until a context ends.
type while struct {
	ctx context.Context
	w   io.Writer
}

// Write implements io.Writer.
func (w while) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}
