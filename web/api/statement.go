package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ecolink/ledger/statement"
	"ecolink/web"
)

// statementDocument has a name of its own in the document.
type statementDocument statement.Document

type statementInput struct {
	Month  string    `query:"month" doc:"A calendar month, UTC; the current one without it." example:"2026-11"`
	From   time.Time `query:"from" doc:"In place of a month: rows made from this instant on."`
	To     time.Time `query:"to" doc:"With from: rows made before this instant."`
	Format string    `query:"format" enum:"json,csv" default:"json"`
}

func (a *api) addStatement() {
	described := respond[statementDocument](a, "The statement, as a file.")
	described.Content["text/csv"] = &huma.MediaType{Schema: &huma.Schema{
		Type: huma.TypeString, Description: "RFC 4180, with a header line. The first column tells the opening and closing balance, rows and totals apart. " +
			"A text that a spreadsheet would take for a formula has an apostrophe before it.",
	}}
	register(a, huma.Operation{
		OperationID: "get-statement", Method: http.MethodGet, Path: "/v1/billing/statement", Tags: []string{tagBilling},
		Summary: "Write a statement",
		Description: "The balance at the beginning, every row, oldest first, the balance at the end and the totals by type. " +
			"What there was and what the rows changed is what there is then, to the millionth of a dollar.",
		Responses: map[string]*huma.Response{"200": described},
	}, a.statement)
}

func (a *api) statement(ctx context.Context, in *statementInput) (*stream, error) {
	from, to, name, err := in.stretch(time.Now())
	if err != nil {
		return nil, err
	}
	s, err := statement.Open(ctx, a.Store, web.CallerOf(ctx).Account, from, to, 0)
	if err != nil {
		return nil, err
	}
	return &stream{func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="ecolink-statement-%s.%s"`, name, in.Format))
		write, kind := s.WriteJSON, "application/json"
		if in.Format == "csv" {
			write, kind = s.WriteCSV, "text/csv; charset=utf-8"
		}
		w.Header().Set("Content-Type", kind)
		if err := write(ctx, w, a.Store); err != nil {
			if ctx.Err() == nil {
				web.Explain(ctx, a.Log, err)
			}
			panic(http.ErrAbortHandler) // half a statement must not look like a whole one
		}
	}}, nil
}

// stretch is what the statement is of, and how its file is called.
func (in *statementInput) stretch(now time.Time) (from, to time.Time, name string, err error) {
	refuse := func(param, why string) (time.Time, time.Time, string, error) {
		return from, to, "", web.Fail(http.StatusUnprocessableEntity, "unprocessable", param, why)
	}
	if in.From.IsZero() != in.To.IsZero() {
		return refuse("to", "from and to go together: name both, or a month")
	}
	if in.From.IsZero() {
		month, err := monthOr(in.Month, now)
		if err != nil {
			return from, to, "", err
		}
		from, to = statement.Month(month)
		return from, to, from.Format(monthFormat), nil
	}
	if in.Month != "" {
		return refuse("month", "name a month, or from and to, and not both")
	}
	if !in.From.Before(in.To) {
		return refuse("to", "it must be after from")
	}
	const day = "2006-01-02"
	return in.From, in.To, in.From.UTC().Format(day) + "-to-" + in.To.UTC().Format(day), nil
}
