package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// Limits and time-outs of this package.
const (
	dialTimeout     = 5 * time.Second  // for a container to take a connection
	idleTimeout     = 30 * time.Second // a connection to a container that nobody uses
	maxIdlePerPort  = 64
	maxPerPort      = 1024             // connections to one port of a container at once; more wait
	bodyPatience    = 2 * time.Minute  // for the next piece of a request's body
	recheckEvery    = 15 * time.Second // how long a stream outlives the right to it
	copyBufferBytes = 32 << 10
	maxAnswerHeader = 256 << 10 // bytes: they are all kept until the last has come
)

// Instances are what is reached; the scheduler has them.
type Instances interface {
	Published(id scheduler.InstanceID) (scheduler.Instance, error)
	DialPort(ctx context.Context, id scheduler.InstanceID, port int) (net.Conn, error)
}

// Deps is what the proxy needs. Every field but SecureConsole must be set.
type Deps struct {
	Store     *store.Store
	Instances Instances
	Keys      web.Keys
	Origins   Origins
	// PassKey signs passes: 32 secret bytes that stay the same over restarts.
	PassKey []byte
	// SecureConsole says that browsers come to the console by HTTPS.
	SecureConsole bool
	Log           *slog.Logger
}

type proxy struct {
	Deps
	tickets   *tickets
	passes    passes
	transport *http.Transport
	buffers   pool
	recheck   time.Duration
}

// Handler serves instances' hosts and paths, and leaves all else to next.
func Handler(d Deps, next http.Handler) http.Handler { return newProxy(d).handler(next) }

func newProxy(d Deps) *proxy {
	p := &proxy{Deps: d, tickets: newTickets(), passes: passes{d.PassKey}, recheck: recheckEvery}
	p.transport = &http.Transport{
		DialContext: p.dial, DisableCompression: true, IdleConnTimeout: idleTimeout,
		MaxIdleConnsPerHost: maxIdlePerPort, MaxConnsPerHost: maxPerPort,
		MaxResponseHeaderBytes: maxAnswerHeader,
		WriteBufferSize:        copyBufferBytes, ReadBufferSize: copyBufferBytes,
	}
	return p
}

