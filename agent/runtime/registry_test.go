package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"ecolink/agent/runtime/daemon"
	"ecolink/agent/runtime/registry"
	"ecolink/packaging/sample"
)

var background = context.Background()

// shared is the containerd of all tests of the package, each in its own namespace.
var shared struct {
	once   sync.Once
	daemon *daemon.Daemon
	cfg    daemon.Config
	err    error
	dir    string
	number atomic.Int32
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.daemon != nil {
		shared.daemon.Stop()
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, "left behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

// patientFor has all waits shortened.
func patientFor(cfg *Config) {
	cfg.RetryPause = 20 * time.Millisecond
	cfg.Registry = registry.Config{HeaderTimeout: 700 * time.Millisecond, StallTimeout: 700 * time.Millisecond}
}

// newRuntime connects to the shared containerd, with nothing in it yet.
func newRuntime(t testing.TB, edit ...func(*Config)) *Runtime {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "ecr"); shared.err != nil {
			return
		}
		shared.cfg = daemon.Config{Binary: "containerd", DataDir: filepath.Join(shared.dir, "d"), RunDir: filepath.Join(shared.dir, "r")}
		shared.daemon, shared.err = daemon.Start(background, shared.cfg, slog.New(slog.DiscardHandler))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	dir := t.TempDir()
	cfg := Config{
		Socket: shared.cfg.Socket(), Namespace: fmt.Sprintf("test%d-%d", os.Getpid(), shared.number.Add(1)),
		DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"),
	}
	patientFor(&cfg)
	for _, e := range edit {
		e(&cfg)
	}
	r, err := Connect(background, cfg, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left in containerd: %v", r.leftovers(t))
		}
		stored, err := r.Images(background, nil)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		clear(r.touched)
		r.mu.Unlock()
		for _, s := range stored {
			if err := r.forget(r.in(background), s); err != nil {
				t.Error(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// leftovers is all that is in the runtime's namespace of containerd.
func (r *Runtime) leftovers(t testing.TB) (out []string) {
	t.Helper()
	ctx := r.in(background)
	store := r.client.ContentStore()
	err := store.Walk(ctx, func(info content.Info) error {
		out = append(out, "blob "+info.Digest.String())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	statuses, err := store.ListStatuses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		out = append(out, fmt.Sprintf("ingest %s at %d", s.Ref, s.Offset))
	}
	leases, err := r.client.LeasesService().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		out = append(out, "lease "+l.ID)
	}
	err = r.client.SnapshotService(snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		out = append(out, "snapshot "+info.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// faulty is a real registry whose answers a test can spoil.
type faulty struct {
	*sample.Registry
	t testing.TB

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request, next http.Handler)
	log   []string
	sent  atomic.Int64 // bytes of layers
}

func newFaulty(t testing.TB) *faulty {
	t.Helper()
	f := &faulty{t: t}
	var err error
	f.Registry, err = sample.Serve(func(next http.Handler) http.Handler {
		next = f.counted(ranged(next))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			fault := f.fault
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				f.log = append(f.log, r.Method+" "+r.URL.Path)
			}
			f.mu.Unlock()
			if fault != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
				fault(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Registry.Close() })
	return f
}

// break has every request for manifests and blobs go through f from now on.
func (f *faulty) spoil(fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *faulty) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.log...)
}

// ranged serves blobs with ranges as real registries do; the one that we have
// knows them only with an end.
func ranged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		plain := r.Clone(r.Context())
		plain.Header.Del("Range")
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, plain)
		if rec.Code != http.StatusOK {
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes())
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(rec.Body.Bytes()))
	})
}

type counter struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

func (c counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (f *faulty) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isLayer(r) {
			w = counter{w, &f.sent}
		}
		next.ServeHTTP(w, r)
	})
}

