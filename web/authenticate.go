package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
)

// Keys lets in who has an API key.
type Keys struct {
	Store *store.Store
	Log   *slog.Logger
}

// Authenticate finds the caller that a request's key belongs to, and notes that
// the key was used.
func (k Keys) Authenticate(ctx context.Context, secret string) (Caller, error) {
	if secret == "" {
		return Caller{}, Fail(http.StatusUnauthorized, "unauthorized", "Authorization",
			`send an API key as "Authorization: Bearer eco_…"; make one on the console's API keys page`)
	}
	var key identity.Key
	err := k.Store.View(func(tx *store.Tx) (err error) {
		key, err = identity.FindKey(tx, secret)
		return err
	})
	if err != nil {
		return Caller{}, err
	}
	if now := time.Now(); key.TouchDue(now) {
		err := k.Store.Update(ctx, func(tx *store.Tx) error { return identity.TouchKey(tx, key.ID, now) })
		if err != nil { // the key is good all the same
			k.Log.WarnContext(ctx, "the use of a key could not be noted", "key", key.ID, "err", err)
		}
	}
	return Caller{Account: key.Account, User: key.Creator, Key: key.ID, Tag: key.Tag}, nil
}

// Require is middleware for handlers outside the API framework.
func (k Keys) Require(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := k.Authenticate(r.Context(), BearerToken(r))
		if err != nil {
			WriteFailure(w, Explain(r.Context(), k.Log, err))
			return
		}
		next.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), c)))
	})
}
