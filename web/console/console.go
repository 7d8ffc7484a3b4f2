package console

import (
	"bytes"
	"log/slog"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"ecolink/ledger/identity"
	"ecolink/ledger/registries"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/web"
	"ecolink/web/console/assets"
	"ecolink/web/files"
	"ecolink/web/throttle"
)

// Limits of the console.
const (
	maxFormBytes    = 1 << 20
	maxOpenBytes    = 64 << 10 // of a form of somebody who is not known yet
	pageRows        = 50       // of one page of a list
	transactionRows = 20       // of one page of the journal
	logLines        = 500      // shown of an instance's output
	refreshEvery    = 10 * time.Second
	sessionRecheck  = 15 * time.Second // how long a stream or a terminal outlives a sign-out
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
	// Files serves the files of drives and shared filesystems.
	Files *files.Server
	// SecureCookies says that browsers come by HTTPS although the console does not
	// see it, as behind a proxy.
	SecureCookies bool
	SSH           web.SSHAddress // zero: off
	Box           string         // its host, as people know it, for challenges: web.BoxName
	// Addresses says where instances' services are reached: proxy.Origins.
	Addresses Addresses
	// Registries keeps the accounts' log-ins for container registries.
	Registries *registries.Book
}

// Addresses are where instances' services are reached.
type Addresses interface {
	ServiceURL(id scheduler.InstanceID) string
}

type console struct {
	Deps
	assets  assets.Set
	failed  *throttle.Throttle // log-ins
	recheck time.Duration
	// imageTime is how long a price waits for the image's registry.
	imageTime time.Duration
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
	return &console{Deps: d, assets: set, failed: throttle.New(maxFailures), recheck: sessionRecheck, imageTime: quoteImageTime}
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
	mux.Handle("GET /instances/{id}/service", c.page(c.serviceForm))
	mux.Handle("POST /instances/{id}/service", c.form(c.setService))
	mux.Handle("GET /instances/{id}/extend", c.page(c.extendForm))
	mux.Handle("POST /instances/{id}/extend", c.form(c.extend))
	mux.Handle("GET /instances/{id}/extend/quote", c.page(c.extendQuote))
	mux.Handle("GET /instances/{id}/terminate", c.page(c.terminateForm))
	mux.Handle("POST /instances/{id}/terminate", c.form(c.terminate))
	mux.Handle("GET /instances/{id}/terminal", c.page(c.terminal))
	mux.Handle("GET /instances/{id}/terminal/status", c.page(c.terminalStatus))
	mux.Handle("GET /instances/{id}/terminal/socket", c.page(c.terminalSocket))

	mux.Handle("GET /storage", c.page(c.storage))
	mux.Handle("GET /storage/events", c.page(c.storageEvents))
	mux.Handle("GET /storage/new", c.page(c.newStorageForm))
	mux.Handle("POST /storage/new", c.form(c.createStorage))
	mux.Handle("GET /storage/quote", c.page(c.storageQuote))
	mux.Handle("GET /storage/{id}", c.page(c.drive))
	mux.Handle("GET /storage/{id}/events", c.page(c.driveEvents))
	mux.Handle("GET /storage/{id}/grow", c.page(c.driveQuestion(driveDeeds["grow"])))
	mux.Handle("POST /storage/{id}/grow", c.form(c.driveDeed(driveDeeds["grow"])))
	mux.Handle("GET /storage/{id}/snapshot", c.page(c.driveQuestion(driveDeeds["snapshot"])))
	mux.Handle("POST /storage/{id}/snapshot", c.form(c.driveDeed(driveDeeds["snapshot"])))
	mux.Handle("GET /storage/{id}/clone", c.page(c.driveQuestion(driveDeeds["clone"])))
	mux.Handle("POST /storage/{id}/clone", c.form(c.driveDeed(driveDeeds["clone"])))
	mux.Handle("GET /storage/{id}/delete", c.page(c.driveQuestion(driveDeeds["delete"])))
	mux.Handle("POST /storage/{id}/delete", c.form(c.driveDeed(driveDeeds["delete"])))
	mux.Handle("GET /storage/{id}/snapshots/{snapshot}/restore", c.page(c.driveQuestion(snapshotDeeds["restore"])))
	mux.Handle("POST /storage/{id}/snapshots/{snapshot}/restore", c.form(c.driveDeed(snapshotDeeds["restore"])))
	mux.Handle("GET /storage/{id}/snapshots/{snapshot}/clone", c.page(c.driveQuestion(snapshotDeeds["clone"])))
	mux.Handle("POST /storage/{id}/snapshots/{snapshot}/clone", c.form(c.driveDeed(snapshotDeeds["clone"])))
	mux.Handle("GET /storage/{id}/snapshots/{snapshot}/delete", c.page(c.driveQuestion(snapshotDeeds["delete"])))
	mux.Handle("POST /storage/{id}/snapshots/{snapshot}/delete", c.form(c.driveDeed(snapshotDeeds["delete"])))

	mux.Handle("GET /storage/{id}/files", c.page(c.files))
	mux.Handle("GET /storage/{id}/files/content", c.page(c.fileContent))
	mux.Handle("GET /storage/{id}/files/archive", c.page(c.fileArchive))
	for action := range fileDeeds {
		mux.Handle("GET /storage/{id}/files/"+action, c.page(c.askFile(action)))
		mux.Handle("POST /storage/{id}/files/"+action, c.form(c.doFile(action)))
	}
	mux.Handle("POST /storage/{id}/uploads", c.script(c.upload))
	for _, method := range []string{"HEAD", "PATCH", "DELETE"} {
		mux.Handle(method+" /storage/{id}/uploads/{upload}", c.script(c.upload))
	}

	mux.Handle("GET /gpus", c.page(c.gpus))
	mux.Handle("GET /billing", c.page(c.billing))
	mux.Handle("GET /billing/statement", c.page(c.statement))
	mux.Handle("GET /ssh-keys", c.page(c.sshKeys))
	mux.Handle("POST /ssh-keys", c.form(c.addSSHKey))
	mux.Handle("POST /ssh-keys/prove", c.form(c.proveSSHKey))
	mux.Handle("GET /ssh-keys/{id}/remove", c.page(c.removeSSHKeyForm))
	mux.Handle("POST /ssh-keys/{id}/remove", c.form(c.removeSSHKey))
	mux.Handle("GET /keys", c.page(c.keys))
	mux.Handle("POST /keys", c.form(c.createKey))
	mux.Handle("GET /keys/registries", c.page(c.registries))
	mux.Handle("POST /keys/registries", c.form(c.storeRegistry))
	mux.Handle("POST /keys/registries/{id}/remove", c.form(c.removeRegistry))
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
