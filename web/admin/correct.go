package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

type correctRequest struct {
	Account accountRef `json:"account"`
	Amount  string     `json:"amount"` // below zero takes
	Reason  string     `json:"reason"`
	Key     string     `json:"key"` // idempotency key
}

func (c correctRequest) check() (ledger.MicroUSD, error) {
	if strings.TrimSpace(c.Reason) == "" {
		return 0, ledger.ErrNoReason
	}
	if len(c.Reason) > maxNoteBytes {
		return 0, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "reason", fmt.Sprintf("a reason has %d bytes at most: shorten it", maxNoteBytes))
	}
	if err := checkLine("reason", c.Reason); err != nil {
		return 0, err
	}
	if err := checkKey(c.Key); err != nil {
		return 0, err
	}
	return parseAmount("amount", c.Amount)
}

type correctAnswer struct {
	AccountID     identity.AccountID `json:"account_id"`
	Available     ledger.MicroUSD    `json:"available"` // now
	Held          ledger.MicroUSD    `json:"held"`
	TransactionID int64              `json:"transaction_id"` // the first row's
}

// correct adds to or takes from an account, for a reason that stands in its
// statement. A second call with the same key changes nothing.
func (h *handler) correct(r *http.Request) (int, any, error) {
	var in correctRequest
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	amount, err := in.check()
	if err != nil {
		return 0, nil, err
	}
	var out correctAnswer
	now := time.Now().UTC()
	err = h.store.Update(r.Context(), func(tx *store.Tx) error {
		account, err := in.Account.find(tx)
		if err != nil {
			return err
		}
		newest, err := ledger.Newest(tx)
		if err != nil {
			return err
		}
		t, err := ledger.Correct(tx, ledger.Entry{
			At: now, Account: account, Amount: amount, Key: in.Key, Description: in.Reason, RequestID: web.RequestID(r.Context()),
		})
		if err != nil {
			return err
		}
		if err := scheduler.ShortenToHolds(tx, account, now); err != nil {
			return err
		}
		w, err := ledger.WalletOf(tx, account)
		out = correctAnswer{AccountID: account, Available: w.Available, Held: w.Held, TransactionID: t.Seq}
		if err != nil || t.Seq <= newest {
			return err // the row of an earlier call, which is in the audit log already
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: "account.correct", Resource: fmt.Sprintf("account:%d", account),
			Account: account, From: origin, Detail: fmt.Sprintf("%s, row %d: %s", amount.Dollars(), t.Seq, in.Reason),
		})
	})
	return http.StatusOK, out, err
}

type clockAnswer struct {
	Now    time.Time `json:"now"`
	Newest time.Time `json:"newest_row"`
	// Accepted is false when the clock was not in question.
	Accepted bool `json:"accepted"`
}

// acceptClock takes the box's clock as right although the ledger says otherwise.
func (h *handler) acceptClock(r *http.Request) (int, any, error) {
	var out clockAnswer
	err := h.store.Update(r.Context(), func(tx *store.Tx) error {
		now := time.Now().UTC()
		newest, err := ledger.AcceptClock(tx, now)
		out = clockAnswer{Now: now, Newest: newest, Accepted: now.Before(newest) || !newest.IsZero() && now.Sub(newest) > ledger.ClockLeap}
		if err != nil || !out.Accepted {
			return err
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: "ledger.accept_clock", Resource: "ledger", From: origin,
			Detail: fmt.Sprintf("the newest row is of %s", newest.Format(time.RFC3339)),
		})
	})
	return http.StatusOK, out, err
}
