package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
	"ecolink/web"
)

// UsageSum is usage.Sum as the API shows it.
type UsageSum struct {
	Amount       ledger.MicroUSD `json:"amount" doc:"What was spent." example:"12.48"`
	Calls        int64           `json:"calls" doc:"How many charges there were: one for each API call."`
	InputTokens  int64           `json:"input_tokens"`
	OutputTokens int64           `json:"output_tokens"`
	Images       int64           `json:"images"`
	AudioMillis  int64           `json:"audio_ms" doc:"Milliseconds of audio."`
	VideoMillis  int64           `json:"video_ms" doc:"Milliseconds of video."`
	GPUSeconds   int64           `json:"gpu_seconds" doc:"Seconds of GPUs, all together."`
}

type usageShare struct {
	Name  string `json:"name" doc:"A row type, a model, an API key's number, a tag, or a resource." example:"llama-3.1-8b"`
	Label string `json:"label" doc:"What people call it: an API key's name; otherwise the name itself."`
	UsageSum
}

type usagePart struct {
	Data    []usageShare `json:"data" nullable:"false" doc:"The dearest first: 500 API keys or 200 of anything else at most."`
	Others  UsageSum     `json:"others" doc:"What was spent under further names."`
	Unnamed UsageSum     `json:"unnamed" doc:"What was spent under none: without an API key, a tag, a model."`
}

type usageReport struct {
	Month      string    `json:"month" doc:"UTC." example:"2026-11"`
	Total      UsageSum  `json:"total"`
	ByProduct  usagePart `json:"by_product" doc:"By row type."`
	ByModel    usagePart `json:"by_model"`
	ByKey      usagePart `json:"by_key"`
	ByTag      usagePart `json:"by_tag"`
	ByResource usagePart `json:"by_resource"`
}

type usagePoint struct {
	From time.Time `json:"from" doc:"When the hour, day or month began."`
	UsageSum
}

type usageSeries struct {
	Step usage.Step   `json:"step" enum:"hour,day,month"`
	Data []usagePoint `json:"data" nullable:"false" doc:"Oldest first, without gaps."`
}

type usageInput struct {
	Month string `query:"month" doc:"A calendar month, UTC; the current one without it." example:"2026-11"`
}

type usageOutput struct{ Body usageReport }

type seriesInput struct {
	From time.Time `query:"from" doc:"The first step is the one that this lies in; the beginning of this month without it."`
	To   time.Time `query:"to" doc:"The last step is the one before this; now without it."`
	Step string    `query:"step" enum:"hour,day,month" default:"day"`
}

type seriesOutput struct{ Body usageSeries }

func (a *api) addUsage() {
	register(a, huma.Operation{
		OperationID: "get-usage", Method: http.MethodGet, Path: "/v1/billing/usage", Tags: []string{tagBilling},
		Summary: "Break down a month's spending",
		Description: "What was spent in a calendar month, by product, model, API key, tag and resource, exact to the moment. " +
			"In each, data, others and unnamed add up to the total.",
	}, a.usage)
	register(a, huma.Operation{
		OperationID: "get-usage-series", Method: http.MethodGet, Path: "/v1/billing/usage/series", Tags: []string{tagBilling},
		Summary:     "Read spending over time",
		Description: "What was spent in each hour, day or month, UTC; 1500 of them at most. Hours are kept for 60 days, days for two years, months for ever.",
	}, a.usageSeries)
}

func (a *api) usage(ctx context.Context, in *usageInput) (*usageOutput, error) {
	month, err := monthOr(in.Month, time.Now())
	if err != nil {
		return nil, err
	}
	account := web.CallerOf(ctx).Account
	var b usage.Breakdown
	labels := map[string]string{}
	err = a.Store.View(func(tx *store.Tx) (err error) {
		if b, err = usage.Month(tx, account, month); err != nil {
			return err
		}
		labels, err = keyLabels(tx, account, b.ByKey)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &usageOutput{usageReport{
		Month: b.Month.Format(monthFormat), Total: UsageSum(b.Total),
		ByProduct: usagePartOf(b.ByProduct, nil), ByModel: usagePartOf(b.ByModel, nil), ByKey: usagePartOf(b.ByKey, labels),
		ByTag: usagePartOf(b.ByTag, nil), ByResource: usagePartOf(b.ByResource, nil),
	}}, nil
}

func usagePartOf(p usage.Part, labels map[string]string) usagePart {
	out := usagePart{Data: make([]usageShare, 0, len(p.Shares)), Others: UsageSum(p.Others), Unnamed: UsageSum(p.Unnamed)}
	for _, s := range p.Shares {
		label, ok := labels[s.Name]
		if !ok {
			label = s.Name
		}
		out.Data = append(out.Data, usageShare{Name: s.Name, Label: label, UsageSum: UsageSum(s.Sum)})
	}
	return out
}

// keyLabels are the names of the keys that are in a breakdown, revoked ones too.
func keyLabels(tx *store.Tx, account identity.AccountID, p usage.Part) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range p.Shares {
		id, err := strconv.ParseInt(s.Name, 10, 64)
		if err != nil {
			continue
		}
		k, err := identity.KeyByID(tx, account, identity.KeyID(id))
		if errors.Is(err, identity.ErrNotFound) {
			continue // its number has to do
		}
		if err != nil {
			return nil, err
		}
		out[s.Name] = k.Name
	}
	return out, nil
}

func (a *api) usageSeries(ctx context.Context, in *seriesInput) (*seriesOutput, error) {
	now := time.Now()
	if in.To.IsZero() {
		in.To = now
	}
	if in.From.IsZero() {
		in.From = ledger.MonthOf(now)
	}
	out := usageSeries{Step: usage.Step(in.Step), Data: []usagePoint{}}
	err := a.Store.View(func(tx *store.Tx) error {
		points, err := usage.Series(tx, web.CallerOf(ctx).Account, in.From, in.To, out.Step)
		for _, p := range points {
			out.Data = append(out.Data, usagePoint{From: p.From, UsageSum: UsageSum(p.Sum)})
		}
		return err
	})
	return &seriesOutput{out}, err
}

// monthFormat is how a month is written.
const monthFormat = "2006-01"

// monthOr is the month that a text names; without one it is now's.
func monthOr(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return ledger.MonthOf(now), nil
	}
	t, err := time.Parse(monthFormat, text)
	if err != nil {
		return t, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "month", "this is not a month: write it like 2026-11")
	}
	return t, nil
}
