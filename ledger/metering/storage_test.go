package metering

import (
	"errors"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

func newDisk(t *testing.T, money string, gb int64) *box {
	b := newBox(t)
	b.topUp(usd(money))
	b.price(price.Drive, usd("0.31")) // a cent a day in March
	b.mustAdd(gb)
	return b
}

func (b *box) volume() (v Volume) {
	b.t.Helper()
	b.view(func(tx *store.Tx) (err error) { v, err = GetVolume(tx, disk); return err })
	return v
}

func TestEachDayIsChargedOnceWhenItIsOver(t *testing.T) {
	b := newDisk(t, "10", 100)
	b.now = noon.Add(12*time.Hour - 1)
	if bill := b.billed(BillStorage); len(bill.Days) != 0 {
		t.Fatalf("before midnight: %+v", bill)
	}
	b.now = noon.Add(12 * time.Hour)
	b.billed(BillStorage)
	b.money("9.50", "0")
	if bill := b.billed(BillStorage); len(bill.Days) != 0 {
		t.Fatalf("a second time: %+v", bill)
	}
	var next time.Time
	b.view(func(tx *store.Tx) (err error) { next, _, err = NextDay(tx); return err })
	if !next.Equal(noon.Add(36 * time.Hour)) {
		t.Fatalf("next is due %s", next)
	}
	b.now = noon.Add(72 * time.Hour)
	var due []string
	b.view(func(tx *store.Tx) (err error) { due, err = DueVolumes(tx, b.now, 10); return err })
	if len(due) != 1 || due[0] != disk {
		t.Fatalf("due: %v", due)
	}
	b.billed(BillStorage)
	b.wantRows(
		"storage_billing -0.50 100 GB on 1 Mar 2026 from 12:00 UTC",
		"storage_billing -1.00 100 GB on 2 Mar 2026",
		"storage_billing -1.00 100 GB on 3 Mar 2026",
	)
	b.money("7.50", "0")
}

func TestADayHasThePriceThatHeldWhenItBegan(t *testing.T) {
	b := newDisk(t, "10", 100)
	b.now = noon.Add(time.Hour)
	b.price(price.Drive, usd("0.62"))
	b.now = noon.Add(48 * time.Hour)
	b.billed(BillStorage)
	b.money("7.50", "0") // half a day at one cent, one at two
}

func TestEachSizeOfADayHasARowThatTellsIt(t *testing.T) {
	b := newDisk(t, "10", 100)
	b.now = noon.Add(6 * time.Hour)
	b.billed(resize(300))
	b.money("9.75", "0")
	b.now = noon.Add(12 * time.Hour)
	b.billed(BillStorage)
	b.wantRows(
		"storage_billing -0.25 100 GB on 1 Mar 2026 from 12:00 to 18:00 UTC",
		"storage_billing -0.75 300 GB on 1 Mar 2026 from 18:00 UTC",
	)
	b.now = noon.Add(18 * time.Hour)
	b.billed(RemoveVolume)
	b.wantRows("storage_billing -0.75 300 GB on 2 Mar 2026 from 00:00 to 06:00 UTC")
	err := b.update(func(tx *store.Tx) error { _, err := BillStorage(tx, disk, b.now); return err })
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("removed: %v", err)
	}
	b.mustAdd(1)
}

func TestADayThatIsNotCoveredTakesWhatThereIsAndSuspends(t *testing.T) {
	b := newDisk(t, "2.00", 100)
	b.now = noon.Add(12*time.Hour + 24*5*time.Hour)
	bill := b.billed(BillStorage)
	if !bill.Suspended || len(bill.Days) != 3 || bill.Volume.Unbilled != usd("0.50") || !bill.Volume.SuspendedAt.Equal(noon.Add(60*time.Hour)) {
		t.Fatalf("%+v", bill)
	}
	b.wantRows("storage_billing -0.50 100 GB on 3 Mar 2026; the balance covered $0.50 of $1.00")
	b.money("0", "0")
	b.now = b.now.Add(48 * time.Hour)
	if bill := b.billed(BillStorage); len(bill.Days) != 0 || bill.Suspended {
		t.Fatalf("charged while suspended: %+v", bill)
	}

	if _, err := b.restore(); !insufficient(err) {
		t.Fatalf("restored without money: %v", err)
	}
	b.topUp(usd("0.99"))
	if _, err := b.restore(); !insufficient(err) {
		t.Fatalf("restored for less than a day's money: %v", err)
	}
	b.topUp(usd("5.01"))
	if v, err := b.restore(); err != nil || v.Suspended {
		t.Fatalf("%+v, %v", v, err)
	}
	b.now = b.now.Add(24 * time.Hour)
	b.billed(BillStorage)
	b.money("5", "0")
}

func TestMoneyThatEndsWithinADaySuspendsAtOnce(t *testing.T) {
	b := newDisk(t, "2", 100)
	b.spend(usd("1.90"))
	b.now = noon.Add(6 * time.Hour)
	bill := b.billed(SuspendVolume)
	if !bill.Suspended || bill.Volume.Charged != usd("0.10") || bill.Volume.Unbilled != usd("0.15") {
		t.Fatalf("%+v", bill)
	}
	var all []Volume
	b.view(func(tx *store.Tx) (err error) {
		if a, err := SuspendedAccounts(tx, 0, 10); err != nil || len(a) != 1 || a[0] != alice {
			t.Errorf("accounts: %v, %v", a, err)
		}
		all, err = SuspendedVolumes(tx, alice)
		return err
	})
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
}

