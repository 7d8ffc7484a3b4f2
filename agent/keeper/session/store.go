package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ecolink/agent/keeper/latency"
)

// store is where a ring's bytes are: the byte numbered n at n modulo size.
type store interface {
	size() int
	write(from int64, p []byte) error // size() bytes at most
	read(from int64, p []byte) error
	mark(end int64) // notes how much was ever written
	close()
}

const (
	scrollbackName = "scrollback"
	// The file begins with a page for the mark: a magic word, the ring's size
	// and the number of bytes ever written, 8 bytes each.
	headBytes = 4096
	fileMagic = "ECOSCRL1"
)

// fileStore keeps the bytes in a file, so that they cost no memory of this
// process. Nothing is synced: the file is to survive this process, not the
// machine, with which the terminal would end anyway.
type fileStore struct {
	file  *os.File
	fd    int // its number
	bytes int
	head  []byte // the file's first page; nil of one that is only read
}

// newFileStore makes dir/scrollback. The file's blocks come with its bytes, so a
// terminal that prints little takes little.
func newFileStore(dir string, size int) (*fileStore, error) {
	path := filepath.Join(dir, scrollbackName)
	if err := removeIfThere(path); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint64([]byte(fileMagic), uint64(size))
	if _, err := file.WriteAt(append(head, make([]byte, headBytes-len(head))...), 0); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// The mark changes with every piece of output. Its block is there, so that a
	// full disk is no trouble.
	s := &fileStore{file: file, fd: int(file.Fd()), bytes: size}
	if s.head, err = unix.Mmap(s.fd, 0, headBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(&os.PathError{Op: "mmap", Path: path, Err: err}, file.Close())
	}
	return s, nil
}

func (s *fileStore) size() int { return s.bytes }

func (s *fileStore) write(from int64, p []byte) error {
	at := from % int64(s.bytes)
	n := min(len(p), s.bytes-int(at))
	if err := s.writeAt(p[:n], headBytes+at); err != nil {
		return err
	}
	if n == len(p) {
		return nil
	}
	return s.writeAt(p[n:], headBytes)
}

func (s *fileStore) writeAt(p []byte, at int64) error {
	if len(p) <= echoBytes {
		if n, err := latency.WriteAt(s.fd, p, at); err == nil && n == len(p) {
			return nil
		}
	}
	_, err := s.file.WriteAt(p, at)
	return err
}

func (s *fileStore) read(from int64, p []byte) error {
	at := from % int64(s.bytes)
	n := min(len(p), s.bytes-int(at))
	if _, err := s.file.ReadAt(p[:n], headBytes+at); err != nil {
		return err
	}
	if n == len(p) {
		return nil
	}
	_, err := s.file.ReadAt(p[n:], headBytes)
	return err
}

func (s *fileStore) mark(end int64) {
	binary.LittleEndian.PutUint64(s.head[16:], uint64(end))
}

func (s *fileStore) close() {
	_ = unix.Munmap(s.head)
	_ = s.file.Close()
}

// memoryStore is what is left when the disk is full.
type memoryStore struct{ buf []byte }

func newMemoryStore(size int) *memoryStore { return &memoryStore{make([]byte, size)} }

func (s *memoryStore) size() int { return len(s.buf) }

func (s *memoryStore) write(from int64, p []byte) error {
	n := copy(s.buf[from%int64(len(s.buf)):], p)
	copy(s.buf, p[n:])
	return nil
}

func (s *memoryStore) read(from int64, p []byte) error {
	n := copy(p, s.buf[from%int64(len(s.buf)):])
	copy(p[n:], s.buf)
	return nil
}

func (s *memoryStore) mark(int64) {}
func (s *memoryStore) close()     {}

// Scrollback reads what a terminal printed last, limit bytes at most, from the
// file that its host has left; from is the number of the first of them. It is for
// terminals that have ended, however they did: of one that goes on, the oldest
// bytes may be overwritten meanwhile. fs.ErrNotExist when there is none.
func Scrollback(dir string, limit int) (p []byte, from int64, err error) {
	file, err := os.Open(filepath.Join(dir, scrollbackName))
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	var head [24]byte
	if _, err := io.ReadFull(file, head[:]); err != nil || string(head[:8]) != fileMagic {
		return nil, 0, fmt.Errorf("%s is no scrollback: %w", file.Name(), fs.ErrNotExist)
	}
	size, end := int64(binary.LittleEndian.Uint64(head[8:])), int64(binary.LittleEndian.Uint64(head[16:]))
	if size < minScrollbackBytes || size > maxScrollbackBytes || end < 0 {
		return nil, 0, fmt.Errorf("%s is no scrollback: %w", file.Name(), fs.ErrNotExist)
	}
	from = max(0, end-int64(limit))
	if end > size {
		// A host that was killed may have written one piece more than it marked.
		from = max(from, min(end, end-size+int64(pieceBytes(int(size)))))
	}
	p = make([]byte, end-from)
	s := fileStore{file: file, bytes: int(size)}
	if err := s.read(from, p); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return p, from, nil
}
