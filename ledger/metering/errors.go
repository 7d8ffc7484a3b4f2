package metering

import (
	"errors"
	"fmt"
)

// The kinds of Error, for errors.Is. Beside them, functions give the ledger's own
// errors: *ledger.InsufficientError, *ledger.CapError, *ledger.ClockError.
var (
	ErrInvalid   = errors.New("invalid") // Error.Field names what
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("conflict")   // its state is in the way
	ErrNotPriced = errors.New("not priced") // the operator has set no price
	// ErrBehind: so much is due that one call does not settle it. Advance or
	// BillStorage, called until nothing more is due, does.
	ErrBehind = errors.New("too far behind")
)

// Error is what the package returns when the caller can do something about it.
// Any other error is the disk's or ours. Nothing has been written.
type Error struct {
	Kind    error  // one of the sentinels above
	Field   string // of ErrInvalid: the input that is at fault
	Message string // for people; ends with the next step
}

// Error is the message for people.
func (e *Error) Error() string { return e.Message }

// Unwrap makes errors.Is find the kind.
func (e *Error) Unwrap() error { return e.Kind }

func fail(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func invalid(field, format string, args ...any) error {
	return &Error{Kind: ErrInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

func checkResource(s string) error {
	if s == "" || len(s) > maxResourceBytes {
		return invalid("resource", "a resource has 1 to %d bytes: name it like drive/7", maxResourceBytes)
	}
	return nil
}
