package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/metering"
	"ecolink/ledger/statement"
	"ecolink/ledger/store"
)

// billingView is the account's wallet, what it spent in a month, and a page of its
// transactions.
type billingView struct {
	frame
	spending
	Now    spentNow // of the current month, whichever is shown
	Ahead  metering.Outlook
	Rows   []ledger.Transfer
	Type   ledger.Type // that the rows are of; "": of all
	Before int64       // 0 on the first page
	Older  int64       // where the next page begins; 0: there is none
}

// spentNow is what the tiles tell of the current month.
type spentNow struct {
	Amount        ledger.MicroUSD
	Calls, Tokens int64
}

func (c *console) billing(w http.ResponseWriter, r *http.Request, v *visit) error {
	now, q := time.Now(), r.URL.Query()
	b := billingView{frame: c.frame(r, v, "Billing"), Type: knownType(q.Get("type"))}
	month := monthOf(q.Get("month"), now)
	if n, err := strconv.ParseInt(q.Get("before"), 10, 64); err == nil && n > 0 {
		b.Before = n
	}
	err := c.Store.View(func(tx *store.Tx) (err error) {
		if b.spending, err = readSpending(tx, v.account, month, now); err != nil {
			return err
		}
		if b.Now, err = readSpentNow(tx, v.account.ID, now); err != nil {
			return err
		}
		b.Rows, b.Older, err = statement.Find(tx, v.account.ID, statement.Filter{Type: b.Type, Before: b.Before}, transactionRows)
		return err
	})
	if err != nil {
		return err
	}
	if b.Ahead, err = c.Scheduler.Forecast(v.account.ID); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, billingPage(b))
}

// outlookWords says what things cost by the hour, and what of it is paid already:
// how long the balance lasts is only about the rest.
func outlookWords(o metering.Outlook) string {
	words := "What runs and is stored now costs " + money(o.BurnPerHour) + " an hour."
	switch o.PaidAhead {
	case 0:
		return words
	case o.BurnPerHour:
		return words + " It is paid ahead, out of what is held."
	}
	return words + " Running instances, " + money(o.PaidAhead) + " of it, are paid ahead, out of what is held."
}

// covered names what the balance is spent on.
func covered(o metering.Outlook) string {
	if o.PaidAhead == 0 {
		return "it"
	}
	return "what goes on costing, such as storage,"
}

// page is the address of a page of the transactions, with the month as it is.
func (b billingView) page(before int64) string {
	q := url.Values{}
	if before != 0 {
		q.Set("before", strconv.FormatInt(before, 10))
	}
	if b.Month.Key != b.Current {
		q.Set("month", b.Month.Key)
	}
	if b.Type != "" {
		q.Set("type", string(b.Type))
	}
	if len(q) == 0 {
		return "/billing"
	}
	return "/billing?" + q.Encode()
}

// kinds are the journal's row types for people, in the order of the filter.
var kinds = []struct {
	Type ledger.Type
	Name string
}{
	{ledger.TopUp, "Top-up"}, {ledger.Bonus, "Bonus"}, {ledger.HoldPlaced, "Hold"}, {ledger.Refund, "Refund"},
	{ledger.GPUUsage, "GPU usage"}, {ledger.InferenceUsage, "Inference usage"}, {ledger.APIUsage, "API usage"},
	{ledger.StorageBilling, "Storage"}, {ledger.AdminCorrection, "Correction"},
}

func kind(t ledger.Type) string {
	for _, k := range kinds {
		if k.Type == t {
			return k.Name
		}
	}
	return string(t)
}

// knownType is the row type that a text names; "" for others, which is all.
func knownType(text string) ledger.Type {
	for _, k := range kinds {
		if string(k.Type) == text {
			return k.Type
		}
	}
	return ""
}

// resourceURL is the page of what a row of the journal is about; "" when it has none.
func resourceURL(resource string) string {
	if n, ok := strings.CutPrefix(resource, "gpu-instance/"); ok {
		return "/instances/" + n
	}
	return ""
}
