package web

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

func TestErrorsOfTheLedgerHaveTheirStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
		logged bool
	}{
		{&ledger.InsufficientError{Needed: 2, Available: 1}, 402, "insufficient_balance", false},
		{&ledger.CapError{APIKey: 3, Cap: 2, Spent: 1}, 402, "spend_cap_reached", false},
		{ledger.ErrKeyReused, 409, "conflict", false},
		{ledger.ErrAmount, 422, "unprocessable", false},
		{&ledger.TextError{Field: "source tag", Limit: 255}, 422, "unprocessable", false},
		{ledger.ErrNoReason, 422, "unprocessable", false},
		{&usage.RangeError{Field: "to", Why: "less"}, 422, "unprocessable", false},
		{&ledger.OverageError{Hold: 1}, 503, "unavailable", true},
		{&ledger.ClockError{Now: time.Now(), Newest: time.Now()}, 503, "unavailable", true},
		{&ledger.ArchiveError{Path: "/var/lib/x", Err: unix.ENOENT}, 503, "unavailable", true},
		{store.ErrDamaged, 503, "unavailable", true},
		{store.ErrBroken, 503, "unavailable", true},
		{unix.ENOSPC, 503, "unavailable", true},
		{unix.EROFS, 503, "unavailable", true},
	} {
		var log strings.Builder
		f := Explain(context.Background(), slog.New(slog.NewTextHandler(&log, nil)), fmt.Errorf("charge /var/lib/x: %w", c.err))
		if f.Status != c.status || f.Code != c.code || c.logged && strings.Contains(f.Message, "/var/lib") || (log.Len() > 0) != c.logged {
			t.Errorf("%v: %+v, log %q", c.err, f, log.String())
		}
	}
}
