package admin

import (
	"testing"

	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

func TestUsageIsMadeAnew(t *testing.T) {
	b := newBox(t)
	if out := b.call("POST", "/admin/ledger/rebuild-usage", nil, 200); out["rebuilding"] != true {
		t.Errorf("got %v", out)
	}
	for more := true; more; {
		var err error
		if more, err = usage.Fold(t.Context(), b.store, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.View(func(tx *store.Tx) error { _, err := usage.Check(tx); return err }); err != nil {
		t.Error(err)
	}
}
