package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger/identity"
	"ecolink/ledger/registries"
	"ecolink/ledger/store"
	"ecolink/web"
)

// Registry is a log-in for a container registry, without its password.
type Registry struct {
	ID        registries.ID   `json:"id"`
	Host      string          `json:"host" example:"ghcr.io" doc:"The registry, as in images' names; docker.io for Docker Hub."`
	Username  string          `json:"username"`
	CreatedBy identity.UserID `json:"created_by"`
	CreatedAt time.Time       `json:"created_at"`
}

func registryOf(r registries.Record) Registry {
	return Registry{ID: r.ID, Host: r.Host, Username: r.Username, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt.UTC()}
}

type storeRegistryInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Not needed: storing the same log-in again changes nothing."`
	Body           struct {
		Host     string `json:"host" minLength:"1" maxLength:"255" example:"ghcr.io"`
		Username string `json:"username" minLength:"1" maxLength:"255"`
		Password string `json:"password" minLength:"1" maxLength:"16384" doc:"Or a token. It is kept sealed and never shown."`
	}
}

type registryOutput struct{ Body Registry }

type registriesOutput struct{ Body page[Registry] }

type removeRegistryInput struct {
	ID registries.ID `path:"id" minimum:"1" doc:"The log-in's number."`
}

func (a *api) addRegistries() {
	register(a, huma.Operation{
		OperationID: "list-registry-credentials", Method: http.MethodGet, Path: "/v1/registry-credentials", Tags: []string{tagRegistries},
		Errors:      []int{403},
		Summary:     "List the log-ins for registries",
		Description: "All of the account's, oldest first, without their passwords.",
	}, a.listRegistries)
	register(a, huma.Operation{
		OperationID: "store-registry-credential", Method: http.MethodPost, Path: "/v1/registry-credentials", Tags: []string{tagRegistries},
		DefaultStatus: http.StatusCreated, Errors: []int{400, 403, 409},
		Summary:     "Store a log-in for a registry",
		Description: "It takes the place of the one that the account has for the host. It is used for images of that host which the account launches, and for nothing else. Owners of the account only.",
	}, a.storeRegistry)
	register(a, huma.Operation{
		OperationID: "remove-registry-credential", Method: http.MethodDelete, Path: "/v1/registry-credentials/{id}", Tags: []string{tagRegistries},
		DefaultStatus: http.StatusNoContent, Errors: []int{403, 404},
		Summary:     "Remove a log-in for a registry",
		Description: "Instances that run go on; their images are not fetched again with it. Owners of the account only.",
	}, a.removeRegistry)
}

func (a *api) listRegistries(ctx context.Context, _ *struct{}) (*registriesOutput, error) {
	c := web.CallerOf(ctx)
	out := registriesOutput{page[Registry]{Data: []Registry{}}}
	err := a.Store.View(func(tx *store.Tx) error {
		if err := web.MustOwnRegistries(tx, c); err != nil {
			return err
		}
		all, err := registries.List(tx, c.Account)
		for _, r := range all {
			out.Body.Data = append(out.Body.Data, registryOf(r))
		}
		return err
	})
	return &out, err
}

func (a *api) storeRegistry(ctx context.Context, in *storeRegistryInput) (*registryOutput, error) {
	c, now := web.CallerOf(ctx), time.Now()
	var out registryOutput
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := web.MustOwnRegistries(tx, c); err != nil {
			return err
		}
		r, err := a.Registries.Store(tx, registries.Input{
			Account: c.Account, By: c.User, Host: in.Body.Host, Username: in.Body.Username, Password: in.Body.Password,
		}, now)
		if err != nil {
			return err
		}
		out.Body = registryOf(r)
		return identity.Record(tx, registryEvent(ctx, "registry.store", r, now))
	})
	return &out, err
}

func (a *api) removeRegistry(ctx context.Context, in *removeRegistryInput) (*struct{}, error) {
	c, now := web.CallerOf(ctx), time.Now()
	return nil, a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := web.MustOwnRegistries(tx, c); err != nil {
			return err
		}
		r, err := registries.Remove(tx, c.Account, in.ID)
		if err != nil {
			return err
		}
		return identity.Record(tx, registryEvent(ctx, "registry.remove", r, now))
	})
}

func registryEvent(ctx context.Context, action string, r registries.Record, now time.Time) identity.Event {
	return identity.Event{
		At: now, Actor: identity.KeyActor(web.CallerOf(ctx).Key), Action: action, Resource: fmt.Sprintf("registry:%d", r.ID),
		Account: r.Account, From: originOf(ctx), Detail: r.Username + " at " + r.Host,
	}
}
