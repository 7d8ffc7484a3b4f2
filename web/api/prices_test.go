package api

import (
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

func TestPricesAndWhatIsAnnouncedAreToldToEveryCaller(t *testing.T) {
	b := newBox(t)
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	b.update(func(tx *store.Tx) error {
		now := time.Now()
		for _, c := range []struct {
			item   price.Item
			amount ledger.MicroUSD
			from   time.Time
		}{
			{price.GPU("h100"), 1_800_000, soon},
			{price.Model("a/B", price.InputTokens), 50_000, soon},
			{price.Drive, 80_000, time.Time{}},
		} {
			if _, err := price.Set(tx, c.item, c.amount, c.from, now, "a secret of the operator's"); err != nil {
				return err
			}
		}
		_, err := price.Withdraw(tx, price.Drive, soon, now)
		return err
	})
	for _, p := range []party{b.alice, b.bob} {
		r := b.call(p, "GET", "/v1/billing/prices", nil).want(200).has(
			"data.0.item", "gpu/h100", "data.0.unit", "per GPU-hour", "data.0.amount", "1.60",
			"data.0.next.amount", "1.80", "data.0.next.from", soon.Format(time.RFC3339),
			"data.1.item", "model/a/B/input-tokens", "data.1.unit", "per million tokens", "data.1.amount", nil, "data.1.from", nil, "data.1.next.amount", "0.05",
			"data.2.item", "storage/drive", "data.2.amount", "0.08", "data.2.next.amount", nil)
		if n := len(r.at("data").([]any)); n != 3 {
			t.Errorf("%d items", n)
		}
	}
}

// An instance that runs keeps the rate of its launch; the GPUs show today's.
func TestNewPriceIsNotTheOneThatRunningInstancesPay(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.update(func(tx *store.Tx) error {
		_, err := price.Set(tx, price.GPU("h100"), 2*ledger.Dollar, time.Time{}, time.Now(), "")
		return err
	})
	b.call(b.alice, "GET", "/v1/gpus", nil).want(200).has("data.0.rate", "2.00")
	b.call(b.alice, "GET", path, nil).want(200).has("rate", "1.60", "hold", "3.20")
	b.call(b.alice, "POST", path+"/extend", object{"hours": 1}).want(200).has("added_cost", "1.60")
	b.call(b.alice, "POST", "/v1/gpu-instances?dry_run=true", launchBody("next", 1)).want(200).has("hold", "2.00")
}
