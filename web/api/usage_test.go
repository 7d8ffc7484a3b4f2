package api

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/store"
)

// spend charges Alice for two API calls with her key and an hour of GPUs without,
// and gives the month that it was in.
func (b *box) spend() (month string) {
	b.t.Helper()
	now := time.Now()
	b.update(func(tx *store.Tx) error {
		for n := range 2 {
			_, err := ledger.Charge(tx, ledger.APIUsage, ledger.Entry{
				At: now, Account: b.alice.account, Amount: 250_000, Resource: "model/llama", APIKey: b.alice.key, Tag: "web",
				Description: "=HYPERLINK()", Usage: ledger.Usage{Model: "llama", InputTokens: 10 + int64(n), OutputTokens: 20},
			})
			if err != nil {
				return err
			}
		}
		_, err := ledger.Charge(tx, ledger.GPUUsage, ledger.Entry{
			At: now, Account: b.alice.account, Amount: 1_600_000, Resource: "gpu-instance/9", Usage: ledger.Usage{Seconds: 3600},
		})
		return err
	})
	return now.UTC().Format(monthFormat)
}

func TestBalanceTellsWhatWasSpentThisMonth(t *testing.T) {
	b := newBox(t)
	b.spend()
	b.call(b.alice, "GET", "/v1/billing/balance", nil).want(200).has("available", "97.90", "spent_this_month", "2.10", "calls_this_month", 2, "tokens_this_month", 61)
	b.call(b.bob, "GET", "/v1/billing/balance", nil).want(200).has("spent_this_month", "0.00", "calls_this_month", 0, "tokens_this_month", 0)
}

func TestUsageIsBrokenDown(t *testing.T) {
	b := newBox(t)
	month := b.spend()
	b.call(b.alice, "GET", "/v1/billing/usage?month="+month, nil).want(200).has("month", month,
		"total.amount", "2.10", "total.calls", 3, "total.gpu_seconds", 3600,
		"by_product.data.0.name", "gpu_usage", "by_product.data.1.name", "api_usage", "by_product.data.1.amount", "0.50",
		"by_model.data.0.name", "llama", "by_model.data.0.input_tokens", 21, "by_model.unnamed.amount", "1.60", "by_model.others.amount", "0.00",
		"by_key.data.0.name", b.alice.key, "by_key.data.0.label", "first", "by_tag.data.0.label", "web", "by_resource.data.0.name", "gpu-instance/9")
	b.call(b.alice, "GET", "/v1/billing/usage", nil).want(200).has("total.amount", "2.10")
	b.call(b.alice, "GET", "/v1/billing/usage?month=2020-01", nil).want(200).has("total.calls", 0, "by_key.data", []any{})
	b.call(b.bob, "GET", "/v1/billing/usage", nil).want(200).has("total.amount", "0.00", "by_resource.data", []any{})
	for _, bad := range []string{"2026-13", "november", "2026-1", "2026-11-01"} {
		b.call(b.alice, "GET", "/v1/billing/usage?month="+bad, nil).refused(422, "unprocessable", "month")
	}
}

func TestUsageHasASeries(t *testing.T) {
	b := newBox(t)
	b.spend()
	today := time.Now().UTC().Truncate(24 * time.Hour)
	path := fmt.Sprintf("/v1/billing/usage/series?from=%s&to=%s", today.AddDate(0, 0, -2).Format(time.RFC3339), today.AddDate(0, 0, 1).Format(time.RFC3339))
	b.call(b.alice, "GET", path, nil).want(200).has("step", "day", "data.0.amount", "0.00", "data.2.amount", "2.10", "data.2.from", today.Format(time.RFC3339))
	if hours := b.call(b.alice, "GET", path+"&step=hour", nil).want(200).at("data").([]any); len(hours) != 72 {
		t.Errorf("three days have %d hours", len(hours))
	}
	b.call(b.alice, "GET", path+"&step=week", nil).refused(422, "unprocessable", "step")
	b.call(b.alice, "GET", "/v1/billing/usage/series?from=2001-01-01T00:00:00Z", nil).refused(422, "unprocessable", "to")
	b.call(b.alice, "GET", "/v1/billing/usage/series?from=2100-01-01T00:00:00Z", nil).refused(422, "unprocessable", "to")
	b.call(b.alice, "GET", "/v1/billing/usage/series?from=yesterday", nil).refused(422, "unprocessable", "from")
}

