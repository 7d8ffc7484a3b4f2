package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/ledger/usage"
	"ecolink/web"
)

// keysView is the account's API keys.
type keysView struct {
	frame
	Owner      bool
	Keys       []identity.Key // newest first
	Spending   map[identity.KeyID]usage.KeySpending
	Name, Tag  string // as they were typed
	Cap        string // the same
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
		if k.Keys, err = identity.ListKeys(tx, v.account.ID); err != nil {
			return err
		}
		k.Spending, err = usage.OfKeys(tx, v.account.ID, k.Keys, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(k.Keys)
	return show(w, r, status, keysPage(k))
}

func (c *console) createKey(w http.ResponseWriter, r *http.Request, v *visit) error {
	k := keysView{Name: r.PostFormValue("name"), Tag: r.PostFormValue("tag"), Cap: r.PostFormValue("monthly_cap")}
	limit, err := capOf(k.Cap)
	if err != nil {
		k.Problems = problems{"monthly_cap": err.Error()}
		return c.showKeys(w, r, v, http.StatusUnprocessableEntity, k)
	}
	var made identity.Key
	var secret string
	err = c.Store.Update(r.Context(), func(tx *store.Tx) (err error) {
		made, secret, err = identity.CreateKey(tx, v.account.ID, v.user.ID, k.Name, k.Tag, time.Now())
		if err == nil && limit != nil {
			err = usage.SetCap(tx, v.account.ID, made.ID, limit, time.Now())
		}
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

// capView asks for a key's monthly cap.
type capView struct {
	frame
	identity.Key
	Cap      string // as it is, or as it was typed
	Spending usage.KeySpending
	Problems problems
}

func (c *console) capForm(w http.ResponseWriter, r *http.Request, v *visit) error {
	k, err := c.ownKey(r, v)
	if err != nil {
		return err
	}
	q := capView{frame: c.frame(r, v, "Cap "+k.Name), Key: k}
	err = c.Store.View(func(tx *store.Tx) error {
		all, err := usage.OfKeys(tx, v.account.ID, []identity.Key{k}, time.Now())
		q.Spending = all[k.ID]
		return err
	})
	if err != nil {
		return err
	}
	if q.Spending.Cap != nil {
		q.Cap = q.Spending.Cap.String()
	}
	return c.askCap(w, r, http.StatusOK, q)
}

func (c *console) askCap(w http.ResponseWriter, r *http.Request, status int, q capView) error {
	if isPart(r) {
		return show(w, r, status, capQuestion(q))
	}
	return show(w, r, status, capPage(q))
}

func (c *console) setCap(w http.ResponseWriter, r *http.Request, v *visit) error {
	k, err := c.ownKey(r, v)
	if err != nil {
		return err
	}
	text := r.PostFormValue("monthly_cap")
	limit, err := capOf(text)
	if err != nil {
		q := capView{frame: c.frame(r, v, "Cap "+k.Name), Key: k, Cap: text, Problems: problems{"monthly_cap": err.Error()}}
		return c.askCap(w, r, http.StatusUnprocessableEntity, q)
	}
	err = c.Store.Update(r.Context(), func(tx *store.Tx) error {
		if err := usage.SetCap(tx, v.account.ID, k.ID, limit, time.Now()); err != nil {
			return err
		}
		e := v.event(r, "key.cap", fmt.Sprintf("key:%d", k.ID))
		e.Detail = k.Name + ": no cap"
		if limit != nil {
			e.Detail = fmt.Sprintf("%s: $%s a month", k.Name, *limit)
		}
		return identity.Record(tx, e)
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/keys", http.StatusSeeOther)
	return nil
}

// capOf reads a cap as people type it; nothing is none.
func capOf(text string) (*ledger.MicroUSD, error) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "$")
	if text == "" {
		return nil, nil
	}
	limit, err := ledger.ParseUSD(text)
	if err == nil && limit < 0 {
		err = errors.New("a cap is not below zero: write it like 25.00, or leave it empty for none")
	}
	return &limit, err
}

// capLine says how near a key is to its cap.
func capLine(s usage.KeySpending) string {
	text := "of " + money(*s.Cap)
	if s.Counted != s.Spent {
		text = money(s.Counted) + " with holds, " + text
	}
	if s.Counted >= *s.Cap {
		text += ": reached"
	}
	return text
}

// ownKey reads the key that the address names, for an owner of its account.
func (c *console) ownKey(r *http.Request, v *visit) (k identity.Key, err error) {
	if !v.owner() {
		return k, web.Fail(http.StatusForbidden, "forbidden", "", "only owners of the account cap and revoke API keys: ask one of them")
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