func (p *proxy) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodTrace {
			// It would send back what is added to a request here.
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if t, below := p.Origins.match(r.Host); below {
			p.serveHost(w, r, t)
			return
		}
		// Before any ServeMux, which would redirect a path that it finds unclean: those
		// are the service's to judge.
		if t, rest, slash, ok := parsePath(r.URL.EscapedPath()); ok {
			p.servePath(w, r, t, rest, slash)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// absent is the answer about what does not exist, and about what is not to be told
// apart from that.
func absent() error {
	return web.Fail(http.StatusNotFound, "not_found", "", "there is nothing at this address, or nothing for you: ask whoever gave it to you")
}

// errUnknown is why somebody who did not say who it is gets nothing.
var errUnknown = web.Fail(http.StatusUnauthorized, "unauthorized", "Authorization",
	`this service is private, or there is none: members of its account sign in to the console in a browser, or send an API key as "Authorization: Bearer eco_…"; a member opens it to everybody with "ecolink instance service NAME --public" or on the instance's page`)

// who is what a request has shown of who sends it.
type who struct {
	account identity.AccountID // of an API key
	session identity.Session   // or of the console, or of a pass
}

// key finds the caller that a request's API key belongs to. A bearer token that is
// none of ours is the service's own.
func (p *proxy) key(r *http.Request) (w who, ok bool, err error) {
	if !isOurKey(r.Header.Get("Authorization")) {
		return w, false, nil
	}
	c, err := p.Keys.Authenticate(r.Context(), web.BearerToken(r))
	return who{account: c.Account}, err == nil, err
}

// console finds who is signed in to the console.
func (p *proxy) console(r *http.Request) (w who, ok bool, err error) {
	cookie, err := r.Cookie(web.CookieName(web.SessionCookie, p.SecureConsole || r.TLS != nil))
	if err != nil {
		return w, false, nil
	}
	err = p.Store.View(func(tx *store.Tx) (err error) {
		w.session, err = identity.FindSession(tx, cookie.Value, time.Now())
		return err
	})
	if errors.Is(err, identity.ErrUnauthorized) {
		return w, false, nil
	}
	return w, err == nil, err
}

// pass finds whose pass a request has.
func (p *proxy) pass(r *http.Request, t target) (w who, ok bool, err error) {
	var id identity.SessionID
	// There may be several: without HTTPS, a neighbour's page can put one beside ours.
	for _, cookie := range r.CookiesNamed(web.CookieName(passCookie, p.Origins.Secure())) {
		if id, ok = p.passes.read(cookie.Value, t); ok {
			break
		}
	}
	if !ok {
		return w, false, nil
	}
	now := time.Now()
	err = p.Store.View(func(tx *store.Tx) (err error) {
		w.session, err = identity.SessionByID(tx, id, now)
		return err
	})
	if errors.Is(err, identity.ErrUnauthorized) {
		return w, false, nil
	}
	if err == nil && w.session.TouchDue(now) {
		// Whoever works in a notebook all week has not left the console.
		touch := p.Store.Update(r.Context(), func(tx *store.Tx) error { return identity.TouchSessionByID(tx, id, now) })
		if touch != nil { // the session is good all the same
			p.Log.WarnContext(r.Context(), "the use of a session could not be noted", "session", id, "err", touch)
		}
	}
	return w, err == nil, err
}

// mayEnter tells whether somebody is a member of the account that an instance is of.
func (p *proxy) mayEnter(w who, a identity.AccountID) (bool, error) {
	if w.account != 0 {
		return w.account == a, nil
	}
	err := p.Store.View(func(tx *store.Tx) error {
		_, err := identity.RoleIn(tx, a, w.session.User)
		return err
	})
	if errors.Is(err, identity.ErrForbidden) || errors.Is(err, identity.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// find reads the instance; ok is false when there is none.
func (p *proxy) find(t target) (i scheduler.Instance, ok bool, err error) {
	i, err = p.Instances.Published(t.id)
	var problem *scheduler.Problem
	if errors.As(err, &problem) && problem.Kind == scheduler.NotFound {
		return i, false, nil
	}
	return i, err == nil, err
}

// public tells whether everybody may reach the target.
func public(i scheduler.Instance, t target) bool {
	return t.kind == Service && i.ServiceOpen && i.ServicePort != 0
}

// servePath answers on the console's origin: programs at once, browsers by sending
// them to the instance's own host.
func (p *proxy) servePath(w http.ResponseWriter, r *http.Request, t target, rest string, slash bool) {
	browser := navigates(r)
	if !browser && runs(r) {
		p.refuse(w, r, web.Fail(http.StatusForbidden, "forbidden", "Sec-Fetch-Dest", "a page can't use this as its own script or frame: use the instance's own address, to which its page leads"))
		return
	}
	i, found, err := p.find(t)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	open := found && public(i, t)
	if browser && (p.Origins.Apart() || !open) {
		p.handOver(w, r, i, found, t, rest)
		return
	}
	if !open {
		caller, known, err := p.key(r)
		if err == nil && !known {
			err = errUnknown
		}
		if err == nil {
			err = p.admit(caller, i, found)
		}
		if err != nil {
			p.refuse(w, r, err)
			return
		}
	}
	if !slash {
		redirect(w, r, (&url.URL{Path: t.prefix(), RawQuery: r.URL.RawQuery}).String(), http.StatusTemporaryRedirect)
		return
	}
	f := forward{target: t, instance: i, path: "/" + rest, prefix: strings.TrimSuffix(t.prefix(), "/"), shared: true, scripts: browser}
	if t.kind == Jupyter { // it knows its whole path
		f.path, f.prefix = r.URL.EscapedPath(), ""
	}
	p.forward(w, r, f, func() bool { return p.still(r, t, open, p.key) })
}

// admit refuses who is no member, as if there were nothing.
func (p *proxy) admit(caller who, i scheduler.Instance, found bool) error {
	if !found {
		return absent()
	}
	member, err := p.mayEnter(caller, i.Account)
	if err == nil && !member {
		err = absent()
	}
	return err
}

// handOver sends a browser from the console's origin to the instance's host: with
// a ticket where only members may come in.
func (p *proxy) handOver(w http.ResponseWriter, r *http.Request, i scheduler.Instance, found bool, t target, rest string) {
	there := p.Origins.host(t)
	path := "/" + rest
	if t.kind == Jupyter {
		path = t.prefix() + rest
	}
	next := path
	if r.URL.RawQuery != "" {
		next += "?" + r.URL.RawQuery
	}
	if found && public(i, t) {
		redirect(w, r, there.String()+next, http.StatusTemporaryRedirect)
		return
	}
	caller, known, err := p.console(r)
	if err == nil && !known {
		if reads(r) {
			redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		err = errUnknown
	}
	if err == nil {
		err = p.admit(caller, i, found)
	}
	if err == nil && !p.Origins.Apart() {
		err = web.Fail(http.StatusNotImplemented, "not_configured", "", fmt.Sprintf(
			"a browser opens %s only at an address of its own, so that what runs in an instance can't act in the console: "+
				"the operator sets one with --service-url 'https://*.apps.example.org'. Programs may use this address with an API key", t))
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	there.Path = enterPath
	there.RawQuery = url.Values{"ticket": {p.tickets.issue(caller.session.ID, t, time.Now())}, "next": {next}}.Encode()
	w.Header().Set("Cache-Control", "no-store")
	redirect(w, r, there.String(), http.StatusSeeOther)
}

// redirect leads on without telling where from: the address may have a ticket in it.
func redirect(w http.ResponseWriter, r *http.Request, to string, status int) {
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to, status)
}
