package console

import (
	"testing"
	"time"

	"ecolink/ledger/metering"
	"ecolink/ledger/store"
)

func TestBillingTellsHowLongTheMoneyLasts(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.get("/billing").want(200).without("an hour")
	w.update(func(tx *store.Tx) error {
		_, err := metering.StartCycle(tx, metering.NewCycle{Account: w.acme.ID, Resource: "inference-instance/1", Rate: 2_000_000, Units: 1, Reserve: 1}, time.Now())
		return err
	})
	b.get("/billing").want(200, "costs $2.00 an hour", "The money lasts until").wantSafe("/billing")
}
