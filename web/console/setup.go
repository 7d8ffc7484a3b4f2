package console

import (
	"net/http"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// setupView is the form of the one-time set-up link.
type setupView struct {
	frame
	Token, Email, AccountName string
	Problems                  problems
}

func (c *console) setupForm(w http.ResponseWriter, r *http.Request, _ *visit) error {
	token := r.URL.Query().Get("token")
	if err := c.checkSetup(token); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, setupPage(setupView{frame: c.frame(r, nil, "Set up EcoLink"), Token: token}))
}

func (c *console) checkSetup(token string) error {
	return c.Store.View(func(tx *store.Tx) error { return identity.CheckSetupToken(tx, token, time.Now()) })
}

// setUp makes the first operator and signs them in.
func (c *console) setUp(w http.ResponseWriter, r *http.Request, _ *visit) error {
	s := setupView{
		Token: r.PostFormValue("token"), Email: r.PostFormValue("email"), AccountName: r.PostFormValue("name"),
	}
	if err := c.checkSetup(s.Token); err != nil { // before the password costs anything
		return err
	}
	made, token, err := c.bootstrap(r, s)
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if s.Problems = problemsOf(f, "email", "password", "name"); s.Problems.general() {
			return f
		}
		s.frame = c.frame(r, nil, "Set up EcoLink")
		return show(w, r, f.Status, setupPage(s))
	}
	c.setCookie(w, r, sessionCookie, token)
	v := &visit{token: token}
	if err := c.Store.View(func(tx *store.Tx) error { return v.read(tx, made.Account.ID, time.Now()) }); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, setupDonePage(c.frame(r, v, "EcoLink is set up"), made.Secret))
}

func (c *console) bootstrap(r *http.Request, s setupView) (made identity.Bootstrapped, token string, err error) {
	if _, err := identity.NormalizeEmail(s.Email); err != nil {
		return made, "", err
	}
	hash, err := c.Hasher.Hash(r.Context(), r.PostFormValue("password"))
	if err != nil {
		return made, "", err
	}
	err = c.Store.Update(r.Context(), func(tx *store.Tx) (err error) {
		now := time.Now()
		if err := identity.UseSetupToken(tx, s.Token, now); err != nil {
			return err
		}
		made, err = identity.Bootstrap(tx, identity.FirstOperator{
			AccountName: s.AccountName, KeyName: "set-up",
			User: identity.NewUser{Email: s.Email, PasswordHash: hash},
		}, now)
		if err != nil {
			return err
		}
		if _, token, err = identity.CreateSession(tx, made.User.ID, web.From(r), now); err != nil {
			return err
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: identity.UserActor(made.User.ID), Action: "box.set-up", Account: made.Account.ID,
			From: web.From(r), Detail: "first operator " + made.User.Email,
		})
	})
	return made, token, err
}