func TestStatementIsAFile(t *testing.T) {
	b := newBox(t)
	month := b.spend()
	r := b.call(b.alice, "GET", "/v1/billing/statement?month="+month, nil).want(200).has("opening.total", "0.00", "closing.total", "97.90", "currency", "USD",
		"rows.0.type", "topup", "rows.0.available_change", "100.00", "rows.1.usage.model", "llama", "rows.1.api_key_id", b.alice.key,
		"totals.0.type", "api_usage", "totals.0.rows", 2, "totals.0.amount", "-0.50")
	if got := r.header.Get("Content-Disposition"); got != fmt.Sprintf(`attachment; filename="ecolink-statement-%s.json"`, month) {
		t.Errorf("the file is %s", got)
	}
	r = b.call(b.alice, "GET", "/v1/billing/statement?format=csv", nil).want(200)
	lines, err := csv.NewReader(strings.NewReader(r.raw)).ReadAll()
	if err != nil || len(lines) != 10 || lines[0][0] != "record" || lines[3][9] != "'=HYPERLINK()" || r.header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("%v, %s", err, r.raw)
	}
	b.call(b.bob, "GET", "/v1/billing/statement", nil).want(200).has("rows", []any{}, "totals", []any{})
	b.call(b.alice, "GET", "/v1/billing/statement?from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00%2B01:00", nil).want(200).has("rows", []any{}, "closing.total", "0.00")
	for param, query := range map[string]string{
		"month":  "month=2026-11&from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z",
		"to":     "from=2020-01-01T00:00:00Z",
		"format": "format=pdf",
	} {
		b.call(b.alice, "GET", "/v1/billing/statement?"+query, nil).refused(422, "unprocessable", param)
	}
	b.call(b.alice, "GET", "/v1/billing/statement?to=2020-01-01T00:00:00Z&from=2020-01-01T00:00:00Z", nil).refused(422, "unprocessable", "to")
}

func TestTransactionsAreFiltered(t *testing.T) {
	b := newBox(t)
	b.spend()
	const path = "/v1/billing/transactions?"
	one := b.call(b.alice, "GET", path+"type=api_usage&limit=1", nil).want(200).has("data.0.type", "api_usage", "data.0.tag", "web", "data.0.api_key_id", b.alice.key, "next_cursor", "3")
	b.call(b.alice, "GET", path+"type=api_usage&limit=1&cursor="+one.at("next_cursor").(string), nil).want(200).has("data.0.id", 2, "next_cursor", nil)
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	b.call(b.alice, "GET", path+"from="+tomorrow, nil).want(200).has("data", []any{}, "next_cursor", nil)
	b.call(b.alice, "GET", path+"to=2020-01-01T00:00:00Z", nil).want(200).has("data", []any{}, "next_cursor", nil)
	b.call(b.alice, "GET", path+"to="+tomorrow, nil).want(200).has("data.3.type", "topup", "data.3.api_key_id", nil)
	b.call(b.alice, "GET", path+"type=gift", nil).refused(422, "unprocessable", "type")
}

func TestKeysHaveACapAndTellWhatTheySpent(t *testing.T) {
	b := newBox(t)
	b.spend()
	path := fmt.Sprintf("/v1/api-keys/%d", b.alice.key)
	b.call(b.alice, "GET", "/v1/api-keys", nil).want(200).has("data.0.monthly_cap", nil, "data.0.spent_this_month", "0.50", "data.0.cap_used", nil)
	b.call(b.alice, "PATCH", path, object{"monthly_cap": "0.60"}).want(200).has("monthly_cap", "0.60", "cap_used", "0.50", "name", "first")
	err := b.store.Update(t.Context(), func(tx *store.Tx) error {
		_, err := ledger.Charge(tx, ledger.APIUsage, ledger.Entry{At: time.Now(), Account: b.alice.account, Amount: 100_001, APIKey: b.alice.key})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "cap") {
		t.Errorf("more than the cap: %v", err)
	}
	// It can't lift its own cap, nor make itself another key.
	b.call(b.alice, "PATCH", path, object{"monthly_cap": nil}).refused(403, "forbidden", "")
	b.call(b.alice, "POST", "/v1/api-keys", object{"name": "another"}).refused(403, "forbidden", "")
	b.update(func(tx *store.Tx) error { return ledger.ClearKeyCap(tx, b.alice.key) })
	b.call(b.alice, "GET", "/v1/api-keys", nil).want(200).has("data.0.monthly_cap", nil, "data.0.cap_used", nil)
	made := b.call(b.alice, "POST", "/v1/api-keys", object{"name": "capped", "monthly_cap": "25"}).want(201).has("monthly_cap", "25.00", "cap_used", "0.00")
	b.call(b.alice, "GET", "/v1/api-keys", nil).want(200).has("data.1.id", made.at("id"), "data.1.monthly_cap", "25.00")
	b.call(b.alice, "POST", "/v1/api-keys", object{"name": "free", "monthly_cap": nil}).want(201).has("monthly_cap", nil)
	for _, bad := range []any{"-1", "ten", "1e3", "", "0.0000001", 25} {
		b.call(b.alice, "PATCH", path, object{"monthly_cap": bad}).refused(422, "unprocessable", "monthly_cap")
		b.call(b.alice, "POST", "/v1/api-keys", object{"name": "n", "monthly_cap": bad}).refused(422, "unprocessable", "monthly_cap")
	}
	b.call(b.alice, "PATCH", path, object{}).refused(422, "unprocessable", "monthly_cap")
	b.call(b.bob, "PATCH", path, object{"monthly_cap": "1"}).refused(404, "not_found", "")
	if got := fmt.Sprint(b.audit(b.alice)); !strings.Contains(got, fmt.Sprintf("key.cap key:%d", b.alice.key)) {
		t.Errorf("the audit log has %s", got)
	}
}
