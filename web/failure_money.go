package web

import (
	"errors"
	"net/http"
	"syscall"

	"ecolink/ledger"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

// explainMoney is Explain for the errors of the ledger and its database; nil for
// others.
func explainMoney(err error) *Failure {
	var short *ledger.InsufficientError
	var capped *ledger.CapError
	var text *ledger.TextError
	var stretch *usage.RangeError
	switch {
	case errors.As(err, &short):
		return Fail(http.StatusPaymentRequired, "insufficient_balance", "", short.Error())
	case errors.As(err, &capped):
		return Fail(http.StatusPaymentRequired, "spend_cap_reached", "", capped.Error())
	case errors.Is(err, ledger.ErrKeyReused):
		return Fail(http.StatusConflict, "conflict", "Idempotency-Key", err.Error())
	case errors.Is(err, ledger.ErrAmount), errors.Is(err, ledger.ErrTooMuch), errors.Is(err, ledger.ErrOverflow):
		return Fail(http.StatusUnprocessableEntity, "unprocessable", "amount", err.Error()+"; write it like 25.00")
	case errors.As(err, &text):
		return Fail(http.StatusUnprocessableEntity, "unprocessable", "", text.Error())
	case errors.Is(err, ledger.ErrNoReason):
		return Fail(http.StatusUnprocessableEntity, "unprocessable", "reason", ledger.ErrNoReason.Error())
	case errors.As(err, &stretch):
		return Fail(http.StatusUnprocessableEntity, "unprocessable", stretch.Field, stretch.Error())
	}
	return explainBooks(err)
}

// explainBooks tells of books that can't be written, or not read. Who asks can do
// nothing about it; the operator can, and finds the rest in the log.
func explainBooks(err error) *Failure {
	unavailable := func(message string) *Failure {
		return Fail(http.StatusServiceUnavailable, "unavailable", "", message)
	}
	var clock *ledger.ClockError
	var over *ledger.OverageError
	var archive *ledger.ArchiveError
	switch {
	case errors.As(err, &archive):
		return unavailable("old transactions lie in an archive that can't be read: balances are right, and nothing was changed; tell the operator, who finds in the log what to do")
	case errors.Is(err, store.ErrDamaged):
		return unavailable("the box's database can't be read: nothing was changed; tell the operator, who finds in the log what to do")
	case errors.Is(err, store.ErrBroken):
		return unavailable("the box's disk has failed and nothing is written any more: tell the operator")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return unavailable("the box's disk is full: nothing was changed; ask the operator to make room, and try again")
	case errors.Is(err, syscall.EROFS):
		return unavailable("the box's disk can't be written: nothing was changed; tell the operator")
	case errors.As(err, &clock):
		return unavailable(clock.Error())
	case errors.As(err, &over):
		return unavailable(over.Error())
	}
	return nil
}

// whereFrom is for the log: where a file turned out to be unreadable.
func whereFrom(err error) []any {
	var unreadable *store.UnreadableError
	if errors.As(err, &unreadable) {
		return []any{"stack", string(unreadable.Stack)}
	}
	return nil
}
