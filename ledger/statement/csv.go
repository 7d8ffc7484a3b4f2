package statement

import (
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ecolink/ledger/store"
)

// columns is the header of the CSV form.
var columns = [...]string{
	"record", "id", "time", "type", "amount", "available_change", "held_change", "balance_after", "held_after",
	"description", "resource", "hold_id", "api_key_id", "tag", "request_id",
	"model", "input_tokens", "output_tokens", "images", "audio_ms", "video_ms", "seconds", "bytes",
}

// WriteCSV writes the statement as RFC 4180 has it: lines end with CRLF, all have
// the same columns, the first line names them. The first column says what a line
// is: "opening" and "closing" are the balances, "row" is a row of the journal and
// "total" the sum of a type's rows. Times are RFC 3339, UTC; money is decimal
// strings in US dollars.
//
// Spreadsheets take a cell that begins with = + - or @ for a formula, and texts
// come from anybody: such a text has an apostrophe put before it, and so has such a
// sign behind a semicolon, a tab or a line break in it, which end a cell in some
// countries. Numbers have none.
func (s *Statement) WriteCSV(ctx context.Context, w io.Writer, st *store.Store) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	write := func(cells map[string]string) error {
		line := make([]string, len(columns))
		for n, name := range columns {
			line[n] = cells[name]
		}
		return out.Write(line)
	}
	if err := out.Write(columns[:]); err != nil {
		return err
	}
	if err := write(balanceCells("opening", s.From, s.Opening)); err != nil {
		return err
	}
	for t, err := range s.All(ctx, st) {
		if err != nil {
			return err
		}
		if err := out.Write(RowOf(t).cells()); err != nil {
			return err
		}
	}
	if err := write(balanceCells("closing", s.To, s.Closing)); err != nil {
		return err
	}
	for _, t := range s.Totals {
		err := write(map[string]string{
			"record": "total", "type": string(t.Type), "amount": t.Amount.String(), "available_change": t.Available.String(),
			"held_change": t.Held.String(), "description": strconv.FormatInt(t.Rows, 10) + " rows",
		})
		if err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func balanceCells(record string, at time.Time, b Funds) map[string]string {
	return map[string]string{
		"record": record, "time": instant(at), "balance_after": b.Available.String(), "held_after": b.Held.String(),
	}
}

// cells are in the order of the columns.
func (r Row) cells() []string {
	return []string{
		"row", number(r.ID), instant(r.Time), string(r.Type), r.Amount.String(), r.AvailableChange.String(), r.HeldChange.String(),
		r.BalanceAfter.String(), r.HeldAfter.String(), Harmless(r.Description), Harmless(r.Resource), number(int64(r.HoldID)),
		number(int64(r.APIKeyID)), Harmless(r.Tag), Harmless(r.RequestID), Harmless(r.Usage.Model), number(r.Usage.InputTokens),
		number(r.Usage.OutputTokens), number(r.Usage.Images), number(r.Usage.AudioMillis), number(r.Usage.VideoMillis),
		number(r.Usage.Seconds), number(r.Usage.Bytes),
	}
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// number is empty for what there is none of.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Characters that begin a formula: with the full-width forms that some
// spreadsheets know; and those that may end a cell, where a spreadsheet takes
// semicolons or tabs to stand between cells.
const (
	formulaSigns = "=+-@＝＋－＠"
	cellEnds     = ";\t\r\n"
)

// Harmless keeps a text, and each part of it that may come to be a cell of its own,
// from being taken for a formula, as OWASP's "CSV Injection" has it. Quotes and
// spaces before a sign may be dropped by who reads it.
func Harmless(s string) string {
	if !strings.ContainsAny(s, formulaSigns+cellEnds) {
		return s
	}
	var out strings.Builder
	if strings.IndexByte(cellEnds, s[0]) >= 0 { // the first cell is empty, or the reader drops what is before the sign
		out.WriteByte('\'')
	}
	for begins := true; s != ""; s = s[1:] {
		if begins && formula(s) {
			out.WriteByte('\'')
		}
		out.WriteByte(s[0])
		begins = strings.IndexByte(cellEnds, s[0]) >= 0
	}
	return out.String()
}

// formula tells whether a cell that begins like this may be taken for a formula.
func formula(s string) bool {
	first, size := utf8.DecodeRuneInString(strings.TrimLeft(s, `" `))
	return size > 0 && strings.ContainsRune(formulaSigns, first)
}
