package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/ledger/store"
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

type balanceOutput struct{ Body balance }

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
}

func transactionOf(t ledger.Transfer) transaction {
	out := transaction{
		ID: t.Seq, Time: t.At.UTC(), Type: t.Type, Amount: t.Signed(), BalanceAfter: t.Available, HeldAfter: t.Held,
		Description: t.Description, Resource: t.Resource, RequestID: t.RequestID,
	}
	if t.Hold != 0 {
		out.HoldID = &t.Hold
	}
	return out
}

type transactionsOutput struct{ Body page[transaction] }

func (a *api) addBilling() {
	register(a, huma.Operation{
		OperationID: "get-balance", Method: http.MethodGet, Path: "/v1/billing/balance", Tags: []string{tagBilling},
		Summary: "Read the balance",
	}, a.balance)
	register(a, huma.Operation{
		OperationID: "list-transactions", Method: http.MethodGet, Path: "/v1/billing/transactions", Tags: []string{tagBilling},
		Summary: "List the statement", Description: "Every movement of the account's money, newest first. Rows are never changed or removed.",
	}, a.transactions)
}

func (a *api) balance(ctx context.Context, _ *struct{}) (*balanceOutput, error) {
	var w ledger.Wallet
	err := a.Store.View(func(tx *store.Tx) (err error) {
		w, err = ledger.WalletOf(tx, web.CallerOf(ctx).Account)
		return err
	})
	return &balanceOutput{balanceOf(w)}, err
}

func (a *api) transactions(ctx context.Context, in *PageQuery) (*transactionsOutput, error) {
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	var rows []transaction
	err = a.Store.View(func(tx *store.Tx) error {
		for t, err := range ledger.Statement(tx, web.CallerOf(ctx).Account, before) {
			if err != nil {
				return err
			}
			if rows = append(rows, transactionOf(t)); len(rows) > in.Limit {
				break
			}
		}
		return nil
	})
	return &transactionsOutput{paginate(rows, in.Limit, func(t transaction) int64 { return t.ID })}, err
}
