package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
)

// listedPrice is what one thing costs, and what it is going to.
type listedPrice struct {
	Item   price.Item       `json:"item" doc:"What has the price: gpu/TYPE, mig/TYPE/PROFILE, storage/drive, storage/shared-filesystem, or model/NAME/UNIT." example:"gpu/h100"`
	Unit   string           `json:"unit" doc:"What one amount is for." example:"per GPU-hour"`
	Amount *ledger.MicroUSD `json:"amount" doc:"In US dollars; null while it has no price and can't be had." example:"1.60"`
	From   *time.Time       `json:"from" doc:"Since when it has been in force; null without an amount."`
	Next   *priceChange     `json:"next" doc:"The next change that is announced; null when none is."`
}

type priceChange struct {
	Amount *ledger.MicroUSD `json:"amount" doc:"null: it will have no price." example:"1.80"`
	From   time.Time        `json:"from" doc:"When it comes into force."`
}

type priceList struct {
	Data []listedPrice `json:"data" nullable:"false"`
}

type pricesOutput struct{ Body priceList }

func (a *api) addPrices() {
	register(a, huma.Operation{
		OperationID: "list-prices", Method: http.MethodGet, Path: "/v1/billing/prices", Tags: []string{tagBilling},
		Summary: "List the prices",
		Description: "What everything costs now, with the changes that are announced. " +
			"What runs keeps the rate that it was launched at.",
	}, a.prices)
}

func (a *api) prices(context.Context, *struct{}) (*pricesOutput, error) {
	var all []price.Standing
	if err := a.Store.View(func(tx *store.Tx) (err error) { all, err = price.Current(tx, time.Now()); return err }); err != nil {
		return nil, err
	}
	out := priceList{Data: []listedPrice{}}
	for _, s := range all {
		shown := listedPrice{Item: s.Item, Unit: s.Item.Unit()}
		if s.Price != nil {
			shown.Amount, shown.From = &s.Price.Amount, &s.Price.From
		}
		if s.Next != nil {
			shown.Next = &priceChange{Amount: s.Next.Amount, From: s.Next.From}
		}
		out.Data = append(out.Data, shown)
	}
	return &pricesOutput{out}, nil
}