func TestDaysOfAMonthAddUpToTheMonth(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("10"))
	b.price(price.Drive, 7) // micro-dollars a month: most days cost nothing
	b.mustAdd(3)
	begin := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	b.now = begin
	b.billed(BillStorage)
	before := b.wallet().Out
	rows := len(b.rows(1000))
	b.now = begin.AddDate(0, 1, 0)
	b.billed(BillStorage)
	if spent := b.wallet().Out - before; spent != 21 || b.volume().BilledUntil != b.now {
		t.Fatalf("April cost %d, want 21; %+v", spent, b.volume())
	}
	if n := len(b.rows(1000)) - rows; n != 21 {
		t.Fatalf("%d rows for days that cost something", n)
	}
}

func TestAWithdrawnPriceChargesNothing(t *testing.T) {
	b := newDisk(t, "10", 100)
	b.must(func(tx *store.Tx) error {
		_, err := price.Withdraw(tx, price.Drive, time.Time{}, b.now.Add(time.Hour))
		return err
	})
	b.now = noon.Add(72 * time.Hour)
	b.billed(BillStorage)
	b.money("9.50", "0")
}

func TestVolumesThatCannotBeBilledAreRefused(t *testing.T) {
	b := newBox(t)
	if _, err := b.add(1); !errors.Is(err, ErrNotPriced) {
		t.Fatalf("without a price: %v", err)
	}
	b.price(price.Drive, usd("0.31"))
	if _, err := b.add(1); !insufficient(err) {
		t.Fatalf("without money: %v", err)
	}
	b.topUp(usd("1"))
	if _, err := b.add(0); !errors.Is(err, ErrInvalid) {
		t.Fatalf("without a size: %v", err)
	}
	b.mustAdd(1)
	if _, err := b.add(1); !errors.Is(err, ErrConflict) {
		t.Fatalf("twice: %v", err)
	}
	err := b.update(func(tx *store.Tx) error {
		_, err := AddVolume(tx, NewVolume{Account: alice, Resource: "drive/2", Item: price.GPU("h100"), GB: 1}, noon)
		return err
	})
	if !errors.Is(err, ErrInvalid) {
		t.Fatalf("a GPU as storage: %v", err)
	}
	b.now = noon.AddDate(3, 0, 0)
	err = b.update(func(tx *store.Tx) error { _, err := RemoveVolume(tx, disk, b.now); return err })
	if !errors.Is(err, ErrBehind) {
		t.Fatalf("years behind: %v", err)
	}
}

func TestStreamsCountCyclesAndStorage(t *testing.T) {
	b := newDisk(t, "1000", 1000)
	b.mustStart("1.00", 2)
	b.now = noon.Add(3 * time.Hour)
	var streams []Stream
	b.view(func(tx *store.Tx) (err error) { streams, err = Streams(tx, alice, b.now); return err })
	want := []Stream{
		{Rate: usd("2"), Held: usd("48"), Accrued: usd("6")},
		{Rate: usd("0.416666"), Accrued: usd("1.25")},
	}
	if len(streams) != 2 || streams[0] != want[0] || streams[1] != want[1] {
		t.Fatalf("%+v", streams)
	}
	o := Forecast(b.wallet(), streams, b.now)
	if o.BurnPerHour != usd("2.416666") || o.Hours != 410 || o.Low() { // 992.75 / 2.416666
		t.Fatalf("%+v", o)
	}
	if o := Forecast(ledger.Wallet{}, nil, noon); o != (Outlook{}) {
		t.Fatalf("nothing is spent: %+v", o)
	}
}

// What is still being made is free, over midnight too, and counts from when it is
// there.
func TestWhatIsAddedForLaterIsBilledFromWhenItBegins(t *testing.T) {
	b := newBox(t)
	b.topUp(usd("100"))
	b.price(price.Drive, usd("0.31"))
	b.must(func(tx *store.Tx) error {
		_, err := AddVolume(tx, NewVolume{Account: alice, Resource: disk, Item: price.Drive, GB: 100, Later: true}, b.now)
		return err
	})
	b.now = b.now.Add(30 * time.Hour)
	b.must(func(tx *store.Tx) error {
		bill, err := BillStorage(tx, disk, b.now)
		if len(bill.Days) > 0 {
			t.Errorf("charged: %+v", bill.Days)
		}
		due, err2 := DueVolumes(tx, b.now.Add(48*time.Hour), 10)
		streams, err3 := Streams(tx, alice, b.now)
		if len(due) > 0 || len(streams) != 1 || streams[0] != (Stream{}) {
			t.Errorf("due %v, streams %+v", due, streams)
		}
		return errors.Join(err, err2, err3)
	})
	for range 2 {
		b.must(func(tx *store.Tx) error { _, err := BeginVolume(tx, disk, b.now); return err })
	}
	if v := b.volume(); v.Idle || !v.BilledUntil.Equal(b.now) || v.Charged != 0 {
		t.Errorf("%+v", v)
	}
	b.now = b.now.Add(6 * time.Hour)
	b.must(func(tx *store.Tx) error { _, err := RemoveVolume(tx, disk, b.now); return err })
	if w := b.wallet(); w.Available == usd("100") {
		t.Error("nothing was charged for six hours")
	}
}
