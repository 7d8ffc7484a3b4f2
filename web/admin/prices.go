package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/web"
)

type priceRequest struct {
	Item   string `json:"item"`
	Amount string `json:"amount"`
	From   string `json:"from"` // a date or a time; now when it is empty
	Note   string `json:"note"`
}

// withdrawRequest is for cancelling too.
type withdrawRequest struct {
	Item string `json:"item"`
	From string `json:"from"`
}

// priceAnswer is what holds for an item from an instant on.
type priceAnswer struct {
	Item   price.Item       `json:"item"`
	Unit   string           `json:"unit"`
	Amount *ledger.MicroUSD `json:"amount"` // null: it has no price
	From   time.Time        `json:"from"`
	SetAt  time.Time        `json:"set_at"`
	Note   string           `json:"note"`
}

func priceAnswerOf(c price.Change) priceAnswer {
	return priceAnswer{Item: c.Item, Unit: c.Item.Unit(), Amount: c.Amount, From: c.From, SetAt: c.SetAt, Note: c.Note}
}

// standingPrice is how the list stands for an item.
type standingPrice struct {
	Item   price.Item       `json:"item"`
	Unit   string           `json:"unit"`
	Amount *ledger.MicroUSD `json:"amount"` // null: none now
	From   *time.Time       `json:"from"`
	Next   *priceAnswer     `json:"next"` // null: no change is announced
}

type list[T any] struct {
	Data []T `json:"data"`
}

// setPrice gives an item a price, from now or from a later time on.
func (h *handler) setPrice(r *http.Request) (int, any, error) {
	var in priceRequest
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	item, err := price.ParseItem(in.Item)
	if err != nil {
		return 0, nil, err
	}
	amount, err := parseAmount("amount", in.Amount)
	if err != nil {
		return 0, nil, err
	}
	from, err := parseInstant("from", in.From)
	if err != nil {
		return 0, nil, err
	}
	c, err := h.changePrice(r, "price.set", item, from, func(tx *store.Tx, now time.Time) (price.Change, error) {
		return price.Set(tx, item, amount, from, now, in.Note)
	})
	return http.StatusOK, priceAnswerOf(c), err
}

// withdrawPrice leaves an item without a price.
func (h *handler) withdrawPrice(r *http.Request) (int, any, error) {
	item, from, err := readWithdrawal(r)
	if err != nil {
		return 0, nil, err
	}
	c, err := h.changePrice(r, "price.withdraw", item, from, func(tx *store.Tx, now time.Time) (price.Change, error) {
		return price.Withdraw(tx, item, from, now)
	})
	return http.StatusOK, priceAnswerOf(c), err
}

// cancelPrice takes back a change that is announced, and answers which.
func (h *handler) cancelPrice(r *http.Request) (int, any, error) {
	item, from, err := readWithdrawal(r)
	if err != nil {
		return 0, nil, err
	}
	if from.IsZero() {
		return 0, nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "from",
			"name the time that the change is announced for: `ecolink admin price history` shows it")
	}
	c, err := h.changePrice(r, "price.cancel", item, from, func(tx *store.Tx, now time.Time) (price.Change, error) {
		return price.Cancel(tx, item, from, now)
	})
	return http.StatusOK, priceAnswerOf(c), err
}

func readWithdrawal(r *http.Request) (item price.Item, from time.Time, err error) {
	var in withdrawRequest
	if err := decode(r, &in); err != nil {
		return "", from, err
	}
	if item, err = price.ParseItem(in.Item); err != nil {
		return "", from, err
	}
	from, err = parseInstant("from", in.From)
	return item, from, err
}

// changePrice changes the list and records who did, and what held until then.
func (h *handler) changePrice(r *http.Request, action string, item price.Item, from time.Time, change func(*store.Tx, time.Time) (price.Change, error)) (c price.Change, err error) {
	now := time.Now()
	if from.IsZero() {
		from = now
	}
	err = h.store.Update(r.Context(), func(tx *store.Tx) error {
		before, had, err := price.At(tx, item, from)
		if err != nil {
			return err
		}
		if c, err = change(tx, now); err != nil {
			return err
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: action, Resource: "price:" + string(item), From: origin, Detail: tell(c, before, had),
		})
	})
	return c, err
}

// tell puts a change in words, for the audit log.
func tell(c price.Change, before price.Price, had bool) string {
	detail := "no price"
	if c.Amount != nil {
		detail = fmt.Sprintf("$%s %s", c.Amount, c.Item.Unit())
	}
	detail += " from " + c.From.Format(time.RFC3339)
	if had {
		detail += fmt.Sprintf(", $%s before", before.Amount)
	}
	if c.Note != "" {
		detail += ": " + c.Note
	}
	return detail
}

