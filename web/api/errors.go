package api

import (
	"cmp"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"ecolink/web"
)

// errorResponse is the body of every error.
type errorResponse struct {
	Failure *web.Failure `json:"error"`
}

// Error implements error.
func (e *errorResponse) Error() string { return e.Failure.Message }

// GetStatus implements huma.StatusError.
func (e *errorResponse) GetStatus() int { return e.Failure.Status }

// reshape gives what huma itself refuses the one error shape. It is a transformer
// of this API: the other way, replacing the package variable huma.NewError, would
// change the errors of every huma API in the process, and would not know the
// request. A transformer can't change the status, which is why bodies are read,
// and refused, before huma sees them (body.go).
func (a *api) reshape(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	ctx.SetHeader("Content-Type", "application/json") // not problem+json
	return &errorResponse{web.Explain(ctx.Context(), a.Log, translate(m))}, nil
}

// translate makes an error of ours from huma's.
func translate(m *huma.ErrorModel) error {
	switch m.Status {
	case http.StatusBadRequest:
		message := "this needs a JSON body; /docs shows what to send"
		if len(m.Errors) > 0 {
			message = "the body is not valid JSON: " + firstOf(m.Errors).Message + "; /docs shows what to send"
		}
		return web.Fail(m.Status, "invalid_request", "", message)
	case http.StatusUnsupportedMediaType:
		return web.Fail(m.Status, "unsupported_media_type", "Content-Type", `send the body as JSON, with "Content-Type: application/json"`)
	case http.StatusUnprocessableEntity:
		if len(m.Errors) == 0 {
			break
		}
		param, message := describe(firstOf(m.Errors))
		if n := len(m.Errors); n > 1 {
			message += fmt.Sprintf(" (the first of %d mistakes)", n)
		}
		return web.Fail(m.Status, "unprocessable", param, message)
	}
	return fmt.Errorf("huma: status %d: %w, %v", m.Status, m, m.Errors)
}

// firstOf picks the error to tell of: always the same one for the same request,
// and one about a field that does not exist before others, because a mistyped
// name is also a missing one.
func firstOf(all []*huma.ErrorDetail) *huma.ErrorDetail {
	rank := func(d *huma.ErrorDetail) int {
		if d.Message == validation.MsgUnexpectedProperty {
			return 0
		}
		return 1
	}
	return slices.MinFunc(all, func(x, y *huma.ErrorDetail) int {
		return cmp.Or(rank(x)-rank(y), strings.Compare(x.Location, y.Location), strings.Compare(x.Message, y.Message))
	})
}

// describe finds the field that is at fault and says what is wrong with it.
func describe(d *huma.ErrorDetail) (param, message string) {
	_, param, _ = strings.Cut(d.Location, ".") // after body, query, path or header
	switch {
	case d.Message == validation.MsgUnexpectedProperty:
		return param, fmt.Sprintf("there is no field %q here: remove it, or see /docs for its right name", param)
	case d.Message == "unknown query parameter":
		return param, fmt.Sprintf("there is no query parameter %q here: remove it, or see /docs for its right name", param)
	}
	var missing string
	if _, err := fmt.Sscanf(d.Message, validation.MsgExpectedRequiredProperty, &missing); err == nil {
		if param != "" {
			missing = param + "." + missing
		}
		return missing, fmt.Sprintf("the field %q is missing: add it", missing)
	}
	text := d.Message
	if param == "" { // unmarshal found it; see there
		if field, rest, ok := strings.Cut(d.Message, ": "); ok {
			param, text = field, rest
		}
	}
	if param == "" {
		return "", fmt.Sprintf("the body: %s; see /docs", text)
	}
	return param, fmt.Sprintf("%s: %s; see /docs", param, text)
}

// unrouted answers a request that no route matches. refuse is the ServeMux's own
// answer, which alone knows whether another method would do.
func (a *api) unrouted(w http.ResponseWriter, r *http.Request, refuse http.Handler) {
	verdict := &answer{header: http.Header{}}
	refuse.ServeHTTP(verdict, r)
	f := web.Fail(http.StatusNotFound, "not_found", "", fmt.Sprintf("there is no %s here; /docs lists what there is", r.URL.Path))
	if verdict.status == http.StatusMethodNotAllowed {
		allow := verdict.header.Get("Allow")
		w.Header().Set("Allow", allow)
		f = web.Fail(http.StatusMethodNotAllowed, "method_not_allowed", "", fmt.Sprintf("%s takes %s, not %s", r.URL.Path, allow, r.Method))
	}
	web.WriteFailure(w, web.Explain(r.Context(), a.Log, f))
}

// answer keeps the status and header of a response, and not its body.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }

// documentErrors writes the error answers of an operation into its
// documentation. huma would do it from op.Errors, with its own error shape.
func (a *api) documentErrors(op *huma.Operation) {
	statuses := append([]int{http.StatusInternalServerError}, op.Errors...)
	op.Errors = nil
	if op.Security == nil {
		statuses = append(statuses, http.StatusUnauthorized, http.StatusUnprocessableEntity)
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	for _, status := range statuses {
		op.Responses[strconv.Itoa(status)] = respond[errorResponse](a, http.StatusText(status))
	}
}

// respond documents an answer with a JSON body of type T.
func respond[T any](a *api, description string) *huma.Response {
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
}
