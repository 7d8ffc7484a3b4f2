package admin

import (
	"net/http"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
)

// rebuildUsage has the sums of usage made anew, of the whole journal. They are in
// the background; what people read is exact meanwhile.
func (h *handler) rebuildUsage(r *http.Request) (int, any, error) {
	err := h.store.Update(r.Context(), func(tx *store.Tx) error {
		if err := usage.Rebuild(tx); err != nil {
			return err
		}
		return identity.Record(tx, identity.Event{At: time.Now(), Actor: operator, Action: "ledger.rebuild_usage", Resource: "usage", From: origin})
	})
	return http.StatusOK, struct {
		Rebuilding bool `json:"rebuilding"`
	}{err == nil}, err
}
