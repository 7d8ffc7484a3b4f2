package identity

import (
	"errors"
	"fmt"
)

// The kinds of Error, for errors.Is. Callers map each to a status or an exit code.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("already exists")
	ErrInvalid      = errors.New("invalid") // Error.Field names what
	ErrUnauthorized = errors.New("unauthorized")
	ErrForbidden    = errors.New("forbidden")
	ErrConflict     = errors.New("conflict") // the state or a limit is in the way
	ErrBusy         = errors.New("busy")     // the same request may work in a moment
)

// Error is what the package returns when the caller or its user can do something
// about it. Any other error is the disk's or ours.
type Error struct {
	Kind    error  // one of the sentinels above
	Field   string // of ErrInvalid and ErrExists: the input that is at fault
	Message string // for people; ends with the next step
}

// Error is the message for people.
func (e *Error) Error() string { return e.Message }

// Unwrap makes errors.Is find the kind.
func (e *Error) Unwrap() error { return e.Kind }

func fail(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func failField(kind error, field, format string, args ...any) error {
	return &Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}
