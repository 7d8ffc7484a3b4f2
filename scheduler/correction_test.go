package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

func TestCorrectionThatTakesFromAHoldShortensThePaidTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 1)
		defer b.close()
		i := b.launch("trainer", 3) // $4.80 of $100 are held
		b.update(func(tx *store.Tx) error {
			now := time.Now()
			if _, err := ledger.Correct(tx, ledger.Entry{At: now, Account: alice, Amount: -usd("98.40"), Description: "credited by mistake"}); err != nil {
				return err
			}
			return ShortenToHolds(tx, alice, now)
		})
		b.settle()
		if i = b.want(i.ID, Running); i.Paid != time.Hour {
			t.Fatalf("paid for %s", i.Paid)
		}
		time.Sleep(time.Hour + time.Second)
		b.settle()
		if i = b.want(i.ID, Terminated); i.TerminationReason != ReasonExpired || i.Charged != usd("1.60") || i.Unbilled != 0 {
			t.Errorf("%s, %s charged, %s unbilled", i.TerminationReason, i.Charged, i.Unbilled)
		}
		b.wantWallet(alice, "0", "0")
	})
}
