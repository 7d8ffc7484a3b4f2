package backup

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"ecolink/ledger"
)

// format is the version of the format. A reader refuses one that it does not know.
const format = 1

// The parts of a backup, in this order; archives lie in ledger.ArchiveFolder.
const (
	databaseName = "ecolink.db"
	manifestName = "manifest.json"
)

// Limits of a backup.
const (
	maxArchives      = 1 << 16
	maxManifestBytes = 32 << 20
	// maxWindowBytes is the memory that unpacking may take.
	maxWindowBytes = 32 << 20
)

// Manifest says what a backup has.
type Manifest struct {
	Format  int         `json:"format"`
	TakenAt time.Time   `json:"taken_at"`
	EcoLink string      `json:"ecolink"` // the version that wrote it
	Row     int64       `json:"row"`     // the newest of the ledger; 0: it has none
	Hash    ledger.Hash `json:"hash"`    // of that row
	Parts   []Part      `json:"parts"`
}

// Part is a file in a backup.
type Part struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// DatabaseBytes is the size of the database.
func (m Manifest) DatabaseBytes() int64 {
	if len(m.Parts) == 0 {
		return 0
	}
	return m.Parts[0].Bytes
}

// Errors.
var (
	// ErrBroken: the backup was cut short, or changed after it was written.
	ErrBroken = errors.New("this is not a whole backup: fetch it again, or use another one")
	// ErrOccupied: a box's records are in the folder that is to be restored to.
	ErrOccupied = errors.New("a backup is restored to a folder without a box only: stop EcoLink and move what is there away by hand")
)

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBroken, fmt.Errorf(format, args...))
}

// archivePath is how archives are called in a backup.
var archivePath = regexp.MustCompile(`^` + ledger.ArchiveFolder + `/journal-\d{12,18}-\d{12,18}\.eca$`)

// count is a writer that counts.
type count struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *count) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
