package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"ecolink/ledger/store"
)

// archiveAside is what an archive is called until it is whole.
const archiveAside = "journal.new"

func archiveName(first, last int64) string {
	return fmt.Sprintf("journal-%012d-%012d.eca", first, last)
}

// archiveWriter writes an archive aside, page by page, and checks the chain of
// its rows as it goes.
type archiveWriter struct {
	ArchiveFile        // First and Before are known from the start
	path        string // aside
	file        *os.File
	out         *bufio.Writer
	offset      int64
	zstd        *zstd.Encoder
	blocks      []archiveBlock
	block       archiveBlock // the one being filled
	plain       []byte       // its rows
	packed      []byte       // reused
}

// newArchiveWriter begins an archive with the row that follows the hash.
func newArchiveWriter(folder string, first int64, before Hash) (*archiveWriter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(128<<10))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, archiveAside)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	w := &archiveWriter{path: path, file: f, zstd: enc, out: bufio.NewWriterSize(f, 256<<10)}
	w.First, w.Before = first, before
	w.Last, w.LastHash = first-1, before
	w.block = archiveBlock{first: first, before: before}
	w.write(make([]byte, archiveHeader)) // its contents are known at the end
	return w, nil
}

// write keeps count. An error of the file stays in the buffered writer.
func (w *archiveWriter) write(b []byte) {
	_, _ = w.out.Write(b)
	w.offset += int64(len(b))
}

// page adds a page of rows as the database has it.
func (w *archiveWriter) page(raw []byte) error {
	for {
		f, rest, ok, err := nextFramed(raw)
		if err != nil {
			return wrong(w.Last+1, "can't be read: %v", err)
		}
		if !ok {
			break
		}
		t, err := f.decode()
		switch {
		case err != nil:
			return wrong(w.Last+1, "can't be read: %v", err)
		case t.Seq != w.Last+1:
			return wrong(t.Seq, "stands where row %d is next", w.Last+1)
		case w.LastHash.sum(f.row) != f.hash:
			return wrong(t.Seq, "does not match its hash")
		}
		w.Last, w.LastHash, w.Newest = t.Seq, f.hash, t.At
		w.plain = binary.AppendUvarint(w.plain, uint64(len(f.row)))
		w.plain = append(w.plain, f.row...)
		raw = rest
	}
	if len(w.plain) >= archiveBlockBytes {
		return w.endBlock()
	}
	return nil
}

func (w *archiveWriter) endBlock() error {
	if len(w.plain) == 0 {
		return nil
	}
	if len(w.plain) > maxBlockBytes {
		return fmt.Errorf("a block of %d bytes: a page of the journal is larger than it can be", len(w.plain))
	}
	w.packed = w.zstd.EncodeAll(w.plain, w.packed[:0])
	w.block.offset, w.block.size = w.offset, int64(len(w.packed))
	w.blocks = append(w.blocks, w.block)
	w.write(w.packed)
	w.write(binary.BigEndian.AppendUint32(nil, archiveCRC(w.packed)))
	w.block = archiveBlock{first: w.Last + 1, before: w.LastHash}
	w.plain = w.plain[:0]
	return nil
}

// finish puts the file on disk, still aside, reads it back and checks it.
func (w *archiveWriter) finish() error {
	if err := w.endBlock(); err != nil {
		return err
	}
	w.write(appendArchiveIndex(nil, w.blocks, w.offset))
	w.Name, w.Bytes = archiveName(w.First, w.Last), w.offset
	err := w.out.Flush() // which has the error of any write before it
	if err == nil {
		_, err = w.file.WriteAt(appendArchiveHeader(nil, w.ArchiveFile), 0)
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	// Read back what the disk has, and not what the kernel remembers of it. Where
	// that can't be had, it is read from memory.
	_ = unix.Fadvise(int(w.file.Fd()), 0, 0, unix.FADV_DONTNEED)
	err = w.file.Close()
	w.file = nil
	if err != nil {
		return err
	}
	return w.readBack()
}

func (w *archiveWriter) readBack() error {
	aside := w.ArchiveFile
	aside.Name = archiveAside
	a, err := openArchive(filepath.Dir(w.path), aside)
	if err != nil {
		return err
	}
	defer a.close()
	if err := a.verify(); err != nil {
		return err
	}
	w.SHA256, err = digest(w.path)
	return err
}

// publish gives the file its name, for good.
func (w *archiveWriter) publish() error {
	folder := filepath.Dir(w.path)
	if err := os.Rename(w.path, filepath.Join(folder, w.Name)); err != nil {
		return err
	}
	return store.SyncFolder(folder)
}

// discard takes back what was written aside.
func (w *archiveWriter) discard() error {
	var err error
	if w.file != nil {
		err = w.file.Close()
		w.file = nil
	}
	if gone := os.Remove(w.path); !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// lockFolder makes the folder of archives, and this the only one that writes to
// it. The lock ends with the process.
func lockFolder(folder string) (unlock io.Closer, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := store.SyncFolder(filepath.Dir(folder)); err != nil {
		return nil, err
	}
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrArchiving
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