// prices lists what has a price now, or is to get one.
func (h *handler) prices(*http.Request) (int, any, error) {
	out := list[standingPrice]{Data: []standingPrice{}}
	var all []price.Standing
	if err := h.store.View(func(tx *store.Tx) (err error) { all, err = price.Current(tx, time.Now()); return err }); err != nil {
		return 0, nil, err
	}
	for _, s := range all {
		shown := standingPrice{Item: s.Item, Unit: s.Item.Unit()}
		if s.Price != nil {
			shown.Amount, shown.From = &s.Price.Amount, &s.Price.From
		}
		if s.Next != nil {
			next := priceAnswerOf(*s.Next)
			shown.Next = &next
		}
		out.Data = append(out.Data, shown)
	}
	return http.StatusOK, out, nil
}

// priceHistory lists the changes of one item, newest first.
func (h *handler) priceHistory(r *http.Request) (int, any, error) {
	item, err := price.ParseItem(r.URL.Query().Get("item"))
	if err != nil {
		return 0, nil, err
	}
	var all []price.Change
	if err := h.store.View(func(tx *store.Tx) (err error) { all, err = price.History(tx, item); return err }); err != nil {
		return 0, nil, err
	}
	out := list[priceAnswer]{Data: []priceAnswer{}}
	for _, c := range all {
		out.Data = append(out.Data, priceAnswerOf(c))
	}
	return http.StatusOK, out, nil
}

type rate struct {
	GPUType string `json:"gpu_type"`
	Rate    string `json:"rate"`
}

// rateAnswer is the price that holds now.
type rateAnswer struct {
	rate
	// Warning says that no GPU here has this price, which may come before its GPU does.
	Warning string `json:"warning,omitempty"`
}

// WithGPUs tells which types of GPU the box has.
func WithGPUs(types []string) Option { return func(h *handler) { h.gpuTypes = &types } }

// noSuchGPU says that the box has no GPU of a type, and which it has; empty when it
// has one, or when that is not known since EcoLink does not run.
func (h *handler) noSuchGPU(gpuType string) string {
	if h.gpuTypes == nil || slices.Contains(*h.gpuTypes, gpuType) {
		return ""
	}
	have := "it has none"
	if len(*h.gpuTypes) > 0 {
		have = "it has " + strings.Join(*h.gpuTypes, ", ")
	}
	return fmt.Sprintf("no GPU of type %s is in this box (%s): a price under a mistyped name is withdrawn with `ecolink admin price withdraw gpu/%s`", gpuType, have, gpuType)
}

// setRate is short for the price of a whole GPU from now on.
func (h *handler) setRate(r *http.Request) (int, any, error) {
	var in rate
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	item, err := price.ParseItem(string(price.GPU(in.GPUType)))
	if err != nil {
		return 0, nil, inField(err, "gpu_type")
	}
	amount, err := parseAmount("rate", in.Rate)
	if err != nil {
		return 0, nil, err
	}
	now := time.Now()
	err = h.store.Update(r.Context(), func(tx *store.Tx) error {
		before, had, err := price.At(tx, item, now)
		if err != nil {
			return err
		}
		if _, err := price.Set(tx, item, amount, now, now, ""); err != nil {
			return inField(err, "rate")
		}
		detail := fmt.Sprintf("$%s an hour", amount)
		if had {
			detail += fmt.Sprintf(", $%s before", before.Amount)
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: "rate.set", Resource: "rate:" + in.GPUType, From: origin, Detail: detail,
		})
	})
	return http.StatusOK, rateAnswer{rate{GPUType: in.GPUType, Rate: amount.String()}, h.noSuchGPU(in.GPUType)}, err
}

// rates lists the price per GPU-hour of each type.
func (h *handler) rates(*http.Request) (int, any, error) {
	var out map[string]ledger.MicroUSD
	err := h.store.View(func(tx *store.Tx) (err error) { out, err = price.GPURates(tx, time.Now()); return err })
	return http.StatusOK, out, err
}

// inField names the field of this request where the price list's own is meant.
func inField(err error, field string) error {
	var theirs *price.Error
	if !errors.As(err, &theirs) || theirs.Kind != price.ErrInvalid {
		return err
	}
	ours := *theirs
	ours.Field = field
	return &ours
}

// parseInstant reads a time, or a date for its beginning in UTC. An empty one is
// the zero time.
func parseInstant(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, strings.TrimSpace(text)); err == nil {
			return t.UTC(), nil
		}
	}
	const enough = 40
	if len(text) > enough {
		text = text[:enough] + "…"
	}
	return time.Time{}, web.Fail(http.StatusUnprocessableEntity, "unprocessable", field,
		fmt.Sprintf("%q is no time: write a date like 2026-12-01, which begins at 00:00 UTC, or a time like 2026-12-01T09:30:00Z", text))
}
