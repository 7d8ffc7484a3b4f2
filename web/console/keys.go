package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// keysView is the account's API keys.
type keysView struct {
	frame
	Owner      bool
	Keys       []identity.Key // newest first
	Name, Tag  string         // as they were typed
	Problems   problems
	Secret     string // of a key that was just made, shown this once
	SecretName string
}

// revokeView asks whether to revoke a key.
type revokeView struct {
	frame
	identity.Key
}

func (c *console) keys(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.showKeys(w, r, v, http.StatusOK, keysView{})
}

func (c *console) showKeys(w http.ResponseWriter, r *http.Request, v *visit, status int, k keysView) error {
	k.frame, k.Owner = c.frame(r, v, "API keys"), v.owner()
	err := c.Store.View(func(tx *store.Tx) (err error) {
		k.Keys, err = identity.ListKeys(tx, v.account.ID)
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(k.Keys)
	return show(w, r, status, keysPage(k))
}

func (c *console) createKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	k := keysView{Name: r.PostFormValue("name"), Tag: r.PostFormValue("tag")}
	var made identity.Key
	var secret string
	err := c.Store.Update(r.Context(), func(tx *store.Tx) (err error) {
		made, secret, err = identity.CreateKey(tx, v.account.ID, v.user.ID, k.Name, k.Tag, time.Now())
		if err != nil {
			return err
		}
		return identity.Record(tx, v.event(r, "key.create", fmt.Sprintf("key:%d", made.ID)))
	})
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 || f.Status == http.StatusForbidden {
			return f
		}
		k.Problems = problemsOf(f, "name", "tag")
		return c.showKeys(w, r, v, f.Status, k)
	}
	return c.showKeys(w, r, v, http.StatusOK, keysView{Secret: secret, SecretName: made.Name})
}

func (c *console) revokeForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	k, err := c.ownKey(r, v)
	if err != nil {
		return err
	}
	q := revokeView{frame: c.frame(r, v, "Revoke "+k.Name), Key: k}
	if isPart(r) {
		return show(w, r, http.StatusOK, revokeQuestion(q))
	}
	return show(w, r, http.StatusOK, revokePage(q))
}

func (c *console) revoke(w http.ResponseWriter, r *http.Request, v *visit) error {
	k, err := c.ownKey(r, v)
	if err != nil {
		return err
	}
	err = c.Store.Update(r.Context(), func(tx *store.Tx) error {
		if err := identity.RevokeKey(tx, v.account.ID, k.ID, time.Now()); err != nil {
			return err
		}
		return identity.Record(tx, v.event(r, "key.revoke", fmt.Sprintf("key:%d", k.ID)))
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/keys", http.StatusSeeOther)
	return nil
}

// ownKey reads the key that the address names, for an owner of its account.
func (c *console) ownKey(r *http.Request, v *visit) (k identity.Key, err error) {
	if !v.owner() {
		return k, web.Fail(http.StatusForbidden, "forbidden", "", "only owners of the account revoke API keys: ask one of them")
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return k, web.Fail(http.StatusNotFound, "not_found", "", "there is no such API key: choose one from the list of keys")
	}
	err = c.Store.View(func(tx *store.Tx) (err error) {
		k, err = identity.KeyByID(tx, v.account.ID, identity.KeyID(id))
		return err
	})
	return k, err
}
