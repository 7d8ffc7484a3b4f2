package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// loginView is the log-in form.
type loginView struct {
	frame
	Email   string // as it was typed
	Next    string // where to go afterwards
	Problem string
	NoUsers bool // the box is not set up yet
}

func (c *console) loginForm(w http.ResponseWriter, r *http.Request, _ *visit) error {
	next := localPath(r.URL.Query().Get("next"))
	if _, err := c.visitOf(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	return c.showLogin(w, r, http.StatusOK, loginView{Next: next})
}

// forService tells whether somebody was on the way to an instance's service, and has
// perhaps never heard of EcoLink.
func (l loginView) forService() bool { return strings.HasPrefix(l.Next, "/gpu-instances/") }

func (c *console) showLogin(w http.ResponseWriter, r *http.Request, status int, l loginView) error {
	l.frame = c.frame(r, nil, "Sign in")
	err := c.Store.View(func(tx *store.Tx) error {
		done, err := identity.IsSetUp(tx)
		l.NoUsers = !done
		return err
	})
	if err != nil {
		return err
	}
	return show(w, r, status, loginPage(l))
}

func (c *console) logIn(w http.ResponseWriter, r *http.Request, _ *visit) error {
	l := loginView{Email: r.PostFormValue("email"), Next: localPath(r.PostFormValue("next"))}
	user, err := c.authenticate(w, r, l.Email, r.PostFormValue("password"))
	if err != nil {
		f := web.Explain(r.Context(), c.Log, err)
		if f.Status >= 500 && f.Status != http.StatusServiceUnavailable {
			return f
		}
		l.Problem = f.Message
		return c.showLogin(w, r, f.Status, l)
	}
	var token string
	err = c.Store.Update(r.Context(), func(tx *store.Tx) (err error) {
		now := time.Now()
		var s identity.Session
		if s, token, err = identity.CreateSession(tx, user.ID, web.From(r), now); err != nil {
			return err
		}
		return identity.Record(tx, identity.Event{
			At: now, Actor: identity.UserActor(user.ID), Action: "session.create",
			Resource: fmt.Sprintf("session:%d", s.ID), From: web.From(r),
		})
	})
	if err != nil {
		return err
	}
	c.setCookie(w, r, sessionCookie, token)
	http.Redirect(w, r, l.Next, http.StatusSeeOther)
	return nil
}

// authenticate checks a password, unless there were too many wrong ones.
func (c *console) authenticate(w http.ResponseWriter, r *http.Request, email, password string) (identity.User, error) {
	names, began := attemptNames(email, web.From(r)), time.Now()
	if wait, ok := c.failed.Begin(began, names...); !ok {
		seconds := int(wait/time.Second) + 1
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		c.Log.WarnContext(r.Context(), "log-in refused after too many failures", "request_id", web.RequestID(r.Context()), "from", web.From(r))
		return identity.User{}, web.Fail(http.StatusTooManyRequests, "rate_limit_exceeded", "", fmt.Sprintf(
			"there were too many failed attempts: try again in %s", span(time.Duration(seconds)*time.Second)))
	}
	user, err := c.Hasher.Authenticate(r.Context(), c.Store, email, password)
	if !errors.Is(err, identity.ErrUnauthorized) {
		c.failed.Undo(began, names...)
	}
	return user, err
}

// localPath keeps a redirect on this box: an absolute path of it, or else the
// first page. Browsers take \ for / and drop control characters.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsFunc(next, func(r rune) bool { return r == '\\' || r < ' ' }) {
		return "/instances"
	}
	return next
}

func (c *console) logOut(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.endSessions(w, r, v, "session.delete", fmt.Sprintf("session:%d", v.session.ID), func(tx *store.Tx) error {
		return identity.DeleteSession(tx, v.token)
	})
}

func (c *console) logOutEverywhere(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.endSessions(w, r, v, "session.delete-all", fmt.Sprintf("user:%d", v.user.ID), func(tx *store.Tx) error {
		return identity.DeleteAllSessions(tx, v.user.ID)
	})
}

func (c *console) endSessions(w http.ResponseWriter, r *http.Request, v *visit, action, resource string, end func(*store.Tx) error) error {
	e := v.event(r, action, resource)
	e.Account = 0 // a session is the user's, in all of their accounts
	err := c.Store.Update(r.Context(), func(tx *store.Tx) error {
		if err := end(tx); err != nil {
			return err
		}
		return identity.Record(tx, e)
	})
	if err != nil {
		return err
	}
	c.setCookie(w, r, sessionCookie, "")
	c.setCookie(w, r, accountCookie, "")
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// switchAccount remembers which account to act for. Each request checks that its
// user is in it.
func (c *console) switchAccount(w http.ResponseWriter, r *http.Request, v *visit) error {
	chosen := r.PostFormValue("account")
	for _, a := range v.accounts {
		if strconv.FormatInt(int64(a.ID), 10) == chosen {
			c.setCookie(w, r, accountCookie, chosen)
			http.Redirect(w, r, "/instances", http.StatusSeeOther)
			return nil
		}
	}
	return web.Fail(http.StatusNotFound, "not_found", "account", "you are not in this account: choose one from the list")
}
