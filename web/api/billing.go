package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/statement"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
	"ecolink/web"
)

// balance is a wallet as the API shows it.
type balance struct {
	Available ledger.MicroUSD `json:"available" doc:"What can be spent now." example:"96.80"`
	Held      ledger.MicroUSD `json:"held" doc:"Set aside for what runs." example:"3.20"`
	Total     ledger.MicroUSD `json:"total" doc:"Both together." example:"100.00"`
	Currency  string          `json:"currency" enum:"USD"`
}

func balanceOf(w ledger.Wallet) balance {
	return balance{Available: w.Available, Held: w.Held, Total: w.Total(), Currency: "USD"}
}

// accountBalance is the balance with what was spent in this month, and how it goes on.
type accountBalance struct {
	Available       ledger.MicroUSD `json:"available" doc:"What can be spent now." example:"96.80"`
	Held            ledger.MicroUSD `json:"held" doc:"Set aside for what runs." example:"3.20"`
	Total           ledger.MicroUSD `json:"total" doc:"Both together." example:"100.00"`
	Currency        string          `json:"currency" enum:"USD"`
	SpentThisMonth  ledger.MicroUSD `json:"spent_this_month" doc:"What was charged since the beginning of the calendar month, UTC." example:"12.48"`
	CallsThisMonth  int64           `json:"calls_this_month" doc:"API calls that were charged."`
	TokensThisMonth int64           `json:"tokens_this_month" doc:"Of input and output."`
	BurnPerHour     ledger.MicroUSD `json:"burn_per_hour" doc:"What is spent per hour by what runs and is stored now." example:"1.60"`
	LastsUntil      *time.Time      `json:"lasts_until" doc:"When money is first missing for something that goes on; null when it does not run out. An instance whose paid time ends as planned does not run out of money."`
}

type balanceOutput struct{ Body accountBalance }

// transaction is a row of the account's statement.
type transaction struct {
	ID           int64           `json:"id" doc:"The row's number in the ledger of the box."`
	Time         time.Time       `json:"time"`
	Type         ledger.Type     `json:"type" enum:"topup,bonus,hold,gpu_usage,inference_usage,api_usage,storage_billing,refund,admin_correction"`
	Amount       ledger.MicroUSD `json:"amount" doc:"Below zero when it leaves what can be spent, or is spent from what was held." example:"-3.20"`
	BalanceAfter ledger.MicroUSD `json:"balance_after" doc:"What could be spent after it." example:"96.80"`
	HeldAfter    ledger.MicroUSD `json:"held_after" example:"3.20"`
	Description  string          `json:"description"`
	Resource     string          `json:"resource" doc:"What it was for; empty for none." example:"gpu-instance/142"`
	RequestID    string          `json:"request_id" doc:"The request that caused it; empty when none did."`
	HoldID       *ledger.HoldID  `json:"hold_id" doc:"The hold that it belongs to."`
	APIKeyID     *identity.KeyID `json:"api_key_id" doc:"The API key that it was asked for with; null for none."`
	Tag          string          `json:"tag" doc:"The source that it is counted under; may be empty."`
}

func transactionOf(t ledger.Transfer) transaction {
	out := transaction{
		ID: t.Seq, Time: t.At.UTC(), Type: t.Type, Amount: t.Signed(), BalanceAfter: t.Available, HeldAfter: t.Held,
		Description: t.Description, Resource: t.Resource, RequestID: t.RequestID, Tag: t.Tag,
	}
	if t.Hold != 0 {
		out.HoldID = &t.Hold
	}
	if t.APIKey != 0 {
		out.APIKeyID = &t.APIKey
	}
	return out
}

type transactionsInput struct {
	PageQuery
	Type string    `query:"type" enum:"topup,bonus,hold,gpu_usage,inference_usage,api_usage,storage_billing,refund,admin_correction" doc:"Only rows of this type."`
	From time.Time `query:"from" doc:"Only rows made from this instant on."`
	To   time.Time `query:"to" doc:"Only rows made before this instant."`
}

type transactionsOutput struct{ Body page[transaction] }

func (a *api) addBilling() {
	register(a, huma.Operation{
		OperationID: "get-balance", Method: http.MethodGet, Path: "/v1/billing/balance", Tags: []string{tagBilling},
		Summary: "Read the balance", Description: "What there is, and what was spent in this calendar month, UTC.",
	}, a.balance)
	register(a, huma.Operation{
		OperationID: "list-transactions", Method: http.MethodGet, Path: "/v1/billing/transactions", Tags: []string{tagBilling},
		Summary: "List the statement",
		Description: "Every movement of the account's money, newest first. Rows are never changed or removed. " +
			"With a filter a page may have fewer rows than asked for, or none, and a next_cursor: what is left was too far away to look for it at once.",
	}, a.transactions)
	a.addUsage()
	a.addStatement()
	a.addPrices()
}

func (a *api) balance(ctx context.Context, _ *struct{}) (*balanceOutput, error) {
	account, now := web.CallerOf(ctx).Account, time.Now()
	var w ledger.Wallet
	var month usage.Breakdown
	err := a.Store.View(func(tx *store.Tx) (err error) {
		if w, err = ledger.WalletOf(tx, account); err != nil {
			return err
		}
		month, err = usage.Month(tx, account, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	ahead, err := a.Scheduler.Forecast(account)
	return &balanceOutput{accountBalance{
		Available: w.Available, Held: w.Held, Total: w.Total(), Currency: "USD",
		SpentThisMonth: month.Total.Amount, CallsThisMonth: month.Product(ledger.APIUsage).Calls, TokensThisMonth: month.Total.Tokens(),
		BurnPerHour: ahead.BurnPerHour, LastsUntil: instantOrNull(ahead.LastsUntil),
	}}, err
}

func (a *api) transactions(ctx context.Context, in *transactionsInput) (*transactionsOutput, error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	out := page[transaction]{Data: []transaction{}}
	filter := statement.Filter{Type: ledger.Type(in.Type), From: in.From, To: in.To, Before: before}
	err = a.Store.View(func(tx *store.Tx) error {
		rows, next, err := statement.Find(tx, web.CallerOf(ctx).Account, filter, in.Limit)
		for _, t := range rows {
			out.Data = append(out.Data, transactionOf(t))
		}
		if next != 0 {
			cursor := strconv.FormatInt(next, 10)
			out.NextCursor = &cursor
		}
		return err
	})
	return &transactionsOutput{out}, err
}
