package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Type is what a row of the journal is for; SPEC.md 7 lists them.
type Type string

// The row types.
const (
	TopUp           Type = "topup"
	Bonus           Type = "bonus"
	HoldPlaced      Type = "hold"
	GPUUsage        Type = "gpu_usage"
	InferenceUsage  Type = "inference_usage"
	APIUsage        Type = "api_usage"
	StorageBilling  Type = "storage_billing"
	Refund          Type = "refund"
	AdminCorrection Type = "admin_correction"
)

// Book names one side of a transfer. Each account has two books, what it may
// spend and what is held; the others are where money comes from and goes to.
type Book string

func available(a identity.AccountID) Book { return Book(fmt.Sprintf("wallet/%d/available", a)) }
func held(a identity.AccountID) Book      { return Book(fmt.Sprintf("wallet/%d/held", a)) }

// Books outside any wallet.
const (
	fundingOperator    Book = "funding/operator"
	fundingBonus       Book = "funding/bonus"
	fundingCorrections Book = "funding/corrections"
)

// revenue is the book that usage of a type is earned in.
func revenue(t Type) Book { return Book("revenue/" + string(t)) }

// Transfer is a row of the journal: an amount that leaves one book and enters
// another. Rows are numbered without gaps and chained: each carries the hash of
// the one before it, so a row that was changed, removed or put in shows.
type Transfer struct {
	Seq         int64              `json:"seq"`
	At          time.Time          `json:"at"`
	Type        Type               `json:"type"`
	From        Book               `json:"from"`
	To          Book               `json:"to"`
	Amount      MicroUSD           `json:"amount"` // always above zero
	Account     identity.AccountID `json:"account"`
	Available   MicroUSD           `json:"available"` // the wallet after this row
	Held        MicroUSD           `json:"held"`
	Hold        HoldID             `json:"hold,omitempty"`
	Resource    string             `json:"resource,omitempty"` // "gpu-instance/142"
	RequestID   string             `json:"request_id,omitempty"`
	Key         string             `json:"key,omitempty"` // idempotency key, unique in the account
	Description string             `json:"description,omitempty"`
	Previous    string             `json:"previous"`
	Hash        string             `json:"hash"`
}

// Signed is the amount as the account's owner sees it: below zero when it leaves
// what they can spend, or is spent from what was held.
func (t Transfer) Signed() MicroUSD {
	if t.From == available(t.Account) || t.From == held(t.Account) && t.To != available(t.Account) {
		return -t.Amount
	}
	return t.Amount
}

