package ledger

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"ecolink/ledger/identity"
)

// Errors that callers tell apart.
var (
	// ErrKeyReused: an idempotency key came back with another request.
	ErrKeyReused = errors.New("this idempotency key was already used for another request; use a new key")
	// ErrAmount: an amount that must be above zero is not.
	ErrAmount = errors.New("the amount must be above zero")
	// ErrTooMuch: an amount that is larger than a row may be.
	ErrTooMuch = errors.New("the amount is more than $" + maxAmount.String() + ", the most that one row may move")
	// ErrNoHold is returned for a hold that does not exist.
	ErrNoHold = errors.New("no such hold")
	// ErrHoldSettled is returned when a hold that has ended is to be changed.
	ErrHoldSettled = errors.New("the hold has already been settled")
	// ErrNoReason: a correction came without a reason.
	ErrNoReason = errors.New("a correction needs a reason, which stands in the account's statement for good")
)

// InsufficientError is a debit that the available balance does not cover.
type InsufficientError struct {
	Needed, Available MicroUSD
}

func (e *InsufficientError) Error() string {
	return fmt.Sprintf("this needs $%s and $%s is available: add credit or ask for less", e.Needed, e.Available)
}

// OverageError is a settlement for more than the hold and the overage that was
// agreed on when it was placed. It is the caller's mistake: usage that nothing
// bounds must not be charged.
type OverageError struct {
	Hold        HoldID
	Used, Limit MicroUSD
}

func (e *OverageError) Error() string {
	return fmt.Sprintf("hold %d covers $%s with its overage, and $%s is to be charged: nothing was changed", e.Hold, e.Limit, e.Used)
}

// CapError is a charge that would take an API key over its monthly spend cap.
type CapError struct {
	APIKey     identity.KeyID
	Cap, Spent MicroUSD
	Until      time.Time // when the next month begins
}

func (e *CapError) Error() string {
	return fmt.Sprintf("API key %d has spent $%s of its cap of $%s a month: an owner of the account can raise the cap, or wait until %s",
		e.APIKey, e.Spent, e.Cap, e.Until.Format("2 January, 15:04 UTC"))
}

// clockTolerance is how far the box's clock may be put back without anybody
// having to say that it is right.
const clockTolerance = 5 * time.Minute

// ClockLeap is how long after the newest row another may come without anybody
// having to say that the clock is right. It is longer than any holidays.
const ClockLeap = 92 * 24 * time.Hour

// ClockError: the box's clock is behind the newest row of the journal, or far
// ahead of it.
type ClockError struct{ Now, Newest time.Time }

func (e *ClockError) Error() string {
	how := "before"
	if e.Now.After(e.Newest) {
		how = "long after"
	}
	return fmt.Sprintf("the box's clock says %s, which is %s the newest row of the ledger (%s): set the clock right; if it is right now, `ecolink ledger accept-clock` says so",
		e.Now.Format(time.RFC3339), how, e.Newest.Format(time.RFC3339))
}

// TextError is a text that is too long for a row.
type TextError struct {
	Field string
	Limit int
}

func (e *TextError) Error() string {
	return fmt.Sprintf("the %s is longer than %d bytes: shorten it", e.Field, e.Limit)
}

// cut shortens s to n bytes of valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
