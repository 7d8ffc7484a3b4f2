package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"ecolink/ledger/identity"
)

// Transfer is a row of the journal: an amount that leaves one book and enters
// another. Rows are numbered without gaps and chained: each has the hash of the
// one before it in its own, so a row that was changed, removed or put in shows.
type Transfer struct {
	Seq       int64              `json:"seq"`
	At        time.Time          `json:"at"`
	Type      Type               `json:"type"`
	From      Book               `json:"from"`
	To        Book               `json:"to"`
	Amount    MicroUSD           `json:"amount"` // always above zero
	Account   identity.AccountID `json:"account"`
	Available MicroUSD           `json:"available"` // the wallet after this row
	Held      MicroUSD           `json:"held"`
	// Before is the account's row before this one, 0 for its first: an account's
	// statement is read along it.
	Before      int64          `json:"before"`
	Hold        HoldID         `json:"hold,omitempty"`
	Resource    string         `json:"resource,omitempty"` // "gpu-instance/142"
	RequestID   string         `json:"request_id,omitempty"`
	Key         string         `json:"key,omitempty"`     // idempotency key, unique in the account
	APIKey      identity.KeyID `json:"api_key,omitempty"` // that it was asked for with; 0: none
	Tag         string         `json:"tag,omitempty"`     // source tag
	Usage       Usage          `json:"usage,omitzero"`
	Description string         `json:"description,omitempty"`
	// Hash is known once the row has been committed.
	Hash Hash `json:"hash"`
}

// Usage is what a charge was for, in quantities.
type Usage struct {
	Model        string `json:"model,omitempty"`
	InputTokens  int64  `json:"input_tokens,omitempty"`
	OutputTokens int64  `json:"output_tokens,omitempty"`
	Images       int64  `json:"images,omitempty"`
	AudioMillis  int64  `json:"audio_ms,omitempty"`
	VideoMillis  int64  `json:"video_ms,omitempty"`
	Seconds      int64  `json:"seconds,omitempty"` // of GPUs, all together, or of storage
	Bytes        int64  `json:"bytes,omitempty"`   // of storage
}

// Hash is a link of the journal's chain: SHA-256 over the hash before it and the
// row's bytes.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText makes a hash its hexadecimal form in JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Signed is the amount as the account's owner sees it: below zero when it leaves
// what they can spend, or is spent from what was held.
func (t Transfer) Signed() MicroUSD {
	if t.From.kind == bookAvailable || t.From.kind == bookHeld && t.To.kind != bookAvailable {
		return -t.Amount
	}
	return t.Amount
}

// Spent is what the row took from the account for good: usage, at its amount.
func (t Transfer) Spent() MicroUSD {
	if t.To.Revenue() {
		return t.Amount
	}
	return 0
}

// Changes is what the row did to what the account can spend, and to what is held
// for it.
func (t Transfer) Changes() (available, held MicroUSD) {
	for _, side := range [...]struct {
		kind   bookKind
		amount MicroUSD
	}{{t.From.kind, -t.Amount}, {t.To.kind, t.Amount}} {
		switch side.kind {
		case bookAvailable:
			available += side.amount
		case bookHeld:
			held += side.amount
		}
	}
	return available, held
}

// Entry says who pays or gets how much, when and why.
type Entry struct {
	At      time.Time
	Account identity.AccountID
	Amount  MicroUSD
	// Resource is what it is for: "gpu-instance/142".
	Resource  string
	RequestID string
	// Key makes the call idempotent within the account: the second call gives
	// what the first did. It may be empty only where the caller's own record,
	// written in the same transaction, already makes a second call impossible.
	// Keys that rise with time (UUIDv7) are the cheapest to remember.
	// A key is forgotten when its row is archived: it is remembered for
	// MinArchiveAge at least.
	Key         string
	APIKey      identity.KeyID
	Tag         string
	Usage       Usage
	Description string
}

// Limits of a row's texts, in bytes.
const (
	maxWordBytes        = 255
	maxDescriptionBytes = 1000
)

// sum is the hash of a row whose bytes follow the row with the hash before.
func (h Hash) sum(row []byte) (out Hash) {
	d := sha256.New()
	d.Write(h[:])
	d.Write(row)
	d.Sum(out[:0])
	return out
}
