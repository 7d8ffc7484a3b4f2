package console

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/statement"
	"ecolink/ledger/store"
)

// spend has Acme spend on API calls with a key of Ana's and on GPUs, in this month.
func (w *world) spend() (key identity.Key) {
	w.t.Helper()
	w.update(func(tx *store.Tx) (err error) {
		if key, _, err = identity.CreateKey(tx, w.acme.ID, w.ana.ID, "nightly <b>", "", time.Now()); err != nil {
			return err
		}
		for n := range 8 {
			_, err = ledger.Charge(tx, ledger.APIUsage, ledger.Entry{
				At: time.Now(), Account: w.acme.ID, Amount: usd("0.25"), Resource: "model/llama", APIKey: key.ID, Tag: fmt.Sprint("source <", n),
				Description: "=1+1", Usage: ledger.Usage{Model: "llama-3.1-8b", InputTokens: 1500, OutputTokens: 20},
			})
			if err != nil {
				return err
			}
		}
		_, err = ledger.Charge(tx, ledger.GPUUsage, ledger.Entry{
			At: time.Now(), Account: w.acme.ID, Amount: usd("3.20"), Resource: "gpu-instance/9", Usage: ledger.Usage{Seconds: 5400}, Description: "2 × h100",
		})
		return err
	})
	return key
}

func TestBillingShowsWhatAMonthWasSpentOn(t *testing.T) {
	w := newWorld(t, 1).people()
	w.spend()
	b := w.as("ana@example.org")
	month := time.Now().UTC().Format("2006-01")
	b.get("/billing").want(200, "Spent this month", "$5.20", "12,160 tokens", "nightly &lt;b&gt;", "source &lt;3", "1.5 GPU-hours", "llama-3.1-8b",
		`class="bar"`, "4 more", "Without a key", `href="/instances/9"`, "/billing/statement?format=csv&amp;month="+month).
		without("<b>", "source <", "No transactions yet").wantSafe("/billing")
	b.get("/billing?month=2020-02").want(200, "Nothing was charged in February 2020", "$5.20").wantSafe("/billing?month")
	b.get("/billing?month=nonsense").want(200, "$5.20")
	w.as("eve@example.org").get("/billing").want(200, "Nothing was charged in").without("llama", "nightly")
}

func TestTransactionsAreFilteredByType(t *testing.T) {
	w := newWorld(t, 1).people()
	w.spend()
	b := w.as("ana@example.org")
	b.get("/billing?type=gpu_usage").want(200, "2 × h100", `<option value="gpu_usage" selected>`).without("invoice", "=1+1")
	b.get("/billing?type=bonus").want(200, "none of this type")
	b.get("/billing?type=nonsense").want(200, "2 × h100", "invoice")
	w.update(func(tx *store.Tx) error {
		for range pageRows {
			if _, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: w.acme.ID, Amount: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	b.get("/billing?type=topup&month=2020-02").want(200, "&amp;month=2020-02&amp;type=topup#transactions")
}

func TestStatementIsPrintedAndDownloaded(t *testing.T) {
	w := newWorld(t, 1).people()
	w.spend()
	b := w.as("ana@example.org")
	month := time.Now().UTC().Format("2006-01")
	b.get("/billing/statement?month="+month).want(200, "Balance at the beginning", "Balance at the end", "$94.80", "+$100.00", "invoice &lt;1&gt;", "The month is not over", "data-print").
		wantSafe("/billing/statement")
	b.get("/billing/statement?month=2020-02").want(200, "There were none.").without("The month is not over")
	a := b.get("/billing/statement?format=csv&month="+month).want(200, "record,id,time,type", "'=1+1", "closing")
	if got := a.header.Get("Content-Disposition"); got != `attachment; filename="ecolink-statement-`+month+`.csv"` || !strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") {
		t.Errorf("%s, %v", got, a.header)
	}
	b.get("/billing/statement?format=json&month="+month).want(200, `"currency":"USD"`)
	w.as("eve@example.org").get("/billing/statement?format=csv").want(200, "closing").without("invoice")
}

func TestAStatementTooLongForPaperPointsToTheCSV(t *testing.T) {
	w := newWorld(t, 1).people()
	w.update(func(tx *store.Tx) error {
		for range printedRows {
			if _, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: w.acme.ID, Amount: 1}); err != nil {
				return err
			}
		}
		return nil
	})
	b := w.as("ana@example.org")
	b.get("/billing/statement").want(422, "take the CSV")
	b.get("/billing/statement?format=csv").want(200, "closing")
}

func TestKeysAreCappedByTheirOwners(t *testing.T) {
	w := newWorld(t, 1).people()
	key := w.spend()
	b := w.as("ana@example.org")
	path := fmt.Sprintf("/keys/%d/cap", key.ID)
	b.get("/keys").want(200, "$2.00", path)
	b.get(path).want(200, "Cap the spending of nightly").wantSafe(path)
	b.part(path).want(200, "Cap the spending of").without("<html")
	b.submit(path, path, url.Values{"monthly_cap": {"lots"}}).want(422, "is not an amount in dollars", `value="lots"`)
	b.submit(path, path, url.Values{"monthly_cap": {"$2.50"}}).wantRedirect("/keys")
	b.get("/keys").want(200, "of $2.50")
	b.get(path).want(200, `value="2.50"`)
	b.submit(path, path, url.Values{"monthly_cap": {""}}).wantRedirect("/keys")
	b.get("/keys").want(200).without("of $2.50")
	b.submit("/keys", "/keys", url.Values{"name": {"students"}, "monthly_cap": {"25"}}).want(200, "Your new key: students", "of $25.00")
	b.submit("/keys", "/keys", url.Values{"name": {"students"}, "monthly_cap": {"-1"}}).want(422, "A cap is not below zero", `value="-1"`)
	w.as("eve@example.org").get(path).want(404)
}

func TestQuantitiesReadWell(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
	for n, want := range map[int64]string{3600: "1", 5400: "1.5", 36: "0.01", 3_600_000: "1,000", 4500: "1.25"} {
		if got := decimal(n, 3600); got != want {
			t.Errorf("%d s are %s h, want %s", n, got, want)
		}
	}
	if from, to := statement.Month(time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC)); from.Format(time.RFC3339) != "2026-12-01T00:00:00Z" || to.Format(time.RFC3339) != "2027-01-01T00:00:00Z" {
		t.Errorf("%s to %s", from, to)
	}
}
