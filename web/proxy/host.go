package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"ecolink/ledger/identity"
	"ecolink/web"
)

// enterPath is where a ticket is redeemed on an instance's host. Nothing else of
// the host is ours.
const enterPath = "/.ecolink/enter"

// serveHost answers on an instance's own host.
func (p *proxy) serveHost(w http.ResponseWriter, r *http.Request, t target) {
	if t.id == 0 {
		p.refuse(w, r, absent())
		return
	}
	if r.URL.Path == enterPath {
		p.enter(w, r, t)
		return
	}
	i, found, err := p.find(t)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	f := forward{target: t, instance: i, path: r.URL.EscapedPath()}
	if found && public(i, t) {
		p.forward(w, r, f, func() bool { return p.still(r, t, true, p.key) })
		return
	}
	prove := p.key
	caller, known, err := p.key(r)
	if err == nil && !known {
		prove = func(r *http.Request) (who, bool, error) { return p.pass(r, t) }
		caller, known, err = prove(r)
		if known && !ownPage(r, p.Origins.host(t).String()) {
			p.refuse(w, r, web.Fail(http.StatusForbidden, "forbidden", "Origin", "this request was made by a page of another address: open it in a window of its own"))
			return
		}
	}
	if err == nil && !known {
		if navigates(r) && reads(r) {
			p.sendBack(w, r, t)
			return
		}
		err = errUnknown
	}
	if err == nil {
		err = p.admit(caller, i, found)
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	if t.kind == Jupyter && !strings.HasPrefix(f.path, t.prefix()) {
		if !navigates(r) {
			p.refuse(w, r, absent())
			return
		}
		redirect(w, r, t.prefix(), http.StatusSeeOther)
		return
	}
	f.private = true
	p.forward(w, r, f, func() bool { return p.still(r, t, false, prove) })
}

// sendBack leads a browser without a pass to the console, which knows who it is.
func (p *proxy) sendBack(w http.ResponseWriter, r *http.Request, t target) {
	path := r.URL.EscapedPath()
	if t.kind == Jupyter {
		path = strings.TrimPrefix(path, strings.TrimSuffix(t.prefix(), "/"))
	}
	to := p.Origins.console.String() + t.prefix() + strings.TrimPrefix(path, "/")
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Cache-Control", "no-store")
	redirect(w, r, to, http.StatusSeeOther)
}

// enter redeems a ticket for a pass.
func (p *proxy) enter(w http.ResponseWriter, r *http.Request, t target) {
	query := r.URL.Query()
	next := ownPath(query.Get("next"))
	session, ok := p.tickets.redeem(query.Get("ticket"), t, time.Now())
	if !ok {
		// Opened a second time, from the history perhaps. With a pass it simply goes
		// on, and without one the console is asked again.
		redirect(w, r, next, http.StatusSeeOther)
		return
	}
	secure := p.Origins.Secure()
	http.SetCookie(w, &http.Cookie{
		Name: web.CookieName(passCookie, secure), Value: p.passes.write(session, t), Path: "/",
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode, MaxAge: int(identity.SessionAbsolute / time.Second),
	})
	w.Header().Set("Cache-Control", "no-store")
	redirect(w, r, next, http.StatusSeeOther)
}

// ownPath keeps a redirect on this host. Browsers take \ for / and drop control
// characters.
func ownPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsFunc(next, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }) {
		return "/"
	}
	return next
}

// still tells whether a request that is under way would be let in now.
func (p *proxy) still(r *http.Request, t target, open bool, prove func(*http.Request) (who, bool, error)) bool {
	i, found, err := p.find(t)
	if err != nil || !found {
		return false
	}
	if open {
		return public(i, t)
	}
	caller, known, err := prove(r)
	return err == nil && known && p.admit(caller, i, true) == nil
}
