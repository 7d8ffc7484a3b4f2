package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// navigates tells whether a browser is to show the answer as a page. Browsers say
// so (Fetch Metadata), save old ones and those that come without TLS from another
// machine; what asks for HTML is then taken for one.
func navigates(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return reads(r) && !upgrades(r) && r.Header.Get("Authorization") == "" && wantsPage(r)
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

func upgrades(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }

// wantsPage tells whether an answer should be for people.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// inert are the destinations for which a browser runs nothing of an answer. Only
// these get one on the console's origin.
var inert = []string{"", "empty", "image", "audio", "video", "track", "font", "websocket", "document"}

// runs tells whether a browser would run the answer as code of the page that asks.
func runs(r *http.Request) bool { return !slices.Contains(inert, r.Header.Get("Sec-Fetch-Dest")) }

// ownPage tells whether a request may use its host's pass: it comes from one of the
// host's own pages, or follows a link to one. self is the host's origin.
func ownPage(r *http.Request, self string) bool {
	origin := r.Header.Get("Origin")
	if origin != "" && !strings.EqualFold(origin, self) {
		return false
	}
	if upgrades(r) {
		return origin != "" // browsers always say it
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		// A browser that does not say it: a form of another site has an Origin.
		if reads(r) || origin != "" {
			return true
		}
		ref, err := url.Parse(r.Referer())
		return err == nil && strings.EqualFold(ref.Scheme+"://"+ref.Host, self)
	default:
		return reads(r) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	}
}
