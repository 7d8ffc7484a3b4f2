package assets

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func squeeze(s string) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	io.WriteString(w, s)
	w.Close()
	return buf.Bytes()
}

func newSet(t *testing.T) Set {
	t.Helper()
	s, err := From(fstest.MapFS{
		"manifest.json":          {Data: []byte(`{"console.css":"console-ABC.css"}`)},
		"console-ABC.css":        {Data: []byte("body{}")},
		"console-ABC.css.gz":     {Data: squeeze("body{}")},
		"README":                 {Data: []byte("for people")},
		"console-ABC.css.map":    {Data: []byte("not listed")},
		"console-ABC.css.map.gz": {Data: []byte("not listed")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(s Set, path, accept string) *http.Response {
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Accept-Encoding", accept)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func TestAssetsAreServedForEverAndCompressed(t *testing.T) {
	s := newSet(t)
	if got := s.URL("console.css"); got != "/assets/console-ABC.css" {
		t.Fatalf("the address is %q", got)
	}
	for accept, compressed := range map[string]bool{"": false, "br, gzip;q=0.5": true, "gzip;q=0": false, "gzip": true, "gzip; q=0.0": false, "identity": false} {
		resp := get(s, s.URL("console.css"), accept)
		body, _ := io.ReadAll(resp.Body)
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != compressed {
			t.Errorf("%q: compressed %v", accept, got)
		}
		if compressed {
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			body, _ = io.ReadAll(r)
		}
		h := resp.Header
		if string(body) != "body{}" || !strings.Contains(h.Get("Cache-Control"), "immutable") || h.Get("Vary") != "Accept-Encoding" || !strings.HasPrefix(h.Get("Content-Type"), "text/css") {
			t.Errorf("%q: %q %v", accept, body, h)
		}
	}
}

func TestOnlyWhatIsInTheManifestIsServed(t *testing.T) {
	s := newSet(t)
	for _, path := range []string{"/assets/README", "/assets/manifest.json", "/assets/console-ABC.css.map", "/assets/", "/assets/../assets.go"} {
		if resp := get(s, path, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

func TestAssetsThatWereNotBuiltAreAnErrorAndAnEmptySet(t *testing.T) {
	s, err := From(fstest.MapFS{"README": {}})
	if err == nil || !strings.Contains(err.Error(), "make generate") || s.Built() || s.URL("console.css") != "" {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := From(fstest.MapFS{"manifest.json": {Data: []byte(`{"a.js":"a-1.js"}`)}}); err == nil {
		t.Error("a missing file is no error")
	}
	if resp := get(Set{}, "/assets/x.js", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the empty set answers %d", resp.StatusCode)
	}
}

func TestBuiltAssetsAreWhole(t *testing.T) {
	s, err := Embedded()
	if err != nil {
		t.Logf("nothing to check: %v", err)
		return
	}
	for _, entry := range []string{"console.css", "console.js", "terminal.css", "terminal.js", "files.js"} {
		if s.URL(entry) == "" {
			t.Errorf("%s was not built", entry)
		}
	}
}