func isLayer(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// layerBytes is the size of the one layer of the images here: it does not compress.
const layerBytes = 3 << 20

func noisy(t testing.TB, files ...sample.File) v1.Image {
	t.Helper()
	noise := make([]byte, layerBytes)
	rand.Read(noise)
	image, err := sample.Image(v1.Config{Cmd: []string{"/bin/x"}}, append(files, sample.File{Path: "noise", Mode: 0o644, Content: noise})...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func (f *faulty) push(short string) string {
	f.t.Helper()
	return f.pushed(short, noisy(f.t))
}

func (f *faulty) pushed(short string, image v1.Image) string {
	f.t.Helper()
	name, err := f.Push(short, image)
	if err != nil {
		f.t.Fatal(err)
	}
	return name
}

func nothing(Progress) {}

func wantRefusal(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil || !isPermanent(err) {
		t.Fatalf("got %v, want a refusal for good", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want something with %q", err, w)
		}
	}
}

func wantPassing(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil || isPermanent(err) {
		t.Fatalf("got %v, want an error that may pass", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want something with %q", err, w)
		}
	}
}

func (r *Runtime) wantNothingKept(t *testing.T) {
	t.Helper()
	if left := r.leftovers(t); len(left) > 0 {
		t.Errorf("kept:\n%s", strings.Join(left, "\n"))
	}
}

func status(code int, header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for n := 0; n+1 < len(header); n += 2 {
			w.Header().Set(header[n], header[n+1])
		}
		w.WriteHeader(code)
	}
}

func TestRegistryThatRefusesIsToldInPlainWordsAndForGood(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	for code, words := range map[int]string{401: "needs a log-in", 403: "needs a log-in", 404: "no such image"} {
		f.spoil(status(code))
		_, err := r.Resolve(background, Image{Name: image})
		wantRefusal(t, err, words)
		wantRefusal(t, r.Pull(background, Image{Name: image}, nothing), words)
	}
	f.spoil(status(401, "WWW-Authenticate", `Basic realm="x"`))
	_, err := r.Resolve(background, Image{Name: image, Login: &registry.Login{Username: "ana", Password: "hunter2"}})
	wantRefusal(t, err, "the account's log-in")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in %q", err)
	}
	r.wantNothingKept(t)
}

func TestRegistryThatIsBrokenIsAskedAgainAndThenToldInPlainWords(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	digest, err := r.Resolve(background, Image{Name: image})
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{500, 502, 503} {
		f.spoil(status(code))
		before := len(f.requests())
		wantPassing(t, r.Pull(background, Image{Name: image, Digest: digest}, nothing), "does not work at the moment", fmt.Sprint(code))
		if asked := len(f.requests()) - before; asked < 2 || asked > 50 {
			t.Errorf("%d: it was asked %d times", code, asked)
		}
	}
	f.spoil(nil)
	if err := r.Pull(background, Image{Name: image, Digest: digest}, nothing); err != nil {
		t.Fatal(err)
	}
}

func TestRegistryThatWantsPatienceGetsItWithinLimits(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	var asked atomic.Int32
	var early atomic.Bool
	var since time.Time
	f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if asked.Add(1) == 1 {
			since = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		if time.Since(since) < 900*time.Millisecond {
			early.Store(true)
		}
		next.ServeHTTP(w, req)
	})
	if err := r.Pull(background, Image{Name: image}, nothing); err != nil {
		t.Fatal(err)
	}
	if early.Load() {
		t.Error("it was asked again before its time")
	}
	f.spoil(nil)
	other := f.push("demo/other:1")
	f.spoil(status(429, "Retry-After", "3600"))
	began := time.Now()
	_, err := r.Resolve(background, Image{Name: other})
	wantPassing(t, err, "no more requests")
	if took := time.Since(began); took > checkTimeout {
		t.Errorf("it took %s", took)
	}
}

func TestRegistryThatStallsInTheMiddleIsLeftAndThePullGoesOnWhereItWas(t *testing.T) {
	for name, breakOff := range map[string]func(w http.ResponseWriter, r *http.Request){
		"stalls": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"resets": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, f := newRuntime(t), newFaulty(t)
			image := f.push("demo/box:1")
			var layers atomic.Int32
			f.spoil(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				if isLayer(req) && layers.Add(1) == 2 { // the first is the configuration
					w = &cut{ResponseWriter: w, left: layerBytes / 2, then: func() { breakOff(w, req) }}
				}
				next.ServeHTTP(w, req)
			})
			if err := r.Pull(background, Image{Name: image}, nothing); err != nil {
				t.Fatal(err)
			}
			if sent := f.sent.Load(); sent > layerBytes+layerBytes/4 {
				t.Errorf("%d bytes were sent for %d", sent, layerBytes)
			}
			if layers.Load() < 3 {
				t.Error("nothing broke off")
			}
		})
	}
}

// cut passes so many bytes and then does something else.
type cut struct {
	http.ResponseWriter
	left int
	then func()
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	c.ResponseWriter.Write(p[:c.left])
	c.left = 0
	http.NewResponseController(c.ResponseWriter).Flush()
	c.then()
	return 0, errors.New("cut")
}

func TestRegistryThatNeverAnswersIsGivenUp(t *testing.T) {
	r, f := newRuntime(t), newFaulty(t)
	image := f.push("demo/box:1")
	f.spoil(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) { <-req.Context().Done() })
	began := time.Now()
	_, err := r.Resolve(background, Image{Name: image})
	wantPassing(t, err, "does not answer")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
