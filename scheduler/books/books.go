package books

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// When what is verified.
const (
	lookEvery = time.Minute
	// A checkpoint is due when so many rows came since the last, or when any came
	// and it is so old.
	checkpointRows = 50_000
	checkpointAge  = 10 * time.Minute
	// All of the books are verified in the hour that begins at fullHour of the box's
	// clock, unless that was done less than fullRest ago; and at any hour when it is
	// fullOverdue since, for boxes that are switched off at night.
	fullHour    = 3
	fullRest    = 12 * time.Hour
	fullOverdue = 48 * time.Hour
	// retryAfter is how long after a verification that failed the next one comes.
	retryAfter = time.Hour
	// niceness of the thread that verifies all of the books.
	niceness = 15
)

// Check verifies what came since the last checkpoint; all of the books, if there
// is none. It is called before anything else runs. A *ledger.Disagreement must
// stop the start.
func Check(ctx context.Context, st *store.Store, log *slog.Logger) error {
	begun := time.Now()
	var r ledger.Report
	err := st.View(func(tx *store.Tx) (err error) { r, err = ledger.VerifySince(tx); return err })
	var wrong *ledger.Disagreement
	if errors.As(err, &wrong) {
		return fmt.Errorf("the books do not agree, and EcoLink does not serve money that is wrong (`ecolink ledger verify` looks at all of it): %w", wrong)
	}
	if err != nil {
		return fmt.Errorf("verify the books: %w", err)
	}
	log.Info("the books agree since they were last checked", "rows", r.Rows, "checked", r.Rows-r.From+1, "took", time.Since(begun).Round(time.Millisecond))
	return mark(ctx, st, r)
}

func mark(ctx context.Context, st *store.Store, r ledger.Report) error {
	return st.Update(ctx, func(tx *store.Tx) error { return ledger.SetCheckpoint(tx, r, time.Now()) })
}

// Keep moves the checkpoint on and verifies all of the books once a day, until ctx
// ends. A disagreement is an error in the log: the box goes on, since stopping it
// would end what people have paid for.
func Keep(ctx context.Context, st *store.Store, log *slog.Logger) error {
	k := keeper{st, log}
	for wait := lookEvery; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = lookEvery
		if what, verify := k.due(time.Now()); verify != nil && !k.verify(ctx, what, verify) {
			wait = retryAfter
		}
	}
}

type keeper struct {
	store *store.Store
	log   *slog.Logger
}

type verification func(context.Context, *store.Tx) (ledger.Report, error)

// due says what is to be verified now; nil for nothing.
func (k keeper) due(now time.Time) (what string, f verification) {
	err := k.store.View(func(tx *store.Tx) error {
		what, f = "", nil
		rows, err := ledger.Newest(tx)
		if err != nil {
			return err
		}
		cp, _, err := ledger.Verified(tx)
		if err != nil {
			return err
		}
		fresh := rows - cp.Row
		switch since := now.Sub(cp.FullAt).Abs(); {
		case rows == 0:
		case since >= fullOverdue || now.Hour() == fullHour && since >= fullRest:
			what, f = "all of the books", ledger.VerifyContext
		case fresh >= checkpointRows || fresh > 0 && now.Sub(cp.At).Abs() >= checkpointAge:
			what, f = "the newest rows", func(_ context.Context, tx *store.Tx) (ledger.Report, error) { return ledger.VerifySince(tx) }
		}
		return nil
	})
	if err != nil {
		k.log.Error("the books can't be read", "err", err)
	}
	return what, f
}

// verify does it in a thread of its own, which gives way to all others, and tells
// whether the books agree.
func (k keeper) verify(ctx context.Context, what string, f verification) bool {
	begun := time.Now()
	var r ledger.Report
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its niceness
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness)
		err = k.store.View(func(tx *store.Tx) (err error) { r, err = f(ctx, tx); return err })
	}()
	<-done
	if err == nil {
		err = mark(ctx, k.store, r)
	}
	var wrong *ledger.Disagreement
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &wrong):
		k.log.Error("the books do not agree: stop EcoLink and restore the newest backup that verifies", "what", what, "row", wrong.Seq, "err", wrong)
	case err != nil:
		k.log.Error("the books could not be verified; will be tried again", "what", what, "err", err)
	case r.From == 1:
		k.log.Info("the books agree", "rows", r.Rows, "accounts", r.Accounts, "took", time.Since(begun).Round(time.Millisecond))
	}
	return err == nil
}
