package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ecolink/ledger/registries"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/web"
	"ecolink/web/files"
)

// Deps is what the API is built from. Every field must be set.
type Deps struct {
	Store     *store.Store
	Scheduler *scheduler.Scheduler
	Keys      web.Keys
	Inventory nvml.Inventory
	Log       *slog.Logger
	Version   string
	SSH       web.SSHAddress // zero: off
	Box       string         // its host, as people know it, for challenges: web.BoxName
	// Registries keeps the accounts' log-ins for container registries.
	Registries *registries.Book
	// Terminal and Exec are the WebSockets of an instance. They find the caller
	// in their context and the instance in the path value "id".
	Terminal, Exec http.Handler
	// Addresses says where instances' services are reached: proxy.Origins.
	Addresses Addresses
	// Files serves the files of drives and shared filesystems.
	Files *files.Server
}

// Addresses are where what listens in instances is reached.
type Addresses interface {
	ServiceURL(id scheduler.InstanceID) string
	JupyterURL(id scheduler.InstanceID) string
}

type api struct {
	Deps
	mux  *http.ServeMux
	huma huma.API
}

// spellExactly has huma refuse a field that is spelt otherwise, GPU_COUNT, as it
// does one that does not exist: with both in a body, readers differ about which
// holds. The variable is of the whole process, where there is no other huma API.
var spellExactly = sync.OnceFunc(func() { huma.ValidateStrictCasing = true })

// New makes the handler of /v1/…, /healthz and /docs.
func New(d Deps) http.Handler {
	spellExactly()
	a := &api{Deps: d, mux: http.NewServeMux()}
	a.huma = huma.NewAPI(a.config(), adapter{mux: a.mux, private: a.private})
	a.addHealth()
	a.addMe()
	a.addInstances()
	a.addDrives()
	a.addChanges()
	a.addService()
	a.addLogs()
	a.addSockets()
	a.addFiles()
	a.addGPUs()
	a.addImages()
	a.addBilling()
	a.addKeys()
	a.addRegistries()
	a.addSSH()
	a.addTerminals()
	a.addDocuments()
	return a
}

// ServeHTTP answers a request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if refuse, pattern := a.mux.Handler(r); pattern == "" {
		a.unrouted(w, r, refuse)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// adapter registers huma's operations with a ServeMux. In place of humago's own
// it puts the API key check in front of every operation that the OpenAPI
// document says needs one, so that the two can't differ.
type adapter struct {
	mux     *http.ServeMux
	private func(http.Handler) http.Handler
}

// public is the Security of an operation that needs no API key; without it the
// document's own holds.
var public = []map[string][]string{}

// Handle implements huma.Adapter.
func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(humago.NewContext(op, r, w))
	})
	if op.Security == nil {
		h = a.private(h)
	}
	a.mux.Handle(op.Method+" "+op.Path, h)
}

// ServeHTTP implements huma.Adapter.
func (a adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

type originKey struct{}

// originOf is the address that a request came from, for the audit log.
func originOf(ctx context.Context) string {
	from, _ := ctx.Value(originKey{}).(string)
	return from
}

// private lets only callers with a key through. Their body is read only then.
func (a *api) private(next http.Handler) http.Handler {
	return a.Keys.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		r = r.WithContext(context.WithValue(r.Context(), originKey{}, web.From(r)))
		err := checkIdempotencyKey(r)
		if err == nil && (r.Method == http.MethodPost || r.Method == http.MethodPatch) {
			err = takeBody(w, r)
		}
		if err != nil {
			web.WriteFailure(w, web.Explain(r.Context(), a.Log, err))
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// register adds an operation whose errors go through web.Explain. op.Errors
// lists the statuses that the document names besides those that any may have.
func register[I, O any](a *api, op huma.Operation, h func(context.Context, *I) (*O, error)) {
	a.documentErrors(&op)
	// takeBody has already read the body, within its own limits. Above all huma's
	// default read deadline of five seconds must not stay: net/http cancels a
	// request's context when it passes, and asking a slow registry for an image
	// may take longer.
	op.MaxBodyBytes, op.BodyReadTimeout = -1, -1
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, &errorResponse{web.Explain(ctx, a.Log, err)}
		}
		return out, nil
	})
}

// ByID is the input of operations on one instance. Like other types here that are
// embedded it is exported for huma alone, which reads no others.
type ByID struct {
	ID scheduler.InstanceID `path:"id" minimum:"1" doc:"The instance's number." example:"142"`
}

func (a *api) config() huma.Config {
	json := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "EcoLink", Version: a.Version, Description: introduction},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "bearer", Description: `An API key of the account: "Authorization: Bearer eco_…".`},
				},
			},
			Security: []map[string][]string{{"key": {}}},
			Tags: []*huma.Tag{
				{Name: tagInstances, Description: "Development boxes: one container with whole GPUs, root inside."},
				{Name: tagFiles, Description: "Files on drives and shared filesystems, attached or not."},
				{Name: tagDrives, Description: "Storage that outlives an instance, for one instance at a time."},
				{Name: tagFilesystems, Description: "Storage for many instances at once."},
				{Name: tagGPUs, Description: "The GPUs of this box."},
				{Name: tagBilling, Description: "The account's wallet and its statement."},
				{Name: tagKeys, Description: "API keys of the account."},
				{Name: tagSSH, Description: "The way into instances by SSH, scp and sftp."},
				{Name: tagRegistries, Description: "Log-ins of the account for private container registries."},
				{Name: tagSystem, Description: "The API itself."},
			},
		},
		Formats:       map[string]huma.Format{"application/json": json, "json": json},
		DefaultFormat: "application/json",
		// A mistyped ?dryrun=true must not launch.
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{a.reshape},
	}
}

const (
	tagInstances   = "GPU instances"
	tagFiles       = "Files"
	tagDrives      = "Drives"
	tagFilesystems = "Shared filesystems"
	tagGPUs        = "GPUs"
	tagBilling     = "Billing"
	tagKeys        = "API keys"
	tagRegistries  = "Registry log-ins"
	tagSystem      = "System"
)

const introduction = `Send an API key as "Authorization: Bearer eco_…". Bodies are JSON; a field or query parameter that does not exist is refused. ` +
	`Money is a decimal string in US dollars, ids are integers, times are RFC 3339 in UTC. ` +
	`Lists come in pages: pass next_cursor as cursor until it is null. ` +
	`With watch=true an answer is a stream of server-sent events: the present state at once, then again after every change. ` +
	`Every answer carries X-Ecolink-Request-Id; X-Ecolink-Simulated-Gpus says that the GPUs are simulated, and as what.`
