package api

import (
	"testing"
	"time"

	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

func TestBalanceTellsWhatIsSpentPerHourAndHowLongItLasts(t *testing.T) {
	b := newBox(t)
	balance := "/v1/billing/balance"
	b.call(b.alice, "GET", balance, nil).want(200).has("burn_per_hour", "0.00", "lasts_until", nil)
	b.reach(b.alice, b.launch(b.alice, "trainer", 2), "running")
	b.call(b.alice, "GET", balance, nil).want(200).has("burn_per_hour", "1.60", "lasts_until", nil) // it ends as planned
	b.update(func(tx *store.Tx) error {
		_, err := metering.StartCycle(tx, metering.NewCycle{Account: b.alice.account, Resource: "inference-instance/1", Rate: 2_000_000, Units: 1, Reserve: 1}, time.Now())
		return err
	})
	r := b.call(b.alice, "GET", balance, nil).want(200).has("burn_per_hour", "3.60")
	until, err := time.Parse(time.RFC3339, r.at("lasts_until").(string))
	if left := time.Until(until); err != nil || left < 48*time.Hour || left > 49*time.Hour { // of $96.80, at $2.00
		t.Errorf("lasts until %s, %v", until, err)
	}
}

func TestWhatAKeyLaunchesIsItsOwnInTheStatement(t *testing.T) {
	b := newBox(t)
	path := b.launch(b.alice, "trainer", 2)
	b.reach(b.alice, path, "running")
	b.call(b.alice, "POST", path+"/extend", object{"hours": 1}).want(200)
	b.call(b.alice, "POST", path+"/terminate", nil).want(200)
	for _, n := range []string{"0", "1", "2"} { // refund, extension, hold; a moment's usage costs nothing, or little
		b.call(b.alice, "GET", "/v1/billing/transactions", nil).want(200).has("data."+n+".api_key_id", b.alice.key)
	}
}
