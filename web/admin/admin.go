package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
)

// Limits.
const (
	maxBody      = 64 << 10
	maxNoteBytes = 500
	maxKeyBytes  = 255
)

// operator is who acts here: whoever is root on the box.
const operator identity.Actor = "local:root"

// origin is where it is done from, for the audit log.
const origin = "administration socket"

type handler struct {
	store   *store.Store
	hasher  *identity.Hasher
	version string
	log     *slog.Logger
	doctor  Doctor       // nil: none
	images  *imageKeeper // nil: EcoLink does not run
	// gpuTypes are those of the box; nil: EcoLink does not run.
	gpuTypes *[]string
}

// Handler makes the handler of /admin/…. version is EcoLink's own.
func Handler(st *store.Store, hasher *identity.Hasher, version string, log *slog.Logger, options ...Option) http.Handler {
	h := &handler{store: st, hasher: hasher, version: version, log: log}
	for _, o := range options {
		o(h)
	}
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (int, any, error){
		"POST /admin/bootstrap":            h.bootstrap,
		"POST /admin/topup":                h.topUp,
		"POST /admin/correct":              h.correct,
		"POST /admin/rate":                 h.setRate,
		"GET /admin/rates":                 h.rates,
		"POST /admin/prices":               h.setPrice,
		"POST /admin/prices/withdraw":      h.withdrawPrice,
		"POST /admin/prices/cancel":        h.cancelPrice,
		"GET /admin/prices":                h.prices,
		"GET /admin/prices/history":        h.priceHistory,
		"POST /admin/ledger/verify":        h.verify,
		"POST /admin/ledger/accept-clock":  h.acceptClock,
		"POST /admin/ledger/archive":       h.archive,
		"POST /admin/ledger/rebuild-usage": h.rebuildUsage,
		"GET /admin/images":                h.listImages,
		"POST /admin/images/remove":        h.removeImage,
		"POST /admin/images/prune":         h.pruneImages,
		"GET /admin/doctor":                h.examine,
		"POST /admin/doctor/mend":          h.mend,
	} {
		mux.HandleFunc(pattern, h.answer(f))
	}
	mux.HandleFunc("GET /admin/backup", h.backup)
	mux.HandleFunc("POST /admin/images/import", h.importImage)
	mux.HandleFunc("/", h.answer(func(r *http.Request) (int, any, error) {
		return 0, nil, web.Fail(http.StatusNotFound, "not_found", "",
			fmt.Sprintf("there is no %s %s: `ecolink admin --help` lists what there is", r.Method, r.URL.Path))
	}))
	return mux
}

// answer renders what an operation gives.
func (h *handler) answer(f func(*http.Request) (int, any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := f(r)
		if err != nil {
			web.WriteFailure(w, web.Explain(r.Context(), h.log, err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		// A caller who has hung up does not get it: nobody is left to tell.
		_ = json.NewEncoder(w).Encode(body)
	}
}

// decode reads a body of which every field must be known.
func decode(r *http.Request, into any) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return web.Fail(http.StatusBadRequest, "invalid_request", "", "the request body broke off: send it again")
	}
	if len(raw) > maxBody {
		return web.Fail(http.StatusRequestEntityTooLarge, "request_too_large", "", fmt.Sprintf("a request body may have %d bytes at most: send less", maxBody))
	}
	if !json.Valid(raw) {
		return web.Fail(http.StatusBadRequest, "invalid_request", "", "the body must be valid JSON: correct it and send it again")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	if err == nil {
		return nil
	}
	var ours *web.Failure
	if errors.As(err, &ours) {
		return ours
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", mismatch.Field,
			fmt.Sprintf("%s can't be a %s: send a string", mismatch.Field, mismatch.Value))
	}
	// encoding/json has no type for this one.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if plain, err := strconv.Unquote(name); err == nil {
			name = plain
		}
		return web.Fail(http.StatusUnprocessableEntity, "unprocessable", name, fmt.Sprintf("there is no field %q here: remove it", name))
	}
	return web.Fail(http.StatusBadRequest, "invalid_request", "", err.Error()+": correct the body and send it again")
}
