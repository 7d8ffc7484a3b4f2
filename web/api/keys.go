package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
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
}

func keyOf(k identity.Key) Key {
	return Key{
		ID: k.ID, Name: k.Name, Tag: k.Tag, Prefix: k.Prefix,
		CreatedBy: k.Creator, CreatedAt: k.Created.UTC(), LastUsedAt: instantOrNull(k.LastUsed),
	}
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
		Name string `json:"name" doc:"What the key is for, in at most 100 characters." example:"nightly training"`
		Tag  string `json:"tag,omitempty" doc:"A source to count usage under, in at most 64 characters."`
	} `nameHint:"NewKeyRequest"`
}

type newKeyOutput struct{ Body newKey }

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
		OperationID: "revoke-api-key", Method: http.MethodDelete, Path: "/v1/api-keys/{id}", Tags: []string{tagKeys},
		DefaultStatus: http.StatusNoContent, Errors: []int{403, 404},
		Summary:     "Revoke an API key",
		Description: "Acts on the next request; those in flight finish. Revoking again changes nothing. Only for keys that an owner of the account made.",
	}, a.revokeKey)
}

func (a *api) listKeys(ctx context.Context, _ *struct{}) (*keysOutput, error) {
	out := page[Key]{Data: []Key{}}
	err := a.Store.View(func(tx *store.Tx) error {
		all, err := identity.ListKeys(tx, web.CallerOf(ctx).Account)
		for _, k := range all {
			out.Data = append(out.Data, keyOf(k))
		}
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
	c, now := web.CallerOf(ctx), time.Now()
	var out newKeyOutput
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := mustOwn(tx, c); err != nil {
			return err
		}
		k, secret, err := identity.CreateKey(tx, c.Account, c.User, in.Body.Name, in.Body.Tag, now)
		if err != nil {
			return err
		}
		out.Body = newKey{Key: keyOf(k), Secret: secret}
		return identity.Record(tx, keyEvent(ctx, "key.create", k, now))
	})
	return &out, err
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
		return web.Fail(http.StatusForbidden, "forbidden", "", "only owners of the account create and revoke API keys: ask one of them")
	}
	return nil
}

func keyEvent(ctx context.Context, action string, k identity.Key, now time.Time) identity.Event {
	return identity.Event{
		At: now, Actor: identity.KeyActor(web.CallerOf(ctx).Key), Action: action, Resource: fmt.Sprintf("key:%d", k.ID),
		Account: k.Account, From: originOf(ctx), Detail: k.Name,
	}
}
