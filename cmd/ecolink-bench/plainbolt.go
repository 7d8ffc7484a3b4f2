package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

const plainName = "bbolt, one at a time"

// plainBolt is the same transfer as one would first write it with bbolt: an
// Update for each charge, one after the other, bbolt's own defaults.
type plainBolt struct{ db *bbolt.DB }

// Its buckets: what accounts have, what was earned, the rows by number, and the
// row's number by idempotency key.
var (
	plainAccounts = []byte("accounts")
	plainRevenue  = []byte("revenue")
	plainRows     = []byte("rows")
	plainKeys     = []byte("keys")
)

var plainEarned = []byte("api_usage") // the one key in plainRevenue

var (
	errPlainBalance = errors.New("the balance does not cover it")
	errPlainKey     = errors.New("the key was used before")
)

func newPlainBolt(dir string, clean *cleanup) (*plainBolt, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "plain.db"), 0o600, nil)
	if err != nil {
		return nil, fmt.Errorf("open plain bbolt: %w", err)
	}
	clean.add(db.Close)
	return &plainBolt{db}, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{plainAccounts, plainRevenue, plainRows, plainKeys} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		for n := range uint64(accounts) {
			if err := tx.Bucket(plainAccounts).Put(plainNumber(n+1), plainNumber(creditMicroUSD)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *plainBolt) name() string { return plainName }

// pay has one caller: a second one would only wait for the first.
func (p *plainBolt) pay(ctx context.Context, l load, during time.Duration) (rate, error) {
	return oneAtATime(ctx, during, func() error {
		key, err := uuid.NewV7()
		if err != nil {
			return err
		}
		account := uint64(hotAccount)
		if !l.hot {
			account = 1 + rand.Uint64N(accounts)
		}
		return p.db.Update(func(tx *bbolt.Tx) error {
			return plainCharge(tx, account, chargeMicroUSD, key)
		})
	})
}

// plainCharge checks, debits, credits, and writes the row and its key.
func plainCharge(tx *bbolt.Tx, account, amount uint64, key uuid.UUID) error {
	who := plainNumber(account)
	balance := plainValue(tx.Bucket(plainAccounts).Get(who))
	if balance < amount {
		return errPlainBalance
	}
	if tx.Bucket(plainKeys).Get(key[:]) != nil {
		return errPlainKey
	}
	earned := plainValue(tx.Bucket(plainRevenue).Get(plainEarned))
	seq, err := tx.Bucket(plainRows).NextSequence()
	if err != nil {
		return err
	}
	return errors.Join(
		tx.Bucket(plainAccounts).Put(who, plainNumber(balance-amount)),
		tx.Bucket(plainRevenue).Put(plainEarned, plainNumber(earned+amount)),
		tx.Bucket(plainRows).Put(plainNumber(seq), plainRow(account, amount, balance-amount, key)),
		tx.Bucket(plainKeys).Put(key[:], plainNumber(seq)),
	)
}

// plainRow is some 150 bytes that say what ours says: who, when, how much, what
// for, and what is left.
func plainRow(account, amount, left uint64, key uuid.UUID) []byte {
	row := make([]byte, 0, 160)
	for _, n := range []uint64{uint64(time.Now().UnixNano()), account, amount, left, chargeAPIKey, chargeInput, chargeOutput} {
		row = binary.BigEndian.AppendUint64(row, n)
	}
	row = append(row, key[:]...)
	for _, s := range []string{"api_usage", chargeResource, chargeModel, chargeTag, key.String()} {
		row = append(append(row, byte(len(s))), s...)
	}
	return row
}

func plainNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// plainValue is what plainNumber wrote; nothing written is zero.
func plainValue(raw []byte) uint64 {
	if len(raw) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(raw)
}
