package files

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Kind says what is wrong, for programs.
type Kind string

// The kinds of errors.
const (
	Invalid  Kind = "invalid"   // such a path can't be, or leads out of the volume
	NotFound Kind = "not_found" // nothing is there
	Exists   Kind = "exists"    // something is there already
	Conflict Kind = "conflict"  // what is there is not of the right kind, or in use
	Full     Kind = "full"      // the volume has no room for it
)

// Error is something that the user can mend. All else is the machine's fault.
type Error struct {
	Kind    Kind
	Field   string // which of the caller's arguments is at fault: path, to…
	Message string // what happened, to what, and what to do
	Err     error
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the file system's own error, when there is one.
func (e *Error) Unwrap() error { return e.Err }

func fail(kind Kind, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}

// explain makes an error of the file system one for people. What is not theirs to
// mend stays as it is.
func explain(err error, field, path string) error {
	if err == nil {
		return nil
	}
	if ours := (*Error)(nil); errors.As(err, &ours) {
		return ours
	}
	shown := show(path)
	say := func(kind Kind, format string, args ...any) error {
		return &Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...), Err: err}
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		if escaped := (*fs.PathError)(nil); errors.As(err, &escaped) && !errors.Is(err, fs.ErrClosed) {
			return say(Invalid, "%s goes through a link that leads out of the volume: such links are not followed", shown)
		}
		return err
	}
	switch errno {
	case unix.ENOENT:
		return say(NotFound, "there is no %s in this volume: look at its folder for the right name", shown)
	case unix.EEXIST:
		return say(Exists, "%s is there already: choose another name, or overwrite it", shown)
	case unix.ENOTDIR:
		return say(Conflict, "%s is a file, or goes through one, where a folder is needed", shown)
	case unix.EISDIR:
		return say(Conflict, "%s is a folder, where a file is needed", shown)
	case unix.ENOTEMPTY:
		return say(Conflict, "the folder %s is not empty: remove what is in it, too, with recursive", shown)
	case unix.EINVAL:
		return say(Conflict, "%s can't be moved into itself", shown)
	case unix.ELOOP:
		return say(Invalid, "%s is a link, or goes through too many, and is not followed", shown)
	case unix.EXDEV:
		return say(Invalid, "%s leads out of the volume", shown)
	case unix.ENAMETOOLONG:
		return say(Invalid, "%s is too long for this volume", shown)
	case unix.ENOSPC, unix.EDQUOT:
		return full(field, err)
	case unix.EPERM, unix.EACCES, unix.ENXIO, unix.ETXTBSY, unix.EBUSY:
		return say(Conflict, "the volume's file system refuses that for %s (%v)", shown, errno)
	case unix.EROFS:
		return say(Conflict, "the volume can only be read at the moment: tell the operator")
	}
	return err
}

func full(field string, err error) error {
	return &Error{Kind: Full, Field: field, Message: "the volume is full: remove something from it, or grow it, and send it again", Err: err}
}

// show writes a path for a message, of a length that fits one.
func show(path string) string {
	const most = 120
	if path == "." {
		return "/"
	}
	if len(path) > most {
		path = "…" + path[len(path)-most:]
	}
	return fmt.Sprintf("%q", path)
}
