package statement

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Document is the JSON form. It is written piece by piece: Rows is what a reader
// finds there.
type Document struct {
	Account  identity.AccountID `json:"account"`
	From     time.Time          `json:"from"` // rows from this instant on
	To       time.Time          `json:"to"`   // and before this one
	Currency string             `json:"currency"`
	Opening  Funds              `json:"opening"`
	Closing  Funds              `json:"closing"`
	Totals   []Total            `json:"totals"`
	Rows     []Row              `json:"rows"` // oldest first
}

// WriteJSON writes the statement as one JSON document, with its rows last.
func (s *Statement) WriteJSON(ctx context.Context, w io.Writer, st *store.Store) error {
	d := Document{Account: s.Account, From: s.From, To: s.To, Currency: "USD", Opening: s.Opening, Closing: s.Closing, Totals: s.Totals, Rows: []Row{}}
	if d.Totals == nil {
		d.Totals = []Total{}
	}
	head, err := json.Marshal(d)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	// What follows are the rows, whose list is the last thing in it.
	if _, err := out.Write(head[:len(head)-len("]}")]); err != nil {
		return err
	}
	separator := "\n"
	for t, err := range s.All(ctx, st) {
		if err != nil {
			return err
		}
		row, err := json.Marshal(RowOf(t))
		if err != nil {
			return err
		}
		if _, err := out.WriteString(separator); err != nil {
			return err
		}
		if _, err := out.Write(row); err != nil {
			return err
		}
		separator = ",\n"
	}
	if _, err := out.WriteString("]}\n"); err != nil {
		return err
	}
	return out.Flush()
}
