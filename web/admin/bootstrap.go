package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

type bootstrapRequest struct {
	Email       string `json:"email"`
	Password    string `json:"password"`
	AccountName string `json:"account_name"`
}

type bootstrapAnswer struct {
	Account struct {
		ID   identity.AccountID `json:"id"`
		Name string             `json:"name"`
	} `json:"account"`
	User struct {
		ID    identity.UserID `json:"id"`
		Email string          `json:"email"`
	} `json:"user"`
	APIKey string `json:"api_key"` // told this once
}

// What the first account and its key are called when nobody says.
const (
	firstAccount = "Operator"
	firstKey     = "bootstrap"
)

// bootstrap makes the first account, its owner who is the operator, and an API
// key: once.
func (h *handler) bootstrap(r *http.Request) (int, any, error) {
	var in bootstrapRequest
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	first := identity.FirstOperator{AccountName: cmp.Or(in.AccountName, firstAccount), KeyName: firstKey, User: identity.NewUser{Email: in.Email}}
	var done bool
	if err := h.store.View(func(tx *store.Tx) (err error) { done, err = identity.IsSetUp(tx); return err }); err != nil {
		return 0, nil, err
	}
	if !done { // else Bootstrap says so, and the work of hashing is spared
		var err error
		if first.User.PasswordHash, err = h.hasher.Hash(r.Context(), in.Password); err != nil {
			return 0, nil, err
		}
	}
	var out bootstrapAnswer
	now := time.Now()
	err := h.store.Update(r.Context(), func(tx *store.Tx) error {
		b, err := identity.Bootstrap(tx, first, now)
		if err != nil {
			return err
		}
		out.Account.ID, out.Account.Name = b.Account.ID, b.Account.Name
		out.User.ID, out.User.Email = b.User.ID, b.User.Email
		out.APIKey = b.Secret
		return identity.Record(tx, identity.Event{
			At: now, Actor: operator, Action: "box.bootstrap", Resource: fmt.Sprintf("user:%d", b.User.ID),
			Account: b.Account.ID, From: origin, Detail: b.User.Email,
		})
	})
	return http.StatusCreated, out, err
}
