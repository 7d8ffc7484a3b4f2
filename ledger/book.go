package ledger

import (
	"errors"
	"fmt"

	"ecolink/ledger/identity"
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

// typeCodes are the row types in the order of their codes on disk, from 1. A
// type is only ever added at the end.
var typeCodes = []Type{TopUp, Bonus, HoldPlaced, GPUUsage, InferenceUsage, APIUsage, StorageBilling, Refund, AdminCorrection}

func codeOf(t Type) byte {
	for n, known := range typeCodes {
		if t == known {
			return byte(n + 1)
		}
	}
	return 0
}

// Usage tells whether the type is money earned for something that was used.
func (t Type) Usage() bool {
	return t == GPUUsage || t == InferenceUsage || t == APIUsage || t == StorageBilling
}

// Book is one side of a transfer. Each account has two books, what it may spend
// and what is held; the others are where money comes from and where it goes.
type Book struct {
	kind    bookKind
	account identity.AccountID // of a wallet's books
}

type bookKind byte

// The kinds of books; their numbers are on disk. A kind is only ever added at the
// end, before numBooks.
const (
	noBook bookKind = iota
	bookAvailable
	bookHeld
	fundingOperator
	fundingBonus
	fundingCorrections
	revenueGPU
	revenueInference
	revenueAPI
	revenueStorage
	numBooks
)

var bookNames = [numBooks]string{
	bookAvailable: "available", bookHeld: "held",
	fundingOperator: "funding/operator", fundingBonus: "funding/bonus", fundingCorrections: "funding/corrections",
	revenueGPU: "revenue/gpu", revenueInference: "revenue/inference", revenueAPI: "revenue/api", revenueStorage: "revenue/storage",
}

func available(a identity.AccountID) Book { return Book{bookAvailable, a} }
func held(a identity.AccountID) Book      { return Book{bookHeld, a} }
func outside(k bookKind) Book             { return Book{kind: k} }

// wallet tells whether the book is one of an account's.
func (b Book) wallet() bool { return b.kind == bookAvailable || b.kind == bookHeld }

// Funding and Revenue tell the books outside the wallets apart.
func (b Book) Funding() bool { return b.kind.funding() }

// Revenue tells whether the book is one that usage is earned in.
func (b Book) Revenue() bool { return b.kind.revenue() }

func (k bookKind) funding() bool { return k >= fundingOperator && k <= fundingCorrections }
func (k bookKind) revenue() bool { return k >= revenueGPU && k <= revenueStorage }

// String is the book's name: "wallet/7/available", "revenue/gpu".
func (b Book) String() string {
	if b.wallet() {
		return fmt.Sprintf("wallet/%d/%s", b.account, bookNames[b.kind])
	}
	if b.kind > noBook && b.kind < numBooks {
		return bookNames[b.kind]
	}
	return fmt.Sprintf("book/%d", b.kind)
}

// MarshalText makes a book its name in JSON.
func (b Book) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// revenue is the book that usage of a type is earned in.
func revenue(t Type) (Book, error) {
	switch t {
	case GPUUsage:
		return outside(revenueGPU), nil
	case InferenceUsage:
		return outside(revenueInference), nil
	case APIUsage:
		return outside(revenueAPI), nil
	case StorageBilling:
		return outside(revenueStorage), nil
	}
	return Book{}, fmt.Errorf("%w: %q", ErrNotUsage, t)
}

// Balance is the running total of a book. A book's balance is what it received
// less what it gave; the sum over all books is zero.
type Balance struct {
	In  MicroUSD `json:"in"`
	Out MicroUSD `json:"out"`
}

// Net is In - Out. Both are sums of checked positive amounts, so it can't overflow.
func (b Balance) Net() MicroUSD { return b.In - b.Out }

// books are the totals of the books outside the wallets, and of all wallets
// together: what is available, and what is held.
type books [numBooks]Balance

func (b *books) move(from, to Book, amount MicroUSD) error {
	out, err := b[from.kind].Out.Add(amount)
	if err != nil {
		return err
	}
	in, err := b[to.kind].In.Add(amount)
	if err != nil {
		return err
	}
	b[from.kind].Out, b[to.kind].In = out, in
	return nil
}

// ErrNotUsage: a charge was made as something that is no usage.
var ErrNotUsage = errors.New("only usage can be charged")
