package console

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/registries"
	"ecolink/ledger/store"
	"ecolink/web"
)

// registriesView is the account's log-ins for container registries.
type registriesView struct {
	frame
	Owner          bool
	Logins         []registries.Record // newest first; for owners only
	Host, Username string              // as they were typed; a password is never shown again
	Problems       problems
}

func (c *console) registries(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.showRegistries(w, r, v, http.StatusOK, registriesView{})
}

func (c *console) showRegistries(w http.ResponseWriter, r *http.Request, v *visit, status int, s registriesView) error {
	s.frame, s.Owner = c.frame(r, v, "Registries"), v.owner()
	if s.Owner {
		err := c.Store.View(func(tx *store.Tx) (err error) {
			s.Logins, err = registries.List(tx, v.account.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return show(w, r, status, registriesPage(s))
}

func (c *console) storeRegistry(w http.ResponseWriter, r *http.Request, v *visit) error {
	s := registriesView{Host: r.PostFormValue("host"), Username: r.PostFormValue("username")}
	err := c.Store.Update(r.Context(), func(tx *store.Tx) error {
		if err := web.MustOwnRegistries(tx, v.caller()); err != nil {
			return err
		}
		made, err := c.Registries.Store(tx, registries.Input{
			Account: v.account.ID, By: v.user.ID, Host: s.Host, Username: s.Username, Password: r.PostFormValue("password"),
		}, time.Now())
		if err != nil {
			return err
		}
		return identity.Record(tx, registryEvent(r, v, "registry.store", made))
	})
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 || f.Status == http.StatusForbidden {
			return f
		}
		s.Problems = problemsOf(f, "host", "username", "password")
		return c.showRegistries(w, r, v, f.Status, s)
	}
	http.Redirect(w, r, "/keys/registries", http.StatusSeeOther)
	return nil
}

func (c *console) removeRegistry(w http.ResponseWriter, r *http.Request, v *visit) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return web.Fail(http.StatusNotFound, "not_found", "", "there is no such log-in: choose one from the list")
	}
	err = c.Store.Update(r.Context(), func(tx *store.Tx) error {
		if err := web.MustOwnRegistries(tx, v.caller()); err != nil {
			return err
		}
		gone, err := registries.Remove(tx, v.account.ID, registries.ID(id))
		if err != nil {
			return err
		}
		return identity.Record(tx, registryEvent(r, v, "registry.remove", gone))
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/keys/registries", http.StatusSeeOther)
	return nil
}

func registryEvent(r *http.Request, v *visit, action string, l registries.Record) identity.Event {
	e := v.event(r, action, fmt.Sprintf("registry:%d", l.ID))
	e.Detail = l.Username + " at " + l.Host
	return e
}
