package price

import (
	"errors"
	"fmt"
)

// The kinds of Error, for errors.Is. Callers map each to a status or an exit code.
var (
	ErrInvalid  = errors.New("invalid") // Error.Field names what
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict") // a limit is in the way
)

// Error is what the package returns when the operator can do something about it.
// Any other error is the disk's or ours.
type Error struct {
	Kind    error  // one of the sentinels above
	Field   string // the input that is at fault: item, amount, from or note
	Message string // for people; ends with the next step
}

// Error is the message for people.
func (e *Error) Error() string { return e.Message }

// Unwrap makes errors.Is find the kind.
func (e *Error) Unwrap() error { return e.Kind }

func fail(kind error, field, format string, args ...any) error {
	return &Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}
