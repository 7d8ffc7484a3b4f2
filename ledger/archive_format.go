package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// An archive is a header, blocks, an index of the blocks, and a footer that says
// where the index begins. All numbers are big-endian.
//
//	header  magic and version (8 bytes), first row, last row (8 each), hash before
//	        the first row, hash of the last row (32 each), CRC-32C of these (4)
//	block   rows, each with its length before it, compressed by itself with zstd;
//	        CRC-32C of what is compressed (4)
//	index   for each block: its first row, where it begins (8 each), how long it
//	        is without its CRC (4), the hash before its first row (32)
//	footer  where the index begins (8), how many blocks there are, CRC-32C of the
//	        index and of these two (4 each), magic (8)
//
// Rows have no hashes of their own here: those follow from the hash before the
// block, and the block is right if they lead to the hash before the next. One row
// is found by its place in the index, one read and one block's decompression.
const (
	archiveMagic     = "ECLARC\x00\x01" // the last byte is the version
	archiveEndMagic  = "ECLARC\x00\xff"
	archiveHeader    = 8 + 8 + 8 + 32 + 32 + 4
	archiveBlockLine = 8 + 8 + 4 + 32 // of the index
	archiveFooter    = 8 + 4 + 4 + 8
	blockCRC         = 4
)

// Limits of an archive.
const (
	// archiveBlockBytes is how much of rows is compressed together, at least:
	// whole pages until it is reached.
	archiveBlockBytes = 64 << 10
	// maxBlockBytes is the most that a block can have.
	maxBlockBytes = archiveBlockBytes + pageBytes
	// archiveRows is how many rows a file has at most, so that its index stays
	// small and a damaged disk takes few with it.
	archiveRows = 1 << 20
	// maxArchiveBlocks bounds the index of a file: a block has several rows.
	maxArchiveBlocks = archiveRows
)

var (
	errBroken        = errors.New("it is not as it was written")
	errArchiveSize   = fmt.Errorf("%w: it has another size", errBroken)
	errArchiveHeader = fmt.Errorf("%w: its header is damaged, or is another file's", errBroken)
	errArchiveIndex  = fmt.Errorf("%w: its index is damaged", errBroken)
)

// archiveBlock is a line of the index.
type archiveBlock struct {
	first  int64
	offset int64
	size   int64 // compressed, without the CRC
	before Hash
}

func archiveCRC(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func appendArchiveHeader(out []byte, f ArchiveFile) []byte {
	start := len(out)
	out = append(out, archiveMagic...)
	out = binary.BigEndian.AppendUint64(out, uint64(f.First))
	out = binary.BigEndian.AppendUint64(out, uint64(f.Last))
	out = append(out, f.Before[:]...)
	out = append(out, f.LastHash[:]...)
	return binary.BigEndian.AppendUint32(out, archiveCRC(out[start:]))
}

// checkArchiveHeader compares a header with what it should be.
func checkArchiveHeader(raw []byte, f ArchiveFile) error {
	version := len(archiveMagic) - 1
	if string(raw[:version]) == archiveMagic[:version] && raw[version] > archiveMagic[version] {
		return fmt.Errorf("it is of version %d, which this EcoLink does not know", raw[version])
	}
	if !bytes.Equal(raw, appendArchiveHeader(nil, f)) {
		return errArchiveHeader
	}
	return nil
}

// appendArchiveIndex writes the index, which begins at the offset, and the footer.
func appendArchiveIndex(out []byte, blocks []archiveBlock, offset int64) []byte {
	start := len(out)
	for _, b := range blocks {
		out = binary.BigEndian.AppendUint64(out, uint64(b.first))
		out = binary.BigEndian.AppendUint64(out, uint64(b.offset))
		out = binary.BigEndian.AppendUint32(out, uint32(b.size))
		out = append(out, b.before[:]...)
	}
	out = binary.BigEndian.AppendUint64(out, uint64(offset))
	out = binary.BigEndian.AppendUint32(out, uint32(len(blocks)))
	out = binary.BigEndian.AppendUint32(out, archiveCRC(out[start:]))
	return append(out, archiveEndMagic...)
}

// parseArchiveFooter gives where the index begins, in a file of the size.
func parseArchiveFooter(raw []byte, size int64) (offset int64, err error) {
	offset = int64(binary.BigEndian.Uint64(raw))
	count := int64(binary.BigEndian.Uint32(raw[8:]))
	if string(raw[16:]) != archiveEndMagic || count < 1 || count > maxArchiveBlocks ||
		offset < archiveHeader || offset != size-archiveFooter-count*archiveBlockLine {
		return 0, errArchiveIndex
	}
	return offset, nil
}

// parseArchiveIndex reads the index with its footer, and checks that the blocks
// lie one after the other from the header to the index.
func parseArchiveIndex(raw []byte, f ArchiveFile, offset int64) ([]archiveBlock, error) {
	checked := len(raw) - archiveFooter + 12
	if archiveCRC(raw[:checked]) != binary.BigEndian.Uint32(raw[checked:]) {
		return nil, errArchiveIndex
	}
	blocks := make([]archiveBlock, (len(raw)-archiveFooter)/archiveBlockLine)
	end, row := int64(archiveHeader), f.First
	for n := range blocks {
		line := raw[n*archiveBlockLine:]
		b := archiveBlock{
			first:  int64(binary.BigEndian.Uint64(line)),
			offset: int64(binary.BigEndian.Uint64(line[8:])),
			size:   int64(binary.BigEndian.Uint32(line[16:])),
		}
		copy(b.before[:], line[20:])
		if n == 0 && (b.first != row || b.before != f.Before) || b.first < row || b.first > f.Last || b.offset != end {
			return nil, errArchiveIndex
		}
		blocks[n], end, row = b, end+b.size+blockCRC, b.first+1
	}
	if end != offset {
		return nil, errArchiveIndex
	}
	return blocks, nil
}
