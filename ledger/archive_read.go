package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/klauspost/compress/zstd"
)

// archive reads an archive's file. It is used by one goroutine. The file is opened
// when a block is wanted, and its holder closes it when it wants no more for now.
type archive struct {
	ArchiveFile
	path   string
	file   *os.File // nil while it is closed
	blocks []archiveBlock
	zstd   *zstd.Decoder
	packed []byte // a block as it is in the file, and
	plain  []byte // as it was before; both are used again
}

// openArchive opens the file of a record, and checks its size, header and index.
// The error is an *ArchiveError.
func openArchive(folder string, f ArchiveFile) (*archive, error) {
	a := &archive{ArchiveFile: f, path: filepath.Join(folder, f.Name)}
	// A decoder that is given whole blocks only has nothing to close.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBlockBytes))
	if err != nil {
		return nil, err
	}
	a.zstd = dec
	if err := a.readIndex(); err != nil {
		a.close()
		return nil, a.broken(err)
	}
	return a, nil
}

func (a *archive) broken(err error) error {
	var named *os.PathError
	if errors.As(err, &named) { // the file's name is said anyway
		err = named.Err
	}
	return &ArchiveError{Path: a.path, First: a.First, Last: a.Last, Err: err}
}

func (a *archive) open() (err error) {
	if a.file == nil {
		a.file, err = os.Open(a.path)
	}
	return err
}

// close closes the file until a block is read again.
func (a *archive) close() {
	if a.file != nil {
		_ = a.file.Close() // nothing was written
		a.file = nil
	}
}

func (a *archive) has(seq int64) bool { return seq >= a.First && seq <= a.Last }

func (a *archive) readIndex() error {
	if err := a.open(); err != nil {
		return err
	}
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size != a.Bytes || size < archiveHeader+archiveFooter {
		return errArchiveSize
	}
	header, err := a.at(nil, 0, archiveHeader)
	if err == nil {
		err = checkArchiveHeader(header, a.ArchiveFile)
	}
	if err != nil {
		return err
	}
	footer, err := a.at(nil, size-archiveFooter, archiveFooter)
	if err != nil {
		return err
	}
	offset, err := parseArchiveFooter(footer, size)
	if err != nil {
		return err
	}
	raw, err := a.at(nil, offset, size-offset)
	if err != nil {
		return err
	}
	a.blocks, err = parseArchiveIndex(raw, a.ArchiveFile, offset)
	return err
}

// at reads a part of the file into buf, or a larger one.
func (a *archive) at(buf []byte, offset, size int64) ([]byte, error) {
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	_, err := a.file.ReadAt(buf, offset)
	if errors.Is(err, io.EOF) {
		err = errArchiveSize
	}
	return buf, err
}

// find gives the block that has a row of the archive.
func (a *archive) find(seq int64) int {
	return sort.Search(len(a.blocks), func(n int) bool { return a.blocks[n].first > seq }) - 1
}

// block reads the rows of a block and checks that they lead from the hash before
// it to the hash before the next. The error is an *ArchiveError.
func (a *archive) block(n int) ([]Transfer, error) {
	b := a.blocks[n]
	next, want := a.Last+1, a.LastHash
	if n+1 < len(a.blocks) {
		next, want = a.blocks[n+1].first, a.blocks[n+1].before
	}
	rows, err := a.unpack(b)
	if err == nil && (int64(len(rows)) != next-b.first || rows[len(rows)-1].Hash != want) {
		err = fmt.Errorf("%w: rows were changed, removed or put in between %d and %d", errBroken, b.first, next-1)
	}
	if err != nil {
		return nil, a.broken(err)
	}
	return rows, nil
}

func (a *archive) unpack(b archiveBlock) (rows []Transfer, err error) {
	if err := a.open(); err != nil {
		return nil, err
	}
	if a.packed, err = a.at(a.packed, b.offset, b.size+blockCRC); err != nil {
		return nil, err
	}
	packed := a.packed[:b.size]
	if archiveCRC(packed) != binary.BigEndian.Uint32(a.packed[b.size:]) {
		return nil, fmt.Errorf("%w: the block at row %d is damaged", errBroken, b.first)
	}
	if a.plain, err = a.zstd.DecodeAll(packed, a.plain[:0]); err != nil {
		return nil, fmt.Errorf("%w: the block at row %d: %w", errBroken, b.first, err)
	}
	hash := b.before
	for r := (reader{raw: a.plain}); len(r.raw) > 0; {
		raw := r.bytes(r.uvarint())
		if r.err != nil {
			return nil, fmt.Errorf("%w: the block at row %d: %w", errBroken, b.first, r.err)
		}
		t, err := decodeRow(raw)
		if err == nil && t.Seq != b.first+int64(len(rows)) {
			err = fmt.Errorf("it is row %d", t.Seq)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: row %d: %w", errBroken, b.first+int64(len(rows)), err)
		}
		hash = hash.sum(raw)
		t.Hash = hash
		rows = append(rows, t)
	}
	return rows, nil
}

// verify reads all of the file. Every byte of it is covered by a checksum, and
// the rows by their hashes.
func (a *archive) verify() error {
	for n := range a.blocks {
		if _, err := a.block(n); err != nil {
			return err
		}
	}
	return nil
}

// digest gives the SHA-256 of a file, in hexadecimal.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d := sha256.New()
	if _, err := io.Copy(d, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(d.Sum(nil)), nil
}
