package assets

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// Prefix is the path under which ServeHTTP expects to be mounted.
const Prefix = "/assets/"

// Set is the assets that were built. The zero Set has none.
type Set struct {
	names map[string]string // by entry point: console.css → console-4GXPZ2.css
	files map[string]file
}

type file struct {
	contentType string
	plain, gzip []byte
}

// Embedded gives what was built into this binary.
func Embedded() (Set, error) {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		return Set{}, err
	}
	return From(sub)
}

// From reads a folder that build.mjs has made.
func From(dir fs.FS) (Set, error) {
	s := Set{files: map[string]file{}}
	raw, err := fs.ReadFile(dir, "manifest.json")
	if err != nil {
		return Set{}, fmt.Errorf("the console's scripts and styles were not built (run `make generate`, then compile again): %w", err)
	}
	if err := json.Unmarshal(raw, &s.names); err != nil {
		return Set{}, fmt.Errorf("read the manifest of the console's assets: %w", err)
	}
	for _, name := range s.names {
		f := file{contentType: contentTypes[path.Ext(name)]}
		if f.plain, err = fs.ReadFile(dir, name); err != nil {
			return Set{}, fmt.Errorf("read the console's assets: %w", err)
		}
		if f.gzip, err = fs.ReadFile(dir, name+".gz"); err != nil {
			return Set{}, fmt.Errorf("read the console's assets: %w", err)
		}
		s.files[name] = f
	}
	return s, nil
}

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
}

// Built tells whether there is anything.
func (s Set) Built() bool { return len(s.files) > 0 }

// URL is the address of what was built from an entry point, such as console.css;
// "" when it was not.
func (s Set) URL(entry string) string {
	if name, ok := s.names[entry]; ok {
		return Prefix + name
	}
	return ""
}

// ServeHTTP serves the files, to be cached for ever: other content has another name.
func (s Set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := s.files[strings.TrimPrefix(r.URL.Path, Prefix)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	body, h := f.plain, w.Header()
	h.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		body = f.gzip
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // who has hung up does not get it
	}
}

// acceptsGzip reads an Accept-Encoding header as far as it matters: gzip, unless
// its weight is zero (RFC 9110 section 12.5.3).
func acceptsGzip(header string) bool {
	for item := range strings.SplitSeq(header, ",") {
		name, weight, weighted := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		if !weighted {
			return true
		}
		value, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
		q, err := strconv.ParseFloat(value, 64)
		return !ok || err != nil || q > 0
	}
	return false
}
