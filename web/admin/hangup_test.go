package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

// hangsUp is a context that ends after it was asked a number of times.
type hangsUp struct {
	context.Context
	left int
}

// Err implements context.Context.
func (h *hangsUp) Err() error {
	if h.left--; h.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestHangUpEndsTheVerification(t *testing.T) {
	b := newBox(t)
	b.bootstrap()
	b.call("POST", "/admin/topup", withKey(object{"account": 1, "amount": "25"}), 200)
	b.update(func(tx *store.Tx) error {
		for n := range 5000 {
			e := ledger.Entry{At: time.Now(), Account: 1, Amount: 1, Key: fmt.Sprintf("charge %4d", n)}
			if _, err := ledger.Charge(tx, ledger.APIUsage, e); err != nil {
				return err
			}
		}
		return nil
	})
	for more := true; more; {
		var err error
		if more, err = usage.Fold(t.Context(), b.store, 1000); err != nil {
			t.Fatal(err)
		}
	}
	for questions := range 2 { // during the comparison of the books, and of the sums of usage
		ctx := &hangsUp{t.Context(), questions}
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, httptest.NewRequest("POST", "/admin/ledger/verify", nil).WithContext(ctx))
		if w.Code == http.StatusOK || w.Code == http.StatusInternalServerError {
			t.Errorf("it went on: %d %s", w.Code, w.Body)
		}
	}
	b.call("POST", "/admin/ledger/verify", nil, 200)
}
