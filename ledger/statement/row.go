package statement

import (
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
)

// Row is a row of the journal as a statement shows it.
type Row struct {
	ID              int64           `json:"id"`
	Time            time.Time       `json:"time"`
	Type            ledger.Type     `json:"type"`
	Amount          ledger.MicroUSD `json:"amount"` // below zero when it leaves the account, or what it can spend
	AvailableChange ledger.MicroUSD `json:"available_change"`
	HeldChange      ledger.MicroUSD `json:"held_change"`
	BalanceAfter    ledger.MicroUSD `json:"balance_after"`
	HeldAfter       ledger.MicroUSD `json:"held_after"`
	Description     string          `json:"description"`
	Resource        string          `json:"resource"`
	HoldID          ledger.HoldID   `json:"hold_id,omitempty"`
	APIKeyID        identity.KeyID  `json:"api_key_id,omitempty"`
	Tag             string          `json:"tag,omitempty"`
	RequestID       string          `json:"request_id"`
	Usage           ledger.Usage    `json:"usage,omitzero"`
}

// RowOf is what a statement shows of a row.
func RowOf(t ledger.Transfer) Row {
	available, held := t.Changes()
	return Row{
		ID: t.Seq, Time: t.At.UTC(), Type: t.Type, Amount: t.Signed(), AvailableChange: available, HeldChange: held,
		BalanceAfter: t.Available, HeldAfter: t.Held, Description: t.Description, Resource: t.Resource, HoldID: t.Hold,
		APIKeyID: t.APIKey, Tag: t.Tag, RequestID: t.RequestID, Usage: t.Usage,
	}
}
