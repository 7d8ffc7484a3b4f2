package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"

	"ecolink/ledger"
)

// Check reads a backup to its end and compares every part with its checksum. It
// keeps nothing and does not look into the books: see VerifyFile.
func Check(ctx context.Context, r io.Reader) (Manifest, error) {
	return unpack(ctx, r, func(string) (io.WriteCloser, error) { return discard{}, nil })
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// unpack reads a backup and writes its parts to what create gives for them. What
// it wrote is to be believed only when there is no error.
func unpack(ctx context.Context, r io.Reader, create func(name string) (io.WriteCloser, error)) (Manifest, error) {
	plain, err := zstd.NewReader(asLong{ctx, r}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindowBytes), zstd.WithDecoderLowmem(true))
	if err != nil {
		return Manifest{}, err
	}
	defer plain.Close()
	u := unpacker{tar: tar.NewReader(plain), create: create}
	for u.manifest == nil {
		if err := u.next(); err != nil {
			return Manifest{}, u.judge(ctx, err)
		}
	}
	if err := ended(u.tar, plain); err != nil {
		return Manifest{}, u.judge(ctx, err)
	}
	if !slices.Equal(u.parts, u.manifest.Parts) {
		return Manifest{}, broken("its parts do not match their checksums")
	}
	return *u.manifest, nil
}

type unpacker struct {
	tar      *tar.Reader
	create   func(name string) (io.WriteCloser, error)
	parts    []Part
	manifest *Manifest
	own      error // which is not the fault of what is read
}

// judge tells a broken backup from what is not its fault.
func (u *unpacker) judge(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case u.own != nil:
		return u.own
	case errors.Is(err, ErrBroken):
		return err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return broken("%w", err)
}

// next takes one file off the tar archive.
func (u *unpacker) next() error {
	h, err := u.tar.Next()
	if err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || len(u.parts) > maxArchives {
		return broken("%.100q does not belong in it", h.Name)
	}
	switch {
	case len(u.parts) == 0 && h.Name == databaseName, len(u.parts) > 0 && archivePath.MatchString(h.Name):
		return u.part(h)
	case len(u.parts) > 0 && h.Name == manifestName:
		return u.readManifest(h.Size)
	}
	return broken("%.100q does not belong in it", h.Name)
}

func (u *unpacker) part(h *tar.Header) error {
	if slices.ContainsFunc(u.parts, func(p Part) bool { return p.Name == h.Name }) {
		return broken("it has %s twice", h.Name)
	}
	var out io.WriteCloser
	if out, u.own = u.create(h.Name); u.own != nil {
		return u.own
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, &own{out, &u.own}), u.tar)
	if closed := out.Close(); closed != nil && u.own == nil {
		u.own = closed
	}
	if err = errors.Join(err, u.own); err != nil {
		return err
	}
	u.parts = append(u.parts, Part{Name: h.Name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// own keeps the error of a writer apart from the reader's.
type own struct {
	w   io.Writer
	err *error
}

// Write implements io.Writer.
func (o *own) Write(p []byte) (n int, err error) {
	n, err = o.w.Write(p)
	if err != nil {
		*o.err = err
	}
	return n, err
}

func (u *unpacker) readManifest(size int64) error {
	if size > maxManifestBytes {
		return broken("its manifest has %d bytes", size)
	}
	raw, err := io.ReadAll(u.tar)
	if err != nil {
		return err
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return broken("its manifest: %w", err)
	}
	if m.Format != format {
		u.own = fmt.Errorf("the backup has format %d and this EcoLink knows format %d: use the version %.40q that wrote it", m.Format, format, m.EcoLink)
		return u.own
	}
	u.manifest = &m
	return nil
}

// ended wants nothing behind the manifest but the end.
func ended(t *tar.Reader, plain io.Reader) error {
	if h, err := t.Next(); err == nil {
		return broken("%.100q stands behind its end", h.Name)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	buf, zeros := make([]byte, 4096), make([]byte, 4096)
	for {
		n, err := plain.Read(buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			return broken("something stands behind its end")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// asLong is a reader until a context ends.
type asLong struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r asLong) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// sameArchives compares the archives in a backup with those that its database names.
func sameArchives(m Manifest, named []ledger.ArchiveFile) error {
	want := []Part{}
	for _, f := range named {
		want = append(want, Part{Name: ledger.ArchiveFolder + "/" + f.Name, Bytes: f.Bytes, SHA256: f.SHA256})
	}
	if !slices.Equal(m.Parts[1:], want) {
		return broken("it has not the archives that its database names")
	}
	return nil
}
