package console

import (
	"errors"
	"net/http"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/statement"
	"ecolink/ledger/store"
	"ecolink/web"
)

// printedRows is how many rows a printed statement may have; more is for the CSV.
const printedRows = 2000

// statementView is a month's statement to print.
type statementView struct {
	frame
	spending
	*statement.Statement
	Rows []ledger.Transfer
	Made time.Time
}

// statement writes a month's statement: as a page to print, or as CSV or JSON.
func (c *console) statement(w http.ResponseWriter, r *http.Request, v *visit) error {
	now := time.Now()
	from, to := statement.Month(monthOf(r.URL.Query().Get("month"), now))
	format, limit := r.URL.Query().Get("format"), int64(0)
	if format != "csv" && format != "json" {
		limit = printedRows
	}
	s, err := statement.Open(r.Context(), c.Store, v.account.ID, from, to, limit)
	if errors.Is(err, statement.ErrTooLarge) {
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", "month",
			"this month has more transactions than a printed statement: take the CSV from the Billing page")
	}
	if err != nil {
		return err
	}
	if limit == 0 {
		return c.statementFile(w, r, s, format)
	}
	out := statementView{frame: c.frame(r, v, "Statement"), Statement: s, Made: now}
	for t, err := range s.All(r.Context(), c.Store) {
		if err != nil {
			return err
		}
		out.Rows = append(out.Rows, t)
	}
	err = c.Store.View(func(tx *store.Tx) (err error) {
		out.spending, err = readSpending(tx, v.account, from, now)
		return err
	})
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, statementPage(out))
}

func (c *console) statementFile(w http.ResponseWriter, r *http.Request, s *statement.Statement, format string) error {
	write, kind := s.WriteCSV, "text/csv; charset=utf-8"
	if format == "json" {
		write, kind = s.WriteJSON, "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="ecolink-statement-`+s.From.Format("2006-01")+"."+format+`"`)
	if err := write(r.Context(), w, c.Store); err != nil {
		if r.Context().Err() == nil {
			c.Log.ErrorContext(r.Context(), "a statement broke off", "request_id", web.RequestID(r.Context()), "err", err)
		}
		panic(http.ErrAbortHandler) // half a statement must not look like a whole one
	}
	return nil
}
