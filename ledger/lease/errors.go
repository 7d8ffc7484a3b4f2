package lease

import (
	"errors"
	"fmt"
	"time"

	"ecolink/ledger"
)

// Errors that callers tell apart.
var (
	// ErrClosed: the Spender was closed.
	ErrClosed = errors.New("EcoLink is shutting down and takes no more requests: try again in a moment")
	// ErrSpent: a reservation was charged or released before.
	ErrSpent = errors.New("this reservation was already charged or released")
	// ErrReplaced: another Spender was opened over the same database.
	ErrReplaced = errors.New("another spender has taken over this database: only one may be open")
	// ErrEstimate: an estimate or a charge is below zero or beyond a million dollars.
	ErrEstimate = errors.New("the amount must not be negative, nor above $1000000.00")
	// ErrQuantity: a usage has a quantity below zero.
	ErrQuantity = errors.New("a quantity of the usage is negative")
)

// BacklogError: charges can't be written to the database as fast as they come, or
// not at all. No new request is admitted until they are; 503.
type BacklogError struct {
	Records int           // that wait
	Oldest  time.Duration // how long the first of them has waited
	Cause   error         // why the last attempt failed, if it did
}

func (e *BacklogError) Error() string {
	text := fmt.Sprintf("%d charges wait to be written, the first of them for %s", e.Records, e.Oldest.Round(time.Millisecond))
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", text, e.Cause)
	}
	return text + ": the disk is slow, try again in a moment"
}

func (e *BacklogError) Unwrap() error { return e.Cause }

// UnsureError: a charge is neither in the log nor in the database yet. It is in
// memory and will be written when the disk lets it; it is lost if the process
// dies before. It must not be charged again.
type UnsureError struct {
	Request string
	Cause   error
}

func (e *UnsureError) Error() string {
	return fmt.Sprintf("the charge of request %s is in memory only, and will be written when the disk takes it: make room or mend the disk: %v", e.Request, e.Cause)
}

func (e *UnsureError) Unwrap() error { return e.Cause }

// DamagedError: a segment of the log does not have what was written to it.
type DamagedError struct {
	Path   string
	Offset int64
	What   string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the log of charges %s is damaged at byte %d (%s): check the disk; to go on without the charges that it has from there, move the file away and start again: they are then not charged to anybody",
		e.Path, e.Offset, e.What)
}

// tooLong is the ledger's error for a text.
func tooLong(field string, limit int) error { return &ledger.TextError{Field: field, Limit: limit} }
