package volume

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound is what a volume or snapshot that is not there gives.
var ErrNotFound = errors.New("not found")

// ErrInUse is what Open gives when another process has the folder.
var ErrInUse = errors.New("another process has these volumes")

// FullError says that the host's disk can't promise so much.
type FullError struct {
	Needs   int64 // bytes asked for
	Free    int64 // bytes that could be promised now
	Reserve int64 // bytes that are kept for the host
	// Working: other files are being made. What they take is counted high, so there
	// may be more when they are done.
	Working bool
}

func (e *FullError) Error() string {
	return fmt.Sprintf("the storage pool has %s free and %s is needed (%s stay reserved for the host): choose a smaller size, delete what is not needed, or ask the operator for a larger disk",
		sizeText(e.Free), sizeText(e.Needs), sizeText(e.Reserve))
}

// Permanent is true once nothing else is being made: trying again does not make a
// disk larger.
func (e *FullError) Permanent() bool { return !e.Working }

// CorruptError says that an image is damaged and was not mounted.
type CorruptError struct {
	Volume string
	Image  string // path of the damaged file
	Report string // last lines of e2fsck
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("volume %s is damaged and was not mounted: restore a snapshot, or let the operator run `e2fsck -f %s`, which asks before it changes anything (%s)",
		e.Volume, e.Image, e.Report)
}

// Permanent is true: somebody has to look.
func (e *CorruptError) Permanent() bool { return true }

// LostError says that the image of a volume is not there: it was never made, or is not
// on this box, as after a restore of records alone.
type LostError struct {
	Volume string
	Image  string // path where it should be
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the files of volume %s are not on this box: the operator can put them back as %s, and else the volume can only be deleted", e.Volume, e.Image)
}

// Unwrap makes it an ErrNotFound.
func (e *LostError) Unwrap() error { return ErrNotFound }

// Permanent is true: somebody has to bring the image.
func (e *LostError) Permanent() bool { return true }

// BusyError says that a volume is in use.
type BusyError struct {
	Volume string
	Users  []string // empty when it is none of ours: another process has the image
	// Working: nobody uses it; another call works on it, which will end.
	Working bool
}

func (e *BusyError) Error() string {
	if e.Working {
		return fmt.Sprintf("volume %s is being copied, checked, grown or put back: try again when that is done", e.Volume)
	}
	if len(e.Users) == 0 {
		return fmt.Sprintf("volume %s is in use by another process of this host: `losetup --all` and `lslocks` show which", e.Volume)
	}
	return fmt.Sprintf("volume %s is in use by %s: detach it first", e.Volume, strings.Join(e.Users, ", "))
}

// GrowLaterError says that a volume's new size is reserved, and that its file
// system takes it at the first mount after nobody has had it mounted.
type GrowLaterError struct{ Volume string }

func (e *GrowLaterError) Error() string {
	return fmt.Sprintf("volume %s has its new size reserved and gets it once all have detached it and it is attached again: this machine does not let EcoLink grow a file system in use (CAP_SYS_RESOURCE is withheld)", e.Volume)
}

// refusal is an error that trying again can't mend.
type refusal struct{ message string }

func (e *refusal) Error() string   { return e.message }
func (e *refusal) Permanent() bool { return true }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

func sizeText(bytes int64) string {
	const unit = 1000
	if bytes < 0 {
		bytes = 0
	}
	value, n := float64(bytes), 0
	for value >= unit && n < 6 {
		value /= unit
		n++
	}
	if n == 0 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGTPE"[n-1])
}