// digest is the row's hash: SHA-256 over its JSON without the hash itself.
func (t Transfer) digest() (string, error) {
	t.Hash = ""
	raw, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// Balance is the running total of a book. A book's balance is what it received
// less what it gave; the sum over all books is zero.
type Balance struct {
	In  MicroUSD `json:"in"`
	Out MicroUSD `json:"out"`
}

// Net is In - Out. Both are sums of checked positive amounts, so it can't overflow.
func (b Balance) Net() MicroUSD { return b.In - b.Out }

// idempotent remembers what a key was used for.
type idempotent struct {
	Seq         int64  `json:"seq"`
	Hold        HoldID `json:"hold,omitempty"`
	Fingerprint string `json:"fingerprint"`
}

// Buckets.
var (
	journal     = store.NewIntCollection[int64, Transfer]("ledger.journal")
	byAccount   = store.NewPairCollection[struct{}]("ledger.journal-by-account")
	balances    = store.NewStringCollection[Book, Balance]("ledger.balances")
	idempotency = store.NewStringCollection[string, idempotent]("ledger.idempotency")
)

// JournalBucket is the bucket whose changes tell of new rows.
const JournalBucket = "ledger.journal"

// Errors that callers tell apart.
var (
	// ErrKeyReused: an idempotency key came back with another request.
	ErrKeyReused = errors.New("this idempotency key was already used for another request; use a new key")
	// ErrAmount: an amount that must be above zero is not.
	ErrAmount = errors.New("the amount must be above zero")
)

// InsufficientError is a debit that the available balance does not cover.
type InsufficientError struct {
	Needed, Available MicroUSD
}

func (e *InsufficientError) Error() string {
	return fmt.Sprintf("this needs $%s and $%s is available: add credit or ask for less", e.Needed, e.Available)
}

// Entry says who pays or gets how much, when and why. Key makes the call
// idempotent within the account; it may be empty only where the caller's own
// record, written in the same transaction, already makes a second call impossible.
type Entry struct {
	At          time.Time
	Account     identity.AccountID
	Amount      MicroUSD
	Resource    string
	RequestID   string
	Key         string
	Description string
}

// movement is one transfer about to be made.
type movement struct {
	Entry
	kind     Type
	from, to Book
	hold     HoldID
	// overdraw lets the source go below zero. Funding books always may.
	overdraw bool
}

// move appends a row and moves the balances with it. It is the only writer of
// the journal.
func move(tx *store.Tx, m movement) (Transfer, error) {
	if m.Amount <= 0 {
		return Transfer{}, fmt.Errorf("%s of %s: %w", m.kind, m.Amount, ErrAmount)
	}
	from, _, err := balances.Get(tx, m.from)
	if err != nil {
		return Transfer{}, err
	}
	to, _, err := balances.Get(tx, m.to)
	if err != nil {
		return Transfer{}, err
	}
	if !m.overdraw && from.Net() < m.Amount {
		return Transfer{}, &InsufficientError{Needed: m.Amount, Available: from.Net()}
	}
	if from.Out, err = from.Out.Add(m.Amount); err != nil {
		return Transfer{}, err
	}
	if to.In, err = to.In.Add(m.Amount); err != nil {
		return Transfer{}, err
	}
	if err := balances.Put(tx, m.from, from); err != nil {
		return Transfer{}, err
	}
	if err := balances.Put(tx, m.to, to); err != nil {
		return Transfer{}, err
	}
	return appendRow(tx, m)
}

func appendRow(tx *store.Tx, m movement) (Transfer, error) {
	wallet, err := WalletOf(tx, m.Account)
	if err != nil {
		return Transfer{}, err
	}
	seq, err := tx.NextID(journal.Name())
	if err != nil {
		return Transfer{}, err
	}
	previous, _, err := journal.Get(tx, seq-1)
	if err != nil {
		return Transfer{}, err
	}
	row := Transfer{
		Seq: seq, At: m.At.UTC(), Type: m.kind, From: m.from, To: m.to, Amount: m.Amount,
		Account: m.Account, Available: wallet.Available, Held: wallet.Held, Hold: m.hold,
		Resource: m.Resource, RequestID: m.RequestID, Key: m.Key, Description: m.Description,
		Previous: previous.Hash,
	}
	if row.Hash, err = row.digest(); err != nil {
		return Transfer{}, err
	}
	if err := journal.Put(tx, seq, row); err != nil {
		return Transfer{}, err
	}
	return row, byAccount.Put(tx, store.Pair{A: int64(m.Account), B: seq}, struct{}{})
}

// seen looks an idempotency key up. The same key with the same request gives
// what the first call did; with another request it is an error.
func seen(tx *store.Tx, kind Type, e Entry) (idempotent, bool, error) {
	if e.Key == "" {
		return idempotent{}, false, nil
	}
	prior, ok, err := idempotency.Get(tx, keyOf(e))
	if err != nil || !ok {
		return idempotent{}, false, err
	}
	if prior.Fingerprint != fingerprint(kind, e) {
		return idempotent{}, false, ErrKeyReused
	}
	return prior, true, nil
}

func remember(tx *store.Tx, kind Type, e Entry, seq int64, hold HoldID) error {
	if e.Key == "" {
		return nil
	}
	return idempotency.Put(tx, keyOf(e), idempotent{Seq: seq, Hold: hold, Fingerprint: fingerprint(kind, e)})
}

func keyOf(e Entry) string { return fmt.Sprintf("%d/%s", e.Account, e.Key) }

func fingerprint(kind Type, e Entry) string {
	return fmt.Sprintf("%s %d %s", kind, e.Amount, e.Resource)
}
