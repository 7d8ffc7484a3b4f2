package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// breaking is a way to the box that breaks every transfer after so many bytes, as
// often as it is told to.
type breaking struct {
	after int64
	left  atomic.Int32 // transfers that are still to be broken
	mu    sync.Mutex
	seen  []string // methods, and where transfers began
}

func (b *breaking) note(r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.Contains(r.URL.Path, "/uploads") || strings.Contains(r.URL.Path, "/content") {
		b.seen = append(b.seen, r.Method+" "+r.Header.Get("Upload-Offset")+r.Header.Get("Range"))
	}
}

func (b *breaking) via(t *testing.T, to string) string {
	t.Helper()
	at, err := url.Parse(to)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(at)
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.Contains(r.Request.URL.Path, "/content") && b.left.Add(-1) >= 0 {
			r.Body = &broken{r.Body, b.after}
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.note(r)
		if r.Method == http.MethodPatch && b.left.Add(-1) >= 0 {
			r.Body = &broken{r.Body, b.after}
		}
		proxy.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = proxy.ErrorLog
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// broken is a body that ends in an error.
type broken struct {
	io.ReadCloser
	left int64
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left <= 0 {
		time.Sleep(200 * time.Millisecond) // what was read before arrives
		return 0, fmt.Errorf("the line is cut")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// withDrive gives the box a drive called data.
func (b *box) withDrive(t *testing.T) (c *client, to place) {
	t.Helper()
	c = b.client()
	must(t, c.do(t.Context(), http.MethodPost, "/v1/drives", map[string]any{"name": "data", "size_gb": 10}, nil))
	for {
		p, err := c.findVolume(t.Context(), "data")
		must(t, err)
		if p.drive.State == "available" {
			return c, p
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{4}).Read(b)
	return b
}

func newUploader(t *testing.T, c *client) uploader {
	return uploader{client: c, memory: &uploadMemory{filepath.Join(t.TempDir(), "uploads")}, meter: newMeter(io.Discard), tally: &tally{}}
}

func TestTransfersThatAreCutOffGoOnWhereTheyWere(t *testing.T) {
	b := newBox(t)
	c, to := b.withDrive(t)
	data := noise(3 << 20)
	local := filepath.Join(t.TempDir(), "large.bin")
	must(t, os.WriteFile(local, data, 0o644))
	way := &breaking{after: 1 << 20}
	c.base = way.via(t, b.url)
	way.left.Store(2)
	to.folder = true
	must(t, newUploader(t, c).put(t.Context(), local, to, false))
	raw, err := os.ReadFile(filepath.Join(b.machine.FilesOf("drive-1"), "large.bin"))
	if err != nil || !bytes.Equal(raw, data) {
		t.Errorf("%d bytes arrived, %v", len(raw), err)
	}
	if got := strings.Join(way.seen, ","); strings.Count(got, "POST") != 1 || strings.Count(got, "PATCH 0") != 1 || strings.Count(got, "PATCH") != 3 {
		t.Errorf("asked: %s", got)
	}

	way.seen = nil
	way.left.Store(2)
	back := filepath.Join(t.TempDir(), "back.bin")
	must(t, getter{client: c, meter: newMeter(io.Discard)}.file(t.Context(), to.in("large.bin"), back))
	if raw, err := os.ReadFile(back); err != nil || !bytes.Equal(raw, data) {
		t.Errorf("%d bytes came back, %v", len(raw), err)
	}
	if got := strings.Join(way.seen, ","); strings.Count(got, "GET") != 3 || strings.Count(got, "bytes=") != 2 {
		t.Errorf("asked: %s", got)
	}
}

func TestUploadOfACommandThatHasEndedIsGoneOnWithByTheNext(t *testing.T) {
	b := newBox(t)
	c, to := b.withDrive(t)
	data := noise(2 << 20)
	local := filepath.Join(t.TempDir(), "large.bin")
	must(t, os.WriteFile(local, data, 0o644))
	way := &breaking{after: 1 << 20}
	c.base = way.via(t, b.url)
	f, err := os.Open(local)
	must(t, err)
	defer f.Close()
	u := newUploader(t, c)
	way.left.Store(1)
	st, err := f.Stat()
	must(t, err)
	half := source{f, st.Size(), modTimeOf(st)}
	if err := u.attempt(t.Context(), half, to.in("large.bin"), u.key(to.in("large.bin"), half), &outage{}); err == nil {
		t.Fatal("the first command was not cut off")
	}
	way.seen = nil
	next := newUploader(t, c)
	next.memory = u.memory
	must(t, next.file(t.Context(), local, to.in("large.bin"), nil))
	if got := strings.Join(way.seen, ","); strings.Contains(got, "POST") || strings.Contains(got, "PATCH 0") {
		t.Errorf("asked: %s", got)
	}
	raw, err := os.ReadFile(filepath.Join(b.machine.FilesOf("drive-1"), "large.bin"))
	if err != nil || !bytes.Equal(raw, data) {
		t.Errorf("%d bytes arrived, %v", len(raw), err)
	}
	if left, _ := filepath.Glob(filepath.Join(u.memory.dir, "*")); len(left) != 0 {
		t.Errorf("still remembered: %v", left)
	}
}

func TestFoldersFromADriveNeverLeadOutOfTheLocalOne(t *testing.T) {
	b := newBox(t)
	c, from := b.withDrive(t)
	dir := b.machine.FilesOf("drive-1")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "fine"), []byte("x"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "bad\xff"), []byte("x"), 0o644))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	local := filepath.Join(t.TempDir(), "out")
	var said bytes.Buffer
	must(t, getter{client: c, meter: newMeter(&said)}.folder(t.Context(), from, local))
	entries, err := os.ReadDir(local)
	if err != nil || len(entries) != 1 || entries[0].Name() != "fine" {
		t.Errorf("%v, %v", entries, err)
	}
	if strings.Count(said.String(), "left out") != 2 {
		t.Errorf("said: %s", said.String())
	}
}
