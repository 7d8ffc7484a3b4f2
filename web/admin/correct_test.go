package admin

import (
	"fmt"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

func TestCorrectionAddsOrTakesOnceForAReason(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.call("POST", "/admin/topup", withKey(object{"account": "1", "amount": "25"}), 200)
	give := object{"account": "op@example.org", "amount": "4.80", "reason": "GPU failed", "key": "ticket-7"}
	for range 2 {
		out := b.call("POST", "/admin/correct", give, 200)
		if out["available"] != "29.80" || out["held"] != "0.00" || out["transaction_id"] != 2.0 {
			t.Errorf("%v", out)
		}
	}
	take := withKey(object{"account": 1, "amount": "-29.80", "reason": "credited to the wrong account"})
	if out := b.call("POST", "/admin/correct", take, 200); out["available"] != "0.00" {
		t.Errorf("%v", out)
	}
	b.refused("/admin/correct", withKey(take), 402, "insufficient_balance", nil)
	delete(take, "key")
	b.refused("/admin/correct", take, 422, "unprocessable", "key")
	b.call("POST", "/admin/correct", withKey(object{"account": 1, "amount": "1", "reason": " "}), 422)
	b.refused("/admin/correct", withKey(object{"account": 1, "amount": "0", "reason": "x"}), 422, "unprocessable", "amount")
	give["amount"] = "5"
	b.refused("/admin/correct", give, 409, "conflict", "Idempotency-Key")
	if got := fmt.Sprint(b.audit()); got != "[box.bootstrap account.topup account.correct account.correct]" {
		t.Errorf("audit: %s", got)
	}
	b.call("POST", "/admin/ledger/verify", nil, 200)
}

func TestAClockThatWasPutRightIsAcceptedOnce(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.update(func(tx *store.Tx) error { // by a clock that was an hour ahead
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now().Add(time.Hour), Account: 1, Amount: 5})
		return err
	})
	b.call("POST", "/admin/topup", withKey(object{"account": "1", "amount": "25"}), 503)
	if out := b.call("POST", "/admin/ledger/accept-clock", nil, 200); out["accepted"] != true {
		t.Errorf("%v", out)
	}
	b.call("POST", "/admin/topup", withKey(object{"account": "1", "amount": "25"}), 200)
	if out := b.call("POST", "/admin/ledger/accept-clock", nil, 200); out["accepted"] != false {
		t.Errorf("%v", out)
	}
	if got := fmt.Sprint(b.audit()); got != "[box.bootstrap ledger.accept_clock account.topup]" {
		t.Errorf("audit: %s", got)
	}
	b.call("POST", "/admin/ledger/verify", nil, 200)
}
