package console

import (
	"bytes"
	"log/slog"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/web/console/assets"
)

// Limits of the console.
const (
	maxFormBytes   = 1 << 20
	maxOpenBytes   = 64 << 10 // of a form of somebody who is not known yet
	pageRows       = 50       // of one page of a list
	logLines       = 500      // shown of an instance's output
	refreshEvery   = 10 * time.Second
	sessionRecheck = 15 * time.Second // how long a stream or a terminal outlives a sign-out
)

// Deps is what the console needs.
type Deps struct {
	Store     *store.Store
	Scheduler *scheduler.Scheduler
	Hasher    *identity.Hasher
	Inventory nvml.Inventory
	Log       *slog.Logger
	// Terminal serves a terminal's WebSocket: socket.Terminal.
	Terminal http.Handler
	// SecureCookies says that browsers come by HTTPS although the console does not
	// see it, as behind a proxy.
	SecureCookies bool
}

type console struct {
	Deps
	assets  assets.Set
	failed  *throttle // log-ins
	recheck time.Duration
}

// New makes the console's handler, to be mounted at /.
func New(d Deps) http.Handler {
	set, err := assets.Embedded()
	if err != nil {
		d.Log.Error("the console is plain", "err", err)
	}
	return newConsole(d, set).handler()
}

func newConsole(d Deps, set assets.Set) *console {
	return &console{Deps: d, assets: set, failed: newThrottle(), recheck: sessionRecheck}
}

func (c *console) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+assets.Prefix+"{file}", c.assets)
	mux.Handle("GET /setup", c.open(c.setupForm))
	mux.Handle("POST /setup", c.open(c.setUp))
	mux.Handle("GET /login", c.open(c.loginForm))
	mux.Handle("POST /login", c.open(c.logIn))
	mux.Handle("POST /logout", c.form(c.logOut))
	mux.Handle("POST /logout-everywhere", c.form(c.logOutEverywhere))
	mux.Handle("POST /account", c.form(c.switchAccount))

	mux.Handle("GET /{$}", http.RedirectHandler("/instances", http.StatusSeeOther))
	mux.Handle("GET /instances", c.page(c.instances))
	mux.Handle("GET /instances/events", c.page(c.instancesEvents))
	mux.Handle("GET /instances/new", c.page(c.launchForm))
	mux.Handle("POST /instances/new", c.form(c.launch))
	mux.Handle("GET /instances/quote", c.page(c.quote))
	mux.Handle("GET /instances/{id}", c.page(c.instance))
	mux.Handle("GET /instances/{id}/events", c.page(c.instanceEvents))
	mux.Handle("GET /instances/{id}/logs", c.page(c.logs))
	mux.Handle("GET /instances/{id}/extend", c.page(c.extendForm))
	mux.Handle("POST /instances/{id}/extend", c.form(c.extend))
	mux.Handle("GET /instances/{id}/extend/quote", c.page(c.extendQuote))
	mux.Handle("GET /instances/{id}/terminate", c.page(c.terminateForm))
	mux.Handle("POST /instances/{id}/terminate", c.form(c.terminate))
	mux.Handle("GET /instances/{id}/terminal", c.page(c.terminal))
	mux.Handle("GET /instances/{id}/terminal/status", c.page(c.terminalStatus))
	mux.Handle("GET /instances/{id}/terminal/socket", c.page(c.terminalSocket))

	mux.Handle("GET /gpus", c.page(c.gpus))
	mux.Handle("GET /billing", c.page(c.billing))
	mux.Handle("GET /billing/statement", c.page(c.statement))
	mux.Handle("GET /keys", c.page(c.keys))
	mux.Handle("POST /keys", c.form(c.createKey))
	mux.Handle("GET /keys/{id}/cap", c.page(c.capForm))
	mux.Handle("POST /keys/{id}/cap", c.form(c.setCap))
	mux.Handle("GET /keys/{id}/revoke", c.page(c.revokeForm))
	mux.Handle("POST /keys/{id}/revoke", c.form(c.revoke))
	mux.Handle("/", c.page(c.nothingHere))
	return secured(mux)
}

// secured sets the headers that every page has. A page has nothing inline, is
// framed by nobody and is kept by no cache: it may show what is secret.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// show renders a page or a part of one. It is rendered as a whole before the
// first byte leaves, so that a mistake in it is an error and not half a page.
func show(w http.ResponseWriter, r *http.Request, status int, what templ.Component) error {
	var buf bytes.Buffer
	if err := what.Render(r.Context(), &buf); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Add("Vary", "HX-Request")
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w) // who has hung up does not get it
	return nil
}

// isPart tells whether a script asks for a part of the page, to be put into one
// that is there already.
func isPart(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }
