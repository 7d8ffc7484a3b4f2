package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

type health struct {
	Status  string `json:"status" enum:"ok"`
	Version string `json:"version" doc:"Of EcoLink."`
}

type healthOutput struct{ Body health }

func (a *api) addHealth() {
	register(a, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: "/healthz", Tags: []string{tagSystem}, Security: public,
		Summary: "Tell whether EcoLink works", Description: "Needs no API key. Answers once the database can be read.",
	}, a.health)
}

func (a *api) health(context.Context, *struct{}) (*healthOutput, error) {
	err := a.Store.View(func(*store.Tx) error { return nil })
	return &healthOutput{health{Status: "ok", Version: a.Version}}, err
}

type whoAccount struct {
	ID   identity.AccountID `json:"id"`
	Name string             `json:"name"`
}

type whoUser struct {
	ID       identity.UserID `json:"id"`
	Email    string          `json:"email"`
	Operator bool            `json:"operator" doc:"Whether the user runs the box."`
}

type whoKey struct {
	ID   identity.KeyID `json:"id"`
	Name string         `json:"name"`
}

type me struct {
	Account whoAccount `json:"account"`
	User    whoUser    `json:"user" doc:"Who made the key."`
	Key     whoKey     `json:"key"`
}

type meOutput struct{ Body me }

func (a *api) addMe() {
	register(a, huma.Operation{
		OperationID: "get-me", Method: http.MethodGet, Path: "/v1/me", Tags: []string{tagSystem},
		Summary: "Tell who calls", Description: "The account, user and API key that the request's key stands for.",
	}, a.me)
}

func (a *api) me(ctx context.Context, _ *struct{}) (*meOutput, error) {
	c := web.CallerOf(ctx)
	var out meOutput
	err := a.Store.View(func(tx *store.Tx) error {
		account, err := identity.AccountByID(tx, c.Account)
		if err != nil {
			return err
		}
		user, err := identity.UserByID(tx, c.User)
		if err != nil {
			return err
		}
		key, err := identity.KeyByID(tx, c.Account, c.Key)
		if err != nil {
			return err
		}
		out.Body = me{
			Account: whoAccount{ID: account.ID, Name: account.Name},
			User:    whoUser{ID: user.ID, Email: user.Email, Operator: user.Operator},
			Key:     whoKey{ID: key.ID, Name: key.Name},
		}
		return nil
	})
	return &out, err
}
