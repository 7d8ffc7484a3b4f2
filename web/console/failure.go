package console

import (
	"encoding/json"
	"net/http"
	"strings"

	"ecolink/web"
)

// fail answers with the page, the part or the JSON that tells of an error.
func (c *console) fail(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	f := web.Explain(r.Context(), c.Log, err)
	if !wantsPage(r) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(f.Status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": f.Message})
		return
	}
	what := problemPage(c.frame(r, v, problemTitle(f.Status)), f)
	if isPart(r) {
		what = problemPart(f)
	}
	if err := show(w, r, f.Status, what); err != nil {
		c.Log.ErrorContext(r.Context(), "an error could not be shown", "request_id", f.RequestID, "err", err)
		http.Error(w, f.Message, f.Status)
	}
}

// wantsPage tells a person's request from a script's that wants data.
func wantsPage(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return !strings.HasPrefix(accept, "application/json") && !strings.HasPrefix(accept, "text/event-stream") &&
		r.Header.Get("Upgrade") == ""
}

func problemTitle(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "Not found"
	case status == http.StatusForbidden:
		return "Not allowed"
	case status == http.StatusUnauthorized:
		return "Not signed in"
	case status == http.StatusTooManyRequests:
		return "Too many attempts"
	case status >= 500:
		return "Something went wrong"
	default:
		return "That did not work"
	}
}

// nothingHere answers for addresses that no page has.
func (c *console) nothingHere(http.ResponseWriter, *http.Request, *visit) error {
	return web.Fail(http.StatusNotFound, "not_found", "", "there is no page at this address: choose one from the menu")
}
