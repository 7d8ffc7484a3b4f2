package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"ecolink/agent/volume/files"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/scheduler"
)

// Failure is an error as a caller gets it: the status, and the body of SPEC.md 6,
// {"error": {…}}, whose fields are OpenAI's.
type Failure struct {
	Status    int     `json:"-"`
	Code      string  `json:"code" example:"insufficient_balance" doc:"What kind of problem it is; stable, for programs."`
	Message   string  `json:"message" doc:"What happened and what to do next, for people."`
	Type      string  `json:"type" example:"invalid_request_error" doc:"The family of the code, as OpenAI's SDKs know it."`
	Param     *string `json:"param" doc:"The field of the request that is at fault, when one is."`
	RequestID string  `json:"request_id" doc:"Name it when you ask the operator for help."`
}

// Error is the message for people.
func (f *Failure) Error() string { return f.Message }

// Fail makes a failure that began here and not in a domain package: a body that
// is no JSON, a missing key.
func Fail(status int, code, param, message string) *Failure {
	f := &Failure{Status: status, Code: code, Message: message, Type: family(status)}
	if param != "" {
		f.Param = &param
	}
	return f
}

// Explain is the one place where errors become HTTP. An error that it does not
// know is the box's own fault: the caller gets a request id, the log the rest.
func Explain(ctx context.Context, log *slog.Logger, err error) *Failure {
	f := explain(err)
	if f == nil {
		f = Fail(http.StatusInternalServerError, "internal_error", "",
			"something went wrong inside EcoLink: try again, and tell the operator the request id if it stays")
		log.ErrorContext(ctx, "request failed", "request_id", RequestID(ctx), "err", err)
	} else if explainBooks(err) != nil {
		log.ErrorContext(ctx, "the books can't be used", append([]any{"request_id", RequestID(ctx), "err", err}, whereFrom(err)...)...)
	}
	f.RequestID = RequestID(ctx)
	return f
}

// explain gives nil for an error that is nobody's but ours.
func explain(err error) *Failure {
	var ready *Failure
	if errors.As(err, &ready) {
		own := *ready // the request id is this caller's alone
		return &own
	}
	var problem *scheduler.Problem
	if errors.As(err, &problem) {
		return explainProblem(problem)
	}
	var file *files.Error
	if errors.As(err, &file) {
		return explainFile(file)
	}
	var ours *identity.Error
	if errors.As(err, &ours) {
		return explainIdentity(ours)
	}
	var unpriced *price.Error
	if errors.As(err, &unpriced) {
		return explainPrice(unpriced)
	}
	if f := explainMoney(err); f != nil {
		return f
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Fail(statusClientClosed, "request_cancelled", "", "the request was cancelled: what had not begun does not happen")
	case errors.Is(err, context.DeadlineExceeded):
		return Fail(http.StatusServiceUnavailable, "unavailable", "", "this took too long: try again in a moment")
	}
	return nil
}

// statusClientClosed is nginx's status for a caller who has hung up; nobody reads it.
const statusClientClosed = 499

func explainProblem(p *scheduler.Problem) *Failure {
	status := map[scheduler.Kind]int{
		scheduler.Malformed:     http.StatusBadRequest,
		scheduler.Unprocessable: http.StatusUnprocessableEntity,
		scheduler.NotFound:      http.StatusNotFound,
		scheduler.Conflict:      http.StatusConflict,
		scheduler.Unavailable:   http.StatusServiceUnavailable,
	}[p.Kind]
	if status == 0 {
		return nil
	}
	return Fail(status, string(p.Kind), p.Field, p.Message)
}

func explainIdentity(e *identity.Error) *Failure {
	for _, k := range []struct {
		kind   error
		status int
		code   string
	}{
		{identity.ErrNotFound, http.StatusNotFound, "not_found"},
		{identity.ErrExists, http.StatusConflict, "conflict"},
		{identity.ErrInvalid, http.StatusUnprocessableEntity, "unprocessable"},
		{identity.ErrUnauthorized, http.StatusUnauthorized, "unauthorized"},
		{identity.ErrForbidden, http.StatusForbidden, "forbidden"},
		{identity.ErrConflict, http.StatusConflict, "conflict"},
		{identity.ErrBusy, http.StatusServiceUnavailable, "unavailable"},
	} {
		if errors.Is(e, k.kind) {
			return Fail(k.status, k.code, e.Field, e.Message)
		}
	}
	return nil
}

// explainFile: a volume that is full is 507, and tells retrying clients apart from
// a server that is in trouble by its code.
func explainFile(e *files.Error) *Failure {
	switch e.Kind {
	case files.Invalid:
		return Fail(http.StatusUnprocessableEntity, "unprocessable", e.Field, e.Message)
	case files.NotFound:
		return Fail(http.StatusNotFound, "not_found", e.Field, e.Message)
	case files.Exists, files.Conflict:
		return Fail(http.StatusConflict, "conflict", e.Field, e.Message)
	case files.Full:
		return Fail(http.StatusInsufficientStorage, "volume_full", e.Field, e.Message)
	}
	return nil
}

func explainPrice(e *price.Error) *Failure {
	switch e.Kind {
	case price.ErrInvalid:
		return Fail(http.StatusUnprocessableEntity, "unprocessable", e.Field, e.Message)
	case price.ErrNotFound:
		return Fail(http.StatusNotFound, "not_found", e.Field, e.Message)
	case price.ErrConflict:
		return Fail(http.StatusConflict, "conflict", e.Field, e.Message)
	}
	return nil
}

// family is OpenAI's "type" for a status.
func family(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusPaymentRequired:
		return "insufficient_quota"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "server_error"
	default:
		return "invalid_request_error"
	}
}

// WriteFailure answers with the one error shape.
func WriteFailure(w http.ResponseWriter, f *Failure) {
	w.Header().Set("Content-Type", "application/json")
	if f.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ecolink"`)
	}
	w.WriteHeader(f.Status)
	// A caller who has hung up does not get it: nobody is left to tell.
	_ = json.NewEncoder(w).Encode(struct {
		Error *Failure `json:"error"`
	}{f})
}
