package files

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ecolink/agent"
	"ecolink/agent/volume/files/filestest"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

const account identity.AccountID = 7

// world is a server over one mounted volume, number 5 of account 7.
type world struct {
	t       *testing.T
	at      string // the mount
	store   *store.Store
	volumes *oneVolume
	files   *Server
	http    *httptest.Server
}

// oneVolume opens the volume that the test has mounted.
type oneVolume struct {
	at   string
	mu   sync.Mutex
	open int
	gone bool
}

func (o *oneVolume) OpenVolume(_ context.Context, a identity.AccountID, id scheduler.DriveID) (*agent.OpenVolume, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a != account || id != 5 || o.gone {
		return nil, &scheduler.Problem{Kind: scheduler.NotFound, Message: "there is no such drive"}
	}
	root, err := os.OpenRoot(o.at)
	if err != nil {
		return nil, err
	}
	o.open++
	return &agent.OpenVolume{Root: root, Close: func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open--
		return root.Close()
	}}, nil
}

func newWorld(t *testing.T) *world { return newWorldOf(t, 64<<20) }

func newWorldOf(t *testing.T, bytes int64) *world {
	t.Helper()
	w := &world{t: t, at: filestest.Mount(t, bytes, 2048)}
	must(t, os.Remove(filepath.Join(w.at, "lost+found")))
	var err error
	w.store, err = store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	must(t, err)
	w.volumes = &oneVolume{at: w.at}
	t.Cleanup(func() {
		if w.http != nil {
			w.stop()
		}
		w.store.Close()
	})
	w.start()
	return w
}

// start is also what follows a restart of EcoLink: it remembers nothing.
func (w *world) start() {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	w.files, err = New(w.volumes, w.store, log)
	must(w.t, err)
	mux := http.NewServeMux()
	number := func(r *http.Request) scheduler.DriveID {
		n, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
		return scheduler.DriveID(n)
	}
	upload := func(rw http.ResponseWriter, r *http.Request) {
		w.files.ServeUploads(rw, r, number(r), r.PathValue("upload"), "/v1/drives/"+r.PathValue("id")+"/uploads")
	}
	mux.HandleFunc("/v1/drives/{id}/uploads", upload)
	mux.HandleFunc("/v1/drives/{id}/uploads/{upload}", upload)
	send := func(open func(ctx context.Context, id scheduler.DriveID, p string) (*Download, error)) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			d, err := open(r.Context(), number(r), r.URL.Query().Get("path"))
			if err != nil {
				web.WriteFailure(rw, web.Explain(r.Context(), log, err))
				return
			}
			d.Serve(rw, r)
		}
	}
	mux.Handle("GET /v1/drives/{id}/files/content", send(func(ctx context.Context, id scheduler.DriveID, p string) (*Download, error) {
		return w.files.Content(ctx, account, id, p)
	}))
	mux.Handle("GET /v1/drives/{id}/files/archive", send(func(ctx context.Context, id scheduler.DriveID, p string) (*Download, error) {
		return w.files.Archive(ctx, account, id, p, "dataset")
	}))
	known := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(rw, r.WithContext(web.WithCaller(r.Context(), web.Caller{Account: account, User: 1})))
	})
	w.http = httptest.NewServer(web.Identify(known, log, ""))
}

func (w *world) stop() {
	w.http.CloseClientConnections()
	w.http.Close()
	w.http = nil
	w.volumes.mu.Lock()
	defer w.volumes.mu.Unlock()
	if w.volumes.open != 0 {
		w.t.Errorf("%d volumes are still open", w.volumes.open)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) path(p string) string { return filepath.Join(w.at, p) }

// names lists what a user sees of the volume's root.
func (w *world) names() string {
	w.t.Helper()
	entries, err := os.ReadDir(w.at)
	must(w.t, err)
	var out []string
	for _, e := range entries {
		if e.Name() != ".ecolink-uploads" {
			out = append(out, e.Name())
		}
	}
	return strings.Join(out, " ")
}

func (w *world) wantFile(p string, data []byte) {
	w.t.Helper()
	raw, err := os.ReadFile(w.path(p))
	if err != nil || !bytes.Equal(raw, data) {
		w.t.Errorf("%s: %d bytes, %v, which are not the %d that were sent", p, len(raw), err, len(data))
	}
}

// reply is an answer, read to its end.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

func (w *world) do(method, path string, body io.Reader, header ...string) reply {
	w.t.Helper()
	req, err := http.NewRequest(method, w.http.URL+path, body)
	must(w.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return reply{w.t, resp.StatusCode, resp.Header, raw}
}

func (r reply) want(status int) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// refused checks an error in its one shape.
func (r reply) refused(status int, code string) reply {
	r.t.Helper()
	r.want(status)
	var said struct {
		Error struct{ Code, Message, Type string }
	}
	if err := json.Unmarshal(r.body, &said); err != nil || said.Error.Code != code || said.Error.Message == "" || said.Error.Type == "" {
		r.t.Fatalf("want code %s: %s (%v)", code, r.body, err)
	}
	return r
}

const uploads = "/v1/drives/5/uploads"

func metadata(path string, overwrite bool) string {
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("path %s,overwrite %s", enc([]byte(path)), enc(fmt.Append(nil, overwrite)))
}

// begin begins an upload and gives its address.
func (w *world) begin(path string, size int, overwrite bool) string {
	w.t.Helper()
	at := w.try(path, size, overwrite).want(201).header.Get("Location")
	if !strings.HasPrefix(at, uploads+"/") {
		w.t.Fatalf("its address is %q", at)
	}
	return at
}

func (w *world) try(path string, size int, overwrite bool) reply {
	w.t.Helper()
	return w.do("POST", uploads, nil, "Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(size), "Upload-Metadata", metadata(path, overwrite))
}

func (w *world) patch(at string, offset int, data []byte) reply {
	w.t.Helper()
	return w.do("PATCH", at, bytes.NewReader(data), "Tus-Resumable", "1.0.0", "Upload-Offset", fmt.Sprint(offset), "Content-Type", "application/offset+octet-stream")
}

func (w *world) offset(at string) int {
	w.t.Helper()
	n, err := strconv.Atoi(w.do("HEAD", at, nil, "Tus-Resumable", "1.0.0").want(200).header.Get("Upload-Offset"))
	must(w.t, err)
	return n
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}
