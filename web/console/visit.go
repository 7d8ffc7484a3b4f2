package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// The console's cookies.
const (
	sessionCookie = web.SessionCookie
	accountCookie = "ecolink_account" // the number of the account that was chosen
)

// visit is one request of somebody who is signed in.
type visit struct {
	session  identity.Session
	token    string
	user     identity.User
	account  identity.Account // the one that is acted for
	role     identity.Role
	accounts []identity.Account // all that the user is in, oldest first
	wallet   ledger.Wallet
}

func (v *visit) owner() bool { return v.role == identity.RoleOwner }

// actor is who the audit log names.
func (v *visit) event(r *http.Request, action, resource string) identity.Event {
	return identity.Event{
		At: time.Now(), Actor: identity.UserActor(v.user.ID), Action: action, Resource: resource,
		Account: v.account.ID, From: web.From(r),
	}
}

var errSignedOut = web.Fail(http.StatusUnauthorized, "unauthorized", "", "you are not signed in, or were signed out: sign in again")

// handler is a page's code. What it returns becomes a page that tells of it.
type handler func(w http.ResponseWriter, r *http.Request, v *visit) error

// open serves a page for everybody; its visit is nil.
func (c *console) open(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := readForm(w, r, maxOpenBytes)
		if err == nil {
			err = h(w, r, nil)
		}
		if err != nil {
			c.fail(w, r, nil, err)
		}
	})
}

// page serves a page for those who are signed in, and the others the log-in.
func (c *console) page(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := c.visitOf(r)
		if err != nil {
			c.turnAway(w, r, err)
			return
		}
		if err := h(w, r.WithContext(web.WithCaller(r.Context(), v.caller())), v); err != nil {
			c.fail(w, r, v, err)
		}
	})
}

// form serves what changes something: it must come from a form of this session,
// made for the account that is acted for.
func (c *console) form(h handler) http.Handler {
	return c.page(func(w http.ResponseWriter, r *http.Request, v *visit) error {
		if err := readForm(w, r, maxFormBytes); err != nil {
			return err
		}
		if err := v.session.CheckCSRF(r.PostFormValue("csrf")); err != nil {
			return err
		}
		if a := r.PostFormValue("for"); a != "" && a != strconv.FormatInt(int64(v.account.ID), 10) {
			return web.Fail(http.StatusConflict, "conflict", "", "you have switched to another account since this page was opened: nothing was done. Switch back, or reload the page and send it again")
		}
		return h(w, r, v)
	})
}

var crossOrigin = http.NewCrossOriginProtection()

// readForm parses the body of a form and refuses one that another site sent, also
// where there is no session yet to check a token against.
func readForm(w http.ResponseWriter, r *http.Request, maxBytes int64) error {
	if err := crossOrigin.Check(r); err != nil {
		return web.Fail(http.StatusForbidden, "forbidden", "Origin", "this form was sent by a page of another site: nothing was done. Open the console itself and try again")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBytes)
	err := r.ParseForm()
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return web.Fail(http.StatusRequestEntityTooLarge, "request_too_large", "", fmt.Sprintf("this form is larger than %s: send less at once", size(maxBytes)))
	}
	if err != nil {
		return web.Fail(http.StatusBadRequest, "invalid_request", "", "this form can't be read: reload the page and send it again")
	}
	return nil
}

func (v *visit) caller() web.Caller { return web.Caller{Account: v.account.ID, User: v.user.ID} }

// visitOf finds who a request comes from. Everything is read anew on each
// request: a session may have been ended and a membership taken away.
func (c *console) visitOf(r *http.Request) (*visit, error) {
	cookie, err := r.Cookie(c.cookieName(r, sessionCookie))
	if err != nil {
		return nil, errSignedOut
	}
	v, now := &visit{token: cookie.Value}, time.Now()
	err = c.Store.View(func(tx *store.Tx) error { return v.read(tx, c.chosenAccount(r), now) })
	if err != nil {
		return nil, err
	}
	if v.session.TouchDue(now) {
		err := c.Store.Update(r.Context(), func(tx *store.Tx) error { return identity.TouchSession(tx, v.token, now) })
		if err != nil { // the session is good all the same
			c.Log.WarnContext(r.Context(), "the use of a session could not be noted", "session", v.session.ID, "err", err)
		}
	}
	return v, nil
}

func (v *visit) read(tx *store.Tx, chosen identity.AccountID, now time.Time) (err error) {
	if v.session, err = identity.FindSession(tx, v.token, now); err != nil {
		return err
	}
	if v.user, err = identity.UserByID(tx, v.session.User); err != nil {
		return err
	}
	memberships, err := identity.MembershipsOf(tx, v.user.ID)
	if err != nil {
		return err
	}
	if len(memberships) == 0 {
		return web.Fail(http.StatusForbidden, "forbidden", "", "you are in no account: ask the owner of one for an invitation")
	}
	for n, m := range memberships {
		a, err := identity.AccountByID(tx, m.Account)
		if err != nil {
			return err
		}
		v.accounts = append(v.accounts, a)
		if n == 0 || m.Account == chosen {
			v.account, v.role = a, m.Role
		}
	}
	v.wallet, err = ledger.WalletOf(tx, v.account.ID)
	return err
}

func (c *console) chosenAccount(r *http.Request) identity.AccountID {
	cookie, err := r.Cookie(c.cookieName(r, accountCookie))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(cookie.Value, 10, 64)
	if err != nil {
		return 0
	}
	return identity.AccountID(n)
}

// stillIn tells whether the session that a visit began with is good, and its
// user still in the account.
func (c *console) stillIn(v *visit) bool {
	fresh := visit{token: v.token}
	err := c.Store.View(func(tx *store.Tx) error { return fresh.read(tx, v.account.ID, time.Now()) })
	return err == nil && fresh.account.ID == v.account.ID
}

// bounded gives a context that ends when the visit's session does.
func (c *console) bounded(ctx context.Context, v *visit) (bound context.Context, stop func()) {
	bound, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(c.recheck)
		defer tick.Stop()
		for {
			select {
			case <-bound.Done():
				return
			case <-tick.C:
				if !c.stillIn(v) {
					cancel()
				}
			}
		}
	}()
	return bound, func() { cancel(); <-watched }
}

// turnAway answers a request whose visitor is not known.
func (c *console) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	f := web.Explain(r.Context(), c.Log, err)
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case f.Status != http.StatusUnauthorized:
		c.fail(w, r, nil, f)
	case isPart(r):
		w.Header().Set("HX-Refresh", "true") // which leads to the log-in
		w.WriteHeader(http.StatusUnauthorized)
	case !reads || !wantsPage(r):
		c.fail(w, r, nil, f)
	default:
		http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
	}
}

// secure tells whether browsers come by HTTPS.
func (c *console) secure(r *http.Request) bool { return c.SecureCookies || r.TLS != nil }

// cookieName is what a cookie is called in the browser.
func (c *console) cookieName(r *http.Request, name string) string {
	return web.CookieName(name, c.secure(r))
}

// setCookie writes a cookie as all of ours are: for this site and this host, out
// of reach of scripts, and by HTTPS alone where that is how one comes here. An
// empty value deletes it.
func (c *console) setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	cookie := &http.Cookie{
		Name: c.cookieName(r, name), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: c.secure(r), MaxAge: int(identity.SessionAbsolute / time.Second),
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}
