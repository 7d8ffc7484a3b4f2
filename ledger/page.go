package ledger

import (
	"encoding/binary"
	"fmt"
)

// Rows lie in pages: runs of rows, one after the other, each with its length
// before it and its hash behind it. A page is what the database reads and writes
// at once. A page that is full never changes.

// appendFramed adds a row to a page.
func appendFramed(page, row []byte, h Hash) []byte {
	page = binary.AppendUvarint(page, uint64(len(row)))
	page = append(page, row...)
	return append(page, h[:]...)
}

// framed is a row of a page that has not been decoded.
type framed struct {
	row  []byte
	hash Hash
	size int // in the page
}

func (f framed) decode() (Transfer, error) {
	t, err := decodeRow(f.row)
	t.Hash = f.hash
	return t, err
}

// nextFramed takes the first row off a page; ok is false at its end.
func nextFramed(page []byte) (f framed, rest []byte, ok bool, err error) {
	if len(page) == 0 {
		return f, nil, false, nil
	}
	r := reader{raw: page}
	f.row = r.bytes(r.uvarint())
	f.hash = r.hash()
	f.size = len(page) - len(r.raw)
	return f, r.raw, r.err == nil, r.err
}

// nth finds a row of a page by its place.
func nth(page []byte, n int64) (Transfer, bool, error) {
	f, ok, err := nthFramed(page, n)
	if err != nil || !ok {
		return Transfer{}, false, err
	}
	t, err := f.decode()
	return t, err == nil, err
}

func nthFramed(page []byte, n int64) (framed, bool, error) {
	for {
		f, rest, ok, err := nextFramed(page)
		if err != nil || !ok || n == 0 {
			return f, ok && err == nil, err
		}
		n--
		page = rest
	}
}

// decodePage gives all rows of a page.
func decodePage(page []byte) (out []Transfer, err error) {
	for {
		f, rest, ok, err := nextFramed(page)
		if err != nil || !ok {
			return out, err
		}
		t, err := f.decode()
		if err != nil {
			return out, fmt.Errorf("row %d of a page: %w", len(out)+1, err)
		}
		out = append(out, t)
		page = rest
	}
}
