package files

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecolink/agent/volume/files/filestest"
)

// world is a mounted volume, and what must never be reached from it.
type world struct {
	Volume
	t  *testing.T
	at string // the mount
}

func newWorld(t *testing.T) *world { return newWorldOf(t, 64<<20, 4096) }

func newWorldOf(t *testing.T, bytes int64, files int) *world {
	t.Helper()
	at := filestest.Mount(t, bytes, files)
	root, err := os.OpenRoot(at)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	must(t, os.Remove(filepath.Join(at, "lost+found")))
	return &world{In(root), t, at}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file as a container would.
func (w *world) put(path, text string) {
	w.t.Helper()
	must(w.t, os.MkdirAll(filepath.Dir(w.path(path)), 0o755))
	must(w.t, os.WriteFile(w.path(path), []byte(text), 0o644))
}

func (w *world) path(p string) string { return filepath.Join(w.at, p) }

func (w *world) link(target, path string) { w.t.Helper(); must(w.t, os.Symlink(target, w.path(path))) }

func (w *world) read(p string) string {
	w.t.Helper()
	f, err := w.Open(p)
	must(w.t, err)
	defer f.Close()
	raw, err := io.ReadAll(f)
	must(w.t, err)
	return string(raw)
}

// names lists a folder as a person reads it.
func (w *world) names(p string) string {
	w.t.Helper()
	page, err := w.List(w.t.Context(), p, "", MaxPage)
	must(w.t, err)
	var out []string
	for _, e := range page.Entries {
		out = append(out, e.Name)
	}
	return strings.Join(out, " ")
}

func (w *world) refused(err error, kind Kind) {
	w.t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || e.Message == "" {
		w.t.Errorf("got %T %v, want one of kind %q", err, err, kind)
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// upload sends a whole file.
func (w *world) upload(path string, data []byte, overwrite bool) error {
	w.t.Helper()
	u, err := w.NewUpload(path, int64(len(data)), overwrite, time.Time{}, now())
	if err != nil {
		return err
	}
	if _, err := w.WriteUpload(w.t.Context(), u, bytes.NewReader(data)); err != nil {
		return err
	}
	return w.FinishUpload(u)
}
