package proxy

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"ecolink/web"
)

// page tells a person what a program gets as a web.Failure. It runs nothing and
// names nothing of the container's.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} – EcoLink</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;color-scheme:light dark}code{font-size:.95em}small{opacity:.7}</style>
</head><body><h1>{{.Title}}</h1><p>{{.Message}}</p>
{{if .Console}}<p><a href="{{.Console}}">To the console</a></p>{{end}}
<p><small>{{.Status}} {{.Code}}, request {{.RequestID}}</small></p></body></html>
`))

// titles are what the pages are headed with, by the failure's code.
func title(code string) string {
	switch code {
	case "bad_gateway":
		return "Nothing answers here yet"
	case "conflict":
		return "Not running"
	case "not_found":
		return "There is nothing here"
	case "unauthorized":
		return "This service is private"
	case "not_configured":
		return "This needs an address of its own"
	default:
		return "This did not work"
	}
}

// takesText tells whether somebody reads the answer in a terminal who knows nothing
// of EcoLink: curl takes anything, and programs that know the API ask for JSON or
// have a key.
func takesText(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return (accept == "" || strings.HasPrefix(accept, "*/*") || strings.Contains(accept, "text/plain")) && r.Header.Get("Authorization") == "" && !upgrades(r)
}

// refuse answers a request that is not forwarded: with a page for people, a line for
// who sits at a terminal, with the one shape of errors for programs.
func (p *proxy) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := web.Explain(r.Context(), p.Log, err)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	if f.Status == http.StatusUnauthorized && takesText(r) {
		h.Set("WWW-Authenticate", `Bearer realm="ecolink"`)
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(f.Status)
		_, _ = fmt.Fprintf(w, "%s: %s\n", title(f.Code), f.Message)
		return
	}
	if !wantsPage(r) || upgrades(r) {
		web.WriteFailure(w, f)
		return
	}
	var text bytes.Buffer
	if err := page.Execute(&text, struct {
		*web.Failure
		Title, Console string
	}{f, title(f.Code), p.Origins.console.String()}); err != nil {
		web.WriteFailure(w, f)
		return
	}
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(f.Status)
	_, _ = text.WriteTo(w) // who has hung up does not get it
}
