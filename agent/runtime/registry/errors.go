package registry

import (
	"errors"
	"fmt"
	"time"
)

// ErrStalled is the error of a registry that sends nothing any more.
var ErrStalled = errors.New("the registry stopped sending")

// ErrTooLong is the error of a registry that sends a manifest or token beyond
// every sense.
var ErrTooLong = errors.New("the registry's answer is too long")

// ForbiddenError is the refusal to connect to an address. It is for the log: who
// named the host is told no more than of one that is not there.
type ForbiddenError struct{ Address, Why string }

// Error says what was refused.
func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("connections to %s are not allowed: %s", e.Address, e.Why)
}

// BusyError is the error of a registry that wants to be asked later than the
// caller can wait.
type BusyError struct {
	Host  string
	Until time.Time
}

// Error says when it may be asked again.
func (e *BusyError) Error() string {
	wait := max(time.Until(e.Until), 0).Round(time.Second)
	return fmt.Sprintf("%s takes no more requests for now: it may be asked again in %s", e.Host, max(wait, time.Second))
}
