package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// archive moves old rows of the ledger to compressed files. It may take minutes;
// who hangs up stops it where it is, and the next call goes on.
func (h *handler) archive(r *http.Request) (int, any, error) {
	var in struct {
		Before string `json:"before"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	before, err := parseInstant("before", in.Before)
	if err != nil {
		return 0, nil, err
	}
	if before.IsZero() {
		return 0, nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "before", "name the date before which rows are archived")
	}
	now := time.Now()
	out, err := ledger.Archive(r.Context(), h.store, before, now)
	if err != nil {
		return 0, nil, archiveFailure(err)
	}
	if out.Rows == 0 {
		return http.StatusOK, out, nil
	}
	err = h.store.Update(r.Context(), func(tx *store.Tx) error {
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: "ledger.archive", Resource: "ledger", From: origin, Detail: fmt.Sprintf("%d rows, up to row %d", out.Rows, out.Through),
		})
	})
	return http.StatusOK, out, err
}

// archiveFailure tells the operator all of what is theirs to mend.
func archiveFailure(err error) error {
	var young *ledger.ArchiveAgeError
	var lost *ledger.ArchiveError
	var wrong *ledger.Disagreement
	switch {
	case errors.As(err, &young):
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", "before", young.Error())
	case errors.Is(err, ledger.ErrArchiving):
		return web.Fail(http.StatusConflict, "conflict", "", ledger.ErrArchiving.Error())
	case errors.As(err, &lost):
		return web.Fail(http.StatusInternalServerError, "archive_unreadable", "", lost.Error())
	case errors.As(err, &wrong):
		return web.Fail(http.StatusInternalServerError, "books_disagree", "", wrong.Error())
	}
	return err
}
