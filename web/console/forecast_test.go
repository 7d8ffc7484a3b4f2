package console

import (
	"testing"
	"time"

	"ecolink/ledger/metering"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

func TestBillingTellsHowLongTheMoneyLasts(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.get("/billing").want(200).without("an hour")
	w.update(func(tx *store.Tx) error {
		_, err := metering.StartCycle(tx, metering.NewCycle{Account: w.acme.ID, Resource: "inference-instance/1", Rate: 2_000_000, Units: 1, Reserve: 1}, time.Now())
		return err
	})
	b.get("/billing").want(200, "costs $2.00 an hour.", "The balance covers it until <time", "</time>.").without("paid ahead").wantSafe("/billing")
	w.launch("box", "demo/box", scheduler.Running)
	b.get("/billing").want(200, "costs $3.60 an hour. Running instances, $1.60 of it, are paid ahead, out of what is held.",
		"The balance covers what goes on costing, such as storage, until <time")
}

func TestBillingTellsOfNoEndWhenAllIsPaidAhead(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	w.as("ana@example.org").get("/billing").want(200, "costs $1.60 an hour. It is paid ahead, out of what is held.").without("The balance covers")
}
