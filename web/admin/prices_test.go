package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// nextYear is a date that can be announced.
func nextYear() time.Time {
	return time.Date(time.Now().UTC().Year()+1, time.July, 1, 0, 0, 0, 0, time.UTC)
}

func TestPricesAreSetAnnouncedAndListed(t *testing.T) {
	b := newBox(t)
	if out := b.call("GET", "/admin/prices", nil, 200); fmt.Sprint(out) != "map[data:[]]" {
		t.Errorf("%v", out)
	}
	out := b.call("POST", "/admin/prices", object{"item": "gpu/h100", "amount": "1.6", "note": "first"}, 200)
	if len(out) != 6 || out["item"] != "gpu/h100" || out["unit"] != "per GPU-hour" || out["amount"] != "1.60" || out["from"] != out["set_at"] || out["note"] != "first" {
		t.Errorf("%v", out)
	}
	date := nextYear().Format(time.DateOnly)
	out = b.call("POST", "/admin/prices", object{"item": "gpu/h100", "amount": "1.8", "from": date}, 200)
	if out["from"] != date+"T00:00:00Z" || out["amount"] != "1.80" {
		t.Errorf("%v", out)
	}
	out = b.call("POST", "/admin/prices", object{"item": "model/a/B.c/image", "amount": "0", "from": date + "T02:30:00+02:00"}, 200)
	if out["from"] != date+"T00:30:00Z" || out["amount"] != "0.00" {
		t.Errorf("%v", out)
	}
	listed := b.call("GET", "/admin/prices", nil, 200)["data"].([]any)
	h100, model := listed[0].(object), listed[1].(object)
	if len(listed) != 2 || h100["amount"] != "1.60" || h100["next"].(object)["amount"] != "1.80" || h100["next"].(object)["from"] != date+"T00:00:00Z" {
		t.Errorf("%v", listed)
	}
	if model["item"] != "model/a/B.c/image" || model["amount"] != nil || model["from"] != nil || model["next"].(object)["unit"] != "per image" {
		t.Errorf("%v", listed)
	}
	history := b.call("GET", "/admin/prices/history?item=gpu/h100", nil, 200)["data"].([]any)
	if len(history) != 2 || history[0].(object)["amount"] != "1.80" || history[1].(object)["note"] != "first" {
		t.Errorf("%v", history)
	}
	if out := b.call("GET", "/admin/prices/history?item=storage/drive", nil, 200); fmt.Sprint(out) != "map[data:[]]" {
		t.Errorf("%v", out)
	}
	if got := fmt.Sprint(b.audit()); got != "[price.set price.set price.set]" {
		t.Errorf("audit: %s", got)
	}
}

func TestRateIsShortForTheGPUsPrice(t *testing.T) {
	b := newBox(t)
	b.call("POST", "/admin/rate", object{"gpu_type": "h100", "rate": "1.6"}, 200)
	b.call("POST", "/admin/prices", object{"item": "gpu/a100", "amount": "0.9"}, 200)
	b.call("POST", "/admin/prices", object{"item": "gpu/b200", "amount": "5", "from": nextYear().Format(time.DateOnly)}, 200)
	b.call("POST", "/admin/prices", object{"item": "storage/drive", "amount": "0.08"}, 200)
	if out := fmt.Sprint(b.call("GET", "/admin/rates", nil, 200)); out != "map[a100:0.90 h100:1.60]" {
		t.Error(out)
	}
	listed := b.call("GET", "/admin/prices", nil, 200)["data"].([]any)
	if len(listed) != 4 || listed[2].(object)["item"] != "gpu/h100" || listed[2].(object)["amount"] != "1.60" {
		t.Errorf("%v", listed)
	}
	b.refused("/admin/rate", object{"gpu_type": "h100/x", "rate": "1"}, 422, "unprocessable", "gpu_type")
	b.refused("/admin/rate", object{"gpu_type": "h100", "rate": "1000000.01"}, 422, "unprocessable", "rate")
}

