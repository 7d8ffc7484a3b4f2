package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
	"ecolink/web"
)

// accountRef names an account: by its number, as a number or in a string, or by
// its owner's e-mail.
type accountRef string

// UnmarshalJSON implements json.Unmarshaler.
func (a *accountRef) UnmarshalJSON(raw []byte) error {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '"' {
		*a = accountRef(raw)
		return nil
	}
	return json.Unmarshal(raw, (*string)(a))
}

// find reads the account.
func (a accountRef) find(tx *store.Tx) (identity.AccountID, error) {
	if n, err := strconv.ParseInt(string(a), 10, 64); err == nil {
		account, err := identity.AccountByID(tx, identity.AccountID(n))
		return account.ID, err
	}
	if !strings.Contains(string(a), "@") {
		return 0, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "account", "name an account by its number or by its owner's e-mail")
	}
	user, err := identity.UserByEmail(tx, string(a))
	if err != nil {
		return 0, err
	}
	all, err := identity.MembershipsOf(tx, user.ID)
	if err != nil {
		return 0, err
	}
	var owned []string
	var found identity.AccountID
	for _, m := range all {
		if m.Role == identity.RoleOwner {
			found = m.Account
			owned = append(owned, fmt.Sprint(m.Account))
		}
	}
	switch len(owned) {
	case 1:
		return found, nil
	case 0:
		return 0, web.Fail(http.StatusNotFound, "not_found", "account", fmt.Sprintf("%s owns no account: name the account by its number", user.Email))
	default:
		return 0, web.Fail(http.StatusConflict, "conflict", "account",
			fmt.Sprintf("%s owns the accounts %s: name one of them by its number", user.Email, strings.Join(owned, ", ")))
	}
}

type topUpRequest struct {
	Account accountRef `json:"account"`
	Amount  string     `json:"amount"`
	Note    string     `json:"note"`
	Key     string     `json:"key"` // idempotency key
}

type topUpAnswer struct {
	AccountID     identity.AccountID `json:"account_id"`
	Available     ledger.MicroUSD    `json:"available"`
	Held          ledger.MicroUSD    `json:"held"`
	TransactionID int64              `json:"transaction_id"`
}

func (t topUpRequest) check() (ledger.MicroUSD, error) {
	if len(t.Note) > maxNoteBytes {
		return 0, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "note", fmt.Sprintf("a note has %d bytes at most: shorten it", maxNoteBytes))
	}
	if err := checkLine("note", t.Note); err != nil {
		return 0, err
	}
	if err := checkKey(t.Key); err != nil {
		return 0, err
	}
	return parseAmount("amount", t.Amount)
}

// checkLine refuses what would not be one line of a statement.
func checkLine(field, text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", field, "the "+field+" has characters that can't be shown: write it on one line, in plain text")
	}
	return nil
}

// checkKey checks an idempotency key. Whatever moves money has one: a call whose
// answer was lost can be repeated.
func checkKey(key string) error {
	if key == "" {
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", "key", "name a key of your choice, a new one each time: a call with the same key is done once")
	}
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	if len(key) > maxKeyBytes || strings.ContainsFunc(key, unprintable) {
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", "key", fmt.Sprintf("a key is 1 to %d printable ASCII characters: choose another", maxKeyBytes))
	}
	return nil
}

// topUp adds credit to an account. A second call with the same key answers what
// the first did.
func (h *handler) topUp(r *http.Request) (int, any, error) {
	var in topUpRequest
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	in.Note = cmp.Or(in.Note, "top-up by the operator")
	amount, err := in.check()
	if err != nil {
		return 0, nil, err
	}
	var out topUpAnswer
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
		t, err := ledger.Credit(tx, ledger.Entry{
			At: now, Account: account, Amount: amount, Key: in.Key, Description: in.Note, RequestID: web.RequestID(r.Context()),
		})
		if err != nil {
			return err
		}
		// The wallet as the row left it, so that a repeated call has the same answer.
		out = topUpAnswer{AccountID: account, Available: t.Available, Held: t.Held, TransactionID: t.Seq}
		if t.Seq <= newest {
			return nil // the row of an earlier call, which is in the audit log already
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: "account.topup", Resource: fmt.Sprintf("account:%d", account),
			Account: account, From: origin, Detail: fmt.Sprintf("$%s, row %d: %s", amount, t.Seq, in.Note),
		})
	})
	return http.StatusOK, out, err
}

// verify rebuilds the books from the journal and compares them with what is stored.
// Who hangs up ends it.
func (h *handler) verify(r *http.Request) (int, any, error) {
	var out struct {
		ledger.Report
		Usage usage.Checked `json:"usage"`
	}
	err := h.store.View(func(tx *store.Tx) (err error) {
		if out.Report, err = ledger.VerifyContext(r.Context(), tx); err != nil {
			return err
		}
		out.Usage, err = usage.CheckContext(r.Context(), tx)
		return err
	})
	var books *ledger.Disagreement
	var sums *usage.Disagreement
	if errors.As(err, &books) || errors.As(err, &sums) {
		// The box's own fault, but the one who asks is who has to mend it.
		h.log.ErrorContext(r.Context(), "the books do not agree", "request_id", web.RequestID(r.Context()), "err", err)
		return 0, nil, web.Fail(http.StatusInternalServerError, "books_disagree", "", err.Error())
	}
	return http.StatusOK, out, err
}

// parseAmount reads an amount in dollars from the named field.
func parseAmount(field, text string) (ledger.MicroUSD, error) {
	m, err := ledger.ParseUSD(text)
	if err != nil {
		return 0, web.Fail(http.StatusUnprocessableEntity, "unprocessable", field, err.Error())
	}
	return m, nil
}
