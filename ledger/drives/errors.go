package drives

import (
	"errors"
	"fmt"
)

// The kinds of Error, for errors.Is. Beside them, functions give the ledger's own
// errors: *ledger.InsufficientError, *ledger.CapError, *ledger.ClockError.
var (
	ErrInvalid  = errors.New("invalid") // Error.Field names what
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict") // its state, or a limit, is in the way
	ErrBusy     = errors.New("busy")     // the same request may work in a moment
)

// Error is what the package returns when the caller or its user can do something
// about it. Any other error is the disk's or ours. Nothing has been written.
type Error struct {
	Kind    error  // one of the sentinels above
	Field   string // the input that is at fault, as the API spells it
	Message string // for people; ends with the next step
}

// Error is the message for people.
func (e *Error) Error() string { return e.Message }

// Unwrap makes errors.Is find the kind.
func (e *Error) Unwrap() error { return e.Kind }

func invalid(field, format string, args ...any) error {
	return &Error{Kind: ErrInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

func conflict(field, format string, args ...any) error {
	return &Error{Kind: ErrConflict, Field: field, Message: fmt.Sprintf(format, args...)}
}

func busy(format string, args ...any) error {
	return &Error{Kind: ErrBusy, Message: fmt.Sprintf(format, args...)}
}
