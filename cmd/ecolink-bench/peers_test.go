package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

func TestPgbenchLogsGiveLatencies(t *testing.T) {
	got, err := pgbenchLatencies(nil, strings.NewReader("0 1 1500 0 1700000000 5\n63 1 250 0 1700000000 9\n"))
	if err != nil || !slices.Equal(got, []time.Duration{1500 * time.Microsecond, 250 * time.Microsecond}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"0 1\n", "0 1 failed 0 1700000000 5\n"} {
		if _, err := pgbenchLatencies(nil, strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestPgbenchRateLeavesConnectingOut(t *testing.T) {
	for _, out := range []string{
		"latency average = 1 ms\ntps = 1234.500000 (without initial connection time)\n",
		"tps = 1000.0 (including connections establishing)\ntps = 1234.500000 (excluding connections establishing)\n",
	} {
		if got, err := pgbenchRate(out); err != nil || got != 1234.5 {
			t.Errorf("%q: got %v, %v", out, got, err)
		}
	}
	if _, err := pgbenchRate("nothing"); err == nil {
		t.Error("a rate was found in nothing")
	}
}

func TestPlainBoltTransfersOnce(t *testing.T) {
	var clean cleanup
	p, err := newPlainBolt(t.TempDir()+"/plain", &clean)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clean.run(); err != nil {
			t.Error(err)
		}
	})
	key := uuid.Must(uuid.NewV7())
	charge := func(amount uint64, key uuid.UUID) error {
		return p.db.Update(func(tx *bbolt.Tx) error { return plainCharge(tx, 1, amount, key) })
	}
	if err := charge(5, key); err != nil {
		t.Fatal(err)
	}
	if err := charge(5, key); !errors.Is(err, errPlainKey) {
		t.Errorf("the same key again: %v", err)
	}
	if err := charge(creditMicroUSD, uuid.Must(uuid.NewV7())); !errors.Is(err, errPlainBalance) {
		t.Errorf("more than there is: %v", err)
	}
	p.db.View(func(tx *bbolt.Tx) error {
		left, earned := plainValue(tx.Bucket(plainAccounts).Get(plainNumber(1))), plainValue(tx.Bucket(plainRevenue).Get(plainEarned))
		if left != creditMicroUSD-5 || earned != 5 {
			t.Errorf("%d left, %d earned", left, earned)
		}
		if n := len(tx.Bucket(plainRows).Get(plainNumber(1))); n < 130 || n > 170 {
			t.Errorf("a row has %d bytes", n)
		}
		return nil
	})
}
