package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

func (b *box) setPrice(amount string, from time.Time) {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		_, err := price.Set(tx, price.GPU("h100"), usd(amount), from, time.Now(), "")
		return err
	})
}

// Whoever launched before a price comes into force pays the old one to the end,
// also for the hours that they add afterwards.
func TestAnnouncedPriceIsForLaunchesFromItsInstantOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 3)
		defer b.close()
		dawn := time.Now().Add(time.Hour)
		b.setPrice("2.00", dawn)

		first := b.launch("first", 2)
		b.wantWallet(alice, "96.80", "3.20")
		time.Sleep(time.Until(dawn) - time.Second)
		last := b.launch("last", 1)
		if last.Rate != usd("1.60") {
			t.Fatal(last.Rate)
		}
		time.Sleep(time.Until(dawn))
		q, err := b.Quote(background, request("second", 2))
		if err != nil || q.Rate != usd("2.00") || q.Hold != usd("4.00") {
			t.Fatalf("%+v, %v", q, err)
		}
		second := b.launch("second", 2)
		if second.Rate != usd("2.00") || b.read(first.ID).Rate != usd("1.60") {
			t.Fatalf("%s and %s", second.Rate, b.read(first.ID).Rate)
		}
		b.wantWallet(alice, "91.20", "8.80")

		x, err := b.extend(first.ID, 1)
		if err != nil || x.Added != usd("1.60") {
			t.Fatalf("%s, %v", x.Added, err)
		}
		time.Sleep(3 * time.Hour)
		b.settle()
		for _, i := range []Instance{first, last, second} {
			b.want(i.ID, Terminated)
		}
		b.wantWallet(alice, "89.60", "0") // 3 × 1.60, 1 × 1.60 and 2 × 2.00
	})
}

func TestLaunchAtAWithdrawnPriceIsRefusedAndWhatRunsGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, 2)
		defer b.close()
		i := b.launch("trainer", 2)
		b.update(func(tx *store.Tx) error {
			_, err := price.Withdraw(tx, price.GPU("h100"), time.Time{}, time.Now())
			return err
		})
		_, err := b.Launch(background, request("late", 1))
		wantProblem(t, err, Unprocessable, "gpu_type")
		if _, err := b.extend(i.ID, 1); err != nil {
			t.Fatal(err)
		}
		b.want(i.ID, Running)
		b.wantWallet(alice, "95.20", "4.80")
	})
}