func TestPriceIsWithdrawnAndAnAnnouncementCancelled(t *testing.T) {
	b := newBox(t)
	date := nextYear().Format(time.DateOnly)
	b.call("POST", "/admin/prices", object{"item": "gpu/h100", "amount": "1.6"}, 200)
	b.call("POST", "/admin/prices", object{"item": "gpu/h100", "amount": "1.8", "from": date, "note": "power"}, 200)
	if out := b.call("POST", "/admin/prices/cancel", object{"item": "gpu/h100", "from": date}, 200); out["amount"] != "1.80" {
		t.Errorf("%v", out)
	}
	b.refused("/admin/prices/cancel", object{"item": "gpu/h100", "from": date}, 404, "not_found", "from")
	b.refused("/admin/prices/cancel", object{"item": "gpu/h100"}, 422, "unprocessable", "from")
	if out := b.call("POST", "/admin/prices/withdraw", object{"item": "gpu/h100"}, 200); out["amount"] != nil || out["from"] == "" {
		t.Errorf("%v", out)
	}
	b.refused("/admin/prices/withdraw", object{"item": "gpu/h100"}, 404, "not_found", "item")
	if out := b.call("GET", "/admin/rates", nil, 200); len(out) != 0 {
		t.Errorf("%v", out)
	}
	if got := fmt.Sprint(b.audit()); got != "[price.set price.set price.cancel price.withdraw]" {
		t.Errorf("audit: %s", got)
	}
	var told []string
	b.view(func(tx *store.Tx) error {
		all, err := identity.ListAllAudit(tx, 100, 0)
		for _, e := range all {
			told = append(told, e.Resource+" "+e.Detail)
		}
		return err
	})
	if !strings.HasPrefix(told[0], "price:gpu/h100 no price from ") || !strings.HasSuffix(told[0], ", $1.60 before") ||
		told[2] != "price:gpu/h100 $1.80 per GPU-hour from "+date+"T00:00:00Z, $1.60 before: power" {
		t.Errorf("%q", told)
	}
}

func TestBadPriceNamesItsFieldAndChangesNothing(t *testing.T) {
	b := newBox(t)
	for field, values := range map[string][]any{
		"item":   {"", "h100", "gpu/H100", "gpu/", "storage/tape", "model/x", "model/x/words", "mig/h100/10gb", 7},
		"amount": {"", "0", "-1", "free", "1e2", "1000000.01", "1.0000001", 1.6},
		"from":   {"now", "2020-01-01", "2020-01-01T00:00:00Z", "01.12.2026", "2026-13-01", "9999-01-01", strings.Repeat("2", 1000), 7},
		"note":   {"two\nlines", strings.Repeat("n", 501), 7},
		"price":  {"1.60"},
	} {
		for _, v := range values {
			in := object{"item": "gpu/h100", "amount": "1.60"}
			in[field] = v
			b.refused("/admin/prices", in, 422, "unprocessable", field)
		}
	}
	b.refused("/admin/prices/withdraw", object{"item": "tape"}, 422, "unprocessable", "item")
	b.refused("/admin/prices/withdraw", object{"item": "gpu/h100", "from": "then"}, 422, "unprocessable", "from")
	b.refused("/admin/prices/withdraw", object{"item": "gpu/h100", "amount": "1"}, 422, "unprocessable", "amount")
	e := b.call("GET", "/admin/prices/history?item=tape", nil, 422)["error"].(object)
	if e["param"] != "item" || !strings.Contains(e["message"].(string), "gpu/TYPE") {
		t.Errorf("%v", e)
	}
	if out := b.call("GET", "/admin/prices", nil, 200); fmt.Sprint(out) != "map[data:[]]" {
		t.Errorf("%v", out)
	}
	if got := b.audit(); len(got) != 0 {
		t.Errorf("audit: %v", got)
	}
}

func (b *box) view(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.store.View(fn); err != nil {
		b.t.Fatal(err)
	}
}
