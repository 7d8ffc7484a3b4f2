package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
	"ecolink/web"
)

// Key is an API key without its secret.
type Key struct {
	ID         identity.KeyID  `json:"id"`
	Name       string          `json:"name"`
	Tag        string          `json:"tag" doc:"The source that usage is counted under; may be empty."`
	Prefix     string          `json:"prefix" doc:"The secret's first characters, to tell keys apart." example:"eco_Yk3r9A"`
	CreatedBy  identity.UserID `json:"created_by"`
	CreatedAt  time.Time       `json:"created_at"`
	LastUsedAt *time.Time      `json:"last_used_at" doc:"To the minute; null when it was never used."`

	MonthlyCap     *ledger.MicroUSD `json:"monthly_cap" doc:"The most that may be spent with it in a calendar month, UTC; null without a cap." example:"25.00"`
	SpentThisMonth ledger.MicroUSD  `json:"spent_this_month" doc:"What was charged for what was asked for with it." example:"3.20"`
	CapUsed        *ledger.MicroUSD `json:"cap_used" doc:"What counts against the cap: what was spent in this month, and what is set aside until it comes back; null without a cap." example:"4.80"`
}

func keyOf(k identity.Key, s usage.KeySpending) Key {
	out := Key{
		ID: k.ID, Name: k.Name, Tag: k.Tag, Prefix: k.Prefix,
		CreatedBy: k.Creator, CreatedAt: k.Created.UTC(), LastUsedAt: instantOrNull(k.LastUsed),
		MonthlyCap: s.Cap, SpentThisMonth: s.Spent,
	}
	if s.Cap != nil {
		out.CapUsed = &s.Counted
	}
	return out
}

// keysOf reads what keys have spent and may spend, and shows them.
func keysOf(tx *store.Tx, account identity.AccountID, keys []identity.Key, now time.Time) ([]Key, error) {
	spending, err := usage.OfKeys(tx, account, keys, now)
	out := make([]Key, 0, len(keys))
	for _, k := range keys {
		out = append(out, keyOf(k, spending[k.ID]))
	}
	return out, err
}

// newKey is a key with its secret.
type newKey struct {
	Key
	Secret string `json:"secret" doc:"The key itself. It is shown this once and can't be read again."`
}

type keysOutput struct{ Body page[Key] }

type createKeyInput struct {
	IdempotencyKey string `header:"Idempotency-Key" hidden:"true"`
	Body           struct {
		Name       string  `json:"name" doc:"What the key is for, in at most 100 characters." example:"nightly training"`
		Tag        string  `json:"tag,omitempty" doc:"A source to count usage under, in at most 64 characters."`
		MonthlyCap *string `json:"monthly_cap,omitempty" doc:"The most that may be spent with it in a calendar month, UTC; null or left out: no cap." example:"25.00"`
	} `nameHint:"NewKeyRequest"`
}

type newKeyOutput struct{ Body newKey }

type changeKeyInput struct {
	ID   identity.KeyID `path:"id" minimum:"1" doc:"The key's number."`
	Body struct {
		MonthlyCap *string `json:"monthly_cap" doc:"The most that may be spent with it in a calendar month, UTC; null lifts the cap." example:"25.00"`
	} `nameHint:"ChangeKeyRequest"`
}

type keyOutput struct{ Body Key }

type revokeKeyInput struct {
	ID identity.KeyID `path:"id" minimum:"1" doc:"The key's number."`
}

func (a *api) addKeys() {
	register(a, huma.Operation{
		OperationID: "list-api-keys", Method: http.MethodGet, Path: "/v1/api-keys", Tags: []string{tagKeys},
		Summary: "List the API keys", Description: "All keys of the account that are not revoked, oldest first, in one page.",
	}, a.listKeys)
	register(a, huma.Operation{
		OperationID: "create-api-key", Method: http.MethodPost, Path: "/v1/api-keys", Tags: []string{tagKeys},
		DefaultStatus: http.StatusCreated, Errors: []int{400, 403, 409, 413, 415},
		Summary:     "Create an API key",
		Description: "Only for keys that an owner of the account made. The secret is in this answer and nowhere else.",
	}, a.createKey)
	register(a, huma.Operation{
		OperationID: "change-api-key", Method: http.MethodPatch, Path: "/v1/api-keys/{id}", Tags: []string{tagKeys},
		Errors:  []int{400, 403, 404, 409, 413, 415},
		Summary: "Cap an API key's spending",
		Description: "Acts on the next request. A cap that is lower than what was spent ends nothing that runs. What was spent in this month before counts. " +
			"Only for keys that an owner of the account made.",
	}, a.changeKey)
	register(a, huma.Operation{
		OperationID: "revoke-api-key", Method: http.MethodDelete, Path: "/v1/api-keys/{id}", Tags: []string{tagKeys},
		DefaultStatus: http.StatusNoContent, Errors: []int{403, 404},
		Summary:     "Revoke an API key",
		Description: "Acts on the next request; those in flight finish. Revoking again changes nothing. Only for keys that an owner of the account made.",
	}, a.revokeKey)
}

