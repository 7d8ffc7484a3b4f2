package console

import (
	"net/http"
	"strconv"
	"strings"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// billingView is the account's wallet and a page of its statement.
type billingView struct {
	frame
	Rows   []ledger.Transfer
	Before int64 // 0 on the first page
	Older  int64 // where the next page begins; 0: there is none
}

func (c *console) billing(w http.ResponseWriter, r *http.Request, v *visit) error {
	b := billingView{frame: c.frame(r, v, "Billing")}
	if n, err := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64); err == nil && n > 0 {
		b.Before = n
	}
	err := c.Store.View(func(tx *store.Tx) error {
		for row, err := range ledger.Statement(tx, v.account.ID, b.Before) {
			if err != nil {
				return err
			}
			if len(b.Rows) == pageRows {
				b.Older = b.Rows[pageRows-1].Seq
				break
			}
			b.Rows = append(b.Rows, row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, billingPage(b))
}

// kinds are the journal's row types for people.
var kinds = map[ledger.Type]string{
	ledger.TopUp: "Top-up", ledger.Bonus: "Bonus", ledger.HoldPlaced: "Hold", ledger.GPUUsage: "GPU usage",
	ledger.InferenceUsage: "Inference usage", ledger.APIUsage: "API usage", ledger.StorageBilling: "Storage",
	ledger.Refund: "Refund", ledger.AdminCorrection: "Correction",
}

func kind(t ledger.Type) string {
	if s, ok := kinds[t]; ok {
		return s
	}
	return string(t)
}

// resourceURL is the page of what a row of the journal is about; "" when it has none.
func resourceURL(resource string) string {
	if n, ok := strings.CutPrefix(resource, "gpu-instance/"); ok {
		return "/instances/" + n
	}
	return ""
}
