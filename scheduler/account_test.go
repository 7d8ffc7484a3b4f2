package scheduler

import (
	"errors"
	"slices"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/metering"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// Here is what Alice does with her account in the tests of money.

func second[T any](_ T, err error) error { return err }

const (
	llama = "inference-instance/1"
	drive = "drive/1"
)

// serve starts the 24-hour cycle of an inference instance of Alice's on n GPUs.
func (b *box) serve(n int) (c metering.Cycle, err error) {
	err = b.store.Update(background, func(tx *store.Tx) error {
		c, err = metering.StartCycle(tx, metering.NewCycle{Account: alice, Resource: llama, Label: "llama", Rate: usd("1.60"), Reserve: n, Units: n}, time.Now())
		return err
	})
	return c, err
}

func (b *box) cycle(id metering.CycleID) (c metering.Cycle) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { c, err = metering.GetCycle(tx, id); return err })
	return c
}

func (b *box) addDrive(gb int64) error {
	return b.store.Update(background, func(tx *store.Tx) error {
		return second(metering.AddVolume(tx, metering.NewVolume{Account: alice, Resource: drive, Item: price.Drive, GB: gb}, time.Now()))
	})
}

func (b *box) priceFilesystems() {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		return second(price.Set(tx, price.SharedFilesystem, usd("0.31"), time.Time{}, time.Now(), ""))
	})
}

func (b *box) drive() (v metering.Volume) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { v, err = metering.GetVolume(tx, drive); return err })
	return v
}

// call charges a request to the API with an API key, 0 for none.
func (b *box) call(tokens int64, key identity.KeyID) error {
	return b.store.Update(background, func(tx *store.Tx) error {
		p, _, err := price.At(tx, price.Model("llama", price.InputTokens), time.Now())
		if err != nil {
			return err
		}
		cost, err := p.Cost(tokens)
		if err != nil {
			return err
		}
		return second(ledger.Charge(tx, ledger.APIUsage, ledger.Entry{
			At: time.Now(), Account: alice, Amount: cost, APIKey: key, Usage: ledger.Usage{Model: "llama", InputTokens: tokens},
		}))
	})
}

func (b *box) topUp(amount string) {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		return second(ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: usd(amount)}))
	})
}

// take leaves Alice with so much, by an operator's correction.
func (b *box) take(leave string) {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		w, err := ledger.WalletOf(tx, alice)
		if err != nil {
			return err
		}
		return second(ledger.Correct(tx, ledger.Entry{At: time.Now(), Account: alice, Amount: usd(leave) - w.Total(), Description: "test"}))
	})
	b.settle()
}

// pass lets time pass to just after an instant.
func (b *box) pass(d time.Duration) {
	time.Sleep(d)
	b.settle()
}

// rows are Alice's rows of a type, oldest first.
func (b *box) rows(kind ledger.Type) (out []ledger.Transfer) {
	b.t.Helper()
	b.view(func(tx *store.Tx) error {
		out = nil
		for t, err := range ledger.Statement(tx, alice, 0) {
			if err != nil {
				return err
			}
			if t.Type == kind {
				out = append(out, t)
			}
		}
		slices.Reverse(out)
		return nil
	})
	return out
}

func wantShort(t *testing.T, err error) {
	t.Helper()
	var short *ledger.InsufficientError // which the API answers with 402 insufficient_balance
	if !errors.As(err, &short) {
		t.Fatalf("got %v, want 402", err)
	}
}

func (b *box) hold(i Instance) (h ledger.Hold) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { h, err = ledger.GetHold(tx, i.Hold); return err })
	return h
}