func (a *api) listKeys(ctx context.Context, _ *struct{}) (*keysOutput, error) {
	account := web.CallerOf(ctx).Account
	var out page[Key]
	err := a.Store.View(func(tx *store.Tx) error {
		all, err := identity.ListKeys(tx, account)
		if err != nil {
			return err
		}
		out.Data, err = keysOf(tx, account, all, time.Now())
		return err
	})
	return &keysOutput{out}, err
}

func (a *api) createKey(ctx context.Context, in *createKeyInput) (*newKeyOutput, error) {
	if in.IdempotencyKey != "" {
		// Answering twice would mean keeping the secret.
		return nil, web.Fail(http.StatusBadRequest, "invalid_request", "Idempotency-Key",
			"an idempotency key is not supported here, since a secret is shown only once: leave it out, and revoke a key that you did not get")
	}
	limit, err := monthlyCap(in.Body.MonthlyCap)
	if err != nil {
		return nil, err
	}
	c, now := web.CallerOf(ctx), time.Now()
	var out newKeyOutput
	err = a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := mustOwn(tx, c); err != nil {
			return err
		}
		if err := mustBeUncapped(tx, c, now); err != nil {
			return err
		}
		k, secret, err := identity.CreateKey(tx, c.Account, c.User, in.Body.Name, in.Body.Tag, now)
		if err != nil {
			return err
		}
		spending := usage.KeySpending{Cap: limit}
		if limit != nil {
			if err := usage.SetCap(tx, c.Account, k.ID, limit, now); err != nil {
				return err
			}
		}
		out.Body = newKey{Key: keyOf(k, spending), Secret: secret}
		return identity.Record(tx, keyEvent(ctx, "key.create", k, now))
	})
	return &out, err
}

func (a *api) changeKey(ctx context.Context, in *changeKeyInput) (*keyOutput, error) {
	limit, err := monthlyCap(in.Body.MonthlyCap)
	if err != nil {
		return nil, err
	}
	c, now := web.CallerOf(ctx), time.Now()
	var out keyOutput
	err = a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := mustOwn(tx, c); err != nil {
			return err
		}
		if err := mustBeUncapped(tx, c, now); err != nil {
			return err
		}
		k, err := identity.KeyByID(tx, c.Account, in.ID)
		if err != nil {
			return err
		}
		if err := usage.SetCap(tx, c.Account, k.ID, limit, now); err != nil {
			return err
		}
		shown, err := keysOf(tx, c.Account, []identity.Key{k}, now)
		if err != nil {
			return err
		}
		out.Body = shown[0]
		e := keyEvent(ctx, "key.cap", k, now)
		e.Detail = fmt.Sprintf("%s: %s", k.Name, capText(limit))
		return identity.Record(tx, e)
	})
	return &out, err
}

// monthlyCap reads a cap; nil is none.
func monthlyCap(text *string) (*ledger.MicroUSD, error) {
	if text == nil {
		return nil, nil
	}
	limit, err := ledger.ParseUSD(*text)
	if err == nil && limit < 0 {
		err = errors.New("a cap is not below zero; write it like 25.00, or null for none")
	}
	if err != nil {
		return nil, web.Fail(http.StatusUnprocessableEntity, "unprocessable", "monthly_cap", err.Error())
	}
	return &limit, nil
}

// capText is a cap in words, for the audit log.
func capText(limit *ledger.MicroUSD) string {
	if limit == nil {
		return "no cap"
	}
	return "$" + limit.String() + " a month"
}

func (a *api) revokeKey(ctx context.Context, in *revokeKeyInput) (*struct{}, error) {
	c, now := web.CallerOf(ctx), time.Now()
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := mustOwn(tx, c); err != nil {
			return err
		}
		k, err := identity.KeyByID(tx, c.Account, in.ID)
		if err != nil || !k.Revoked.IsZero() {
			return err
		}
		if err := identity.RevokeKey(tx, c.Account, in.ID, now); err != nil {
			return err
		}
		return identity.Record(tx, keyEvent(ctx, "key.revoke", k, now))
	})
	return nil, err
}

// mustOwn refuses callers whose key was made by somebody who is not, or no
// longer, an owner of the account.
func mustOwn(tx *store.Tx, c web.Caller) error {
	role, err := identity.RoleIn(tx, c.Account, c.User)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	if role != identity.RoleOwner {
		return web.Fail(http.StatusForbidden, "forbidden", "", "only owners of the account create, cap and revoke API keys: ask one of them")
	}
	return nil
}

// mustBeUncapped keeps a key with a spend cap from making itself another without.
func mustBeUncapped(tx *store.Tx, c web.Caller, now time.Time) error {
	_, capped, err := ledger.CapOf(tx, c.Key, now)
	if err != nil || !capped {
		return err
	}
	return web.Fail(http.StatusForbidden, "forbidden", "", "an API key with a spend cap can't create keys or change caps: use a key without one, or the console")
}

func keyEvent(ctx context.Context, action string, k identity.Key, now time.Time) identity.Event {
	return identity.Event{
		At: now, Actor: identity.KeyActor(web.CallerOf(ctx).Key), Action: action, Resource: fmt.Sprintf("key:%d", k.ID),
		Account: k.Account, From: originOf(ctx), Detail: k.Name,
	}
}
