package proxy

import (
	"bytes"
	"html/template"
	"net/http"

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
		return "Sign in first"
	case "not_configured":
		return "This needs an address of its own"
	default:
		return "This did not work"
	}
}

// refuse answers a request that is not forwarded: with a page for people, with the
// one shape of errors for programs.
func (p *proxy) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := web.Explain(r.Context(), p.Log, err)
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
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
