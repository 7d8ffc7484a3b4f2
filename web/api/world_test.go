package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/registries"
	"ecolink/ledger/secrets"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/scheduler/placement"
	"ecolink/scheduler/schedulertest"
	"ecolink/web"
	"ecolink/web/files"
	"ecolink/web/proxy"
)

// machine stands in for the box: it behaves as the real one does towards the
// scheduler, in no time, and waits or breaks when told to.
type machine struct {
	*schedulertest.Workloads

	mu     sync.Mutex
	gate   chan struct{} // pulls wait until it is closed, when there is one
	lines  []agent.LogLine
	logErr error
	wanted []agent.Image      // what images were asked for
	more   chan agent.LogLine // what a followed log gets later
}

func (m *machine) ResolveImage(_ context.Context, i agent.Image) (string, error) {
	m.mu.Lock()
	m.wanted = append(m.wanted, i)
	m.mu.Unlock()
	if strings.Contains(i.Name, "unknown") {
		return "", schedulertest.Refusal("the registry has no such image")
	}
	return schedulertest.Digest(i.Name), nil
}

func (m *machine) PullImage(ctx context.Context, _ agent.Image, progress func(agent.PullProgress)) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	progress(agent.PullProgress{Layers: 2, LayersDone: 1, Bytes: 10, TotalBytes: 20})
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *machine) Terminal(context.Context, string, string, int64, uint16, uint16) (agent.Terminal, error) {
	return nil, schedulertest.Refusal("the image has no shell")
}

func (m *machine) Exec(context.Context, string, []string, agent.Stdio) (int, error) {
	return 0, schedulertest.Refusal("no such command")
}

func (m *machine) Logs(ctx context.Context, _ string, tail int, follow bool) iter.Seq2[agent.LogLine, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept, failure, more := m.lines, m.logErr, m.more
	if tail > 0 && tail < len(kept) {
		kept = kept[len(kept)-tail:]
	}
	return func(yield func(agent.LogLine, error) bool) {
		for _, l := range kept {
			if !yield(l, nil) {
				return
			}
		}
		if failure != nil {
			yield(agent.LogLine{}, failure)
			return
		}
		for follow {
			select {
			case l := <-more:
				if !yield(l, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (m *machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// party is an account with an owner and a key.
type party struct {
	account identity.AccountID
	user    identity.UserID
	key     identity.KeyID
	secret  string
}

// box is the API over a real store and a real scheduler.
type box struct {
	t          testing.TB
	store      *store.Store
	machine    *machine
	server     *httptest.Server
	log        *logBook
	logins     *registries.Book
	alice, bob party
}

// newBox makes a box with 2 H100s at $1.60. Alice has $100, Bob nothing.
func newBox(t testing.TB) *box {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, store: st, log: &logBook{}, machine: &machine{
		Workloads: schedulertest.New(), more: make(chan agent.LogLine),
	}}
	log := slog.New(slog.NewTextHandler(b.log, nil))
	b.alice, b.bob = b.join("alice"), b.join("bob")
	b.update(func(tx *store.Tx) error {
		if _, err := price.Set(tx, price.GPU("h100"), 1_600_000, time.Time{}, time.Now(), ""); err != nil {
			return err
		}
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: b.alice.account, Amount: 100 * ledger.Dollar, Description: "invoice 1"})
		return err
	})
	inv := nvml.Inventory{Simulated: true, SimulatedAs: "h100x2", DriverVersion: "550.54.15", CUDAVersion: "12.4"}
	var gpus []placement.GPU
	for n := range 2 {
		g := nvml.GPU{Index: n, UUID: fmt.Sprintf("GPU-%d", n), Name: "NVIDIA H100 80GB HBM3", Type: "h100", MemoryBytes: 80 << 30, NUMANode: -1, NVLinkPeers: []int{1 - n}, MIGCapable: true}
		inv.GPUs = append(inv.GPUs, g)
		gpus = append(gpus, placement.GPU{UUID: g.UUID, Index: n, Type: g.Type})
	}
	keys, err := secrets.Open(filepath.Join(t.TempDir(), "secrets.key"))
	if err != nil {
		t.Fatal(err)
	}
	b.logins = registries.New(keys)
	sched := scheduler.New(st, b.machine, gpus, log, scheduler.WithRegistries(b.logins))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sched.Run(ctx) }()
	socket := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "socket of %s for account %d", r.PathValue("id"), web.CallerOf(r.Context()).Account)
	})
	b.machine.KeepFiles(t.TempDir())
	volumes, err := files.New(sched, st, log)
	if err != nil {
		t.Fatal(err)
	}
	origins, err := proxy.ParseOrigins("http://127.0.0.1:7070", "")
	if err != nil {
		t.Fatal(err)
	}
	h := New(Deps{
		Box:       "gpu.example.org",
		Addresses: origins,
		Files:     volumes, Store: st, Scheduler: sched, Keys: web.Keys{Store: st, Log: log}, Inventory: inv, Log: log, Version: "1.2.3",
		Terminal: socket, Exec: socket, Registries: b.logins,
	})
	b.server = httptest.NewServer(web.Identify(h, log, inv.SimulatedAs))
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := st.View(func(tx *store.Tx) error { _, err := ledger.Verify(tx); return err }); err != nil {
			t.Error(err)
		}
		st.Close()
	})
	return b
}

// logBook keeps what is logged, from many goroutines.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (b *box) join(name string) (p party) {
	b.t.Helper()
	b.update(func(tx *store.Tx) error {
		now := time.Now()
		a, err := identity.CreateAccount(tx, name, now)
		if err != nil {
			return err
		}
		u, err := identity.CreateUser(tx, identity.NewUser{Email: name + "@example.org"}, now)
		if err != nil {
			return err
		}
		if err := identity.AddMember(tx, a.ID, u.ID, identity.RoleOwner); err != nil {
			return err
		}
		k, secret, err := identity.CreateKey(tx, a.ID, u.ID, "first", "", now)
		p = party{account: a.ID, user: u.ID, key: k.ID, secret: secret}
		return err
	})
	return p
}

func (b *box) update(fn func(*store.Tx) error) {
	b.t.Helper()
	if err := b.store.Update(context.Background(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// reply is an answer with its JSON.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// call sends a request. body is a string, a reader, or anything to make JSON of.
func (b *box) call(p party, method, path string, body any, header ...string) reply {
	b.t.Helper()
	resp, err := http.DefaultClient.Do(b.request(context.Background(), p, method, path, body, header...))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	r := reply{t: b.t, status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && method != http.MethodHead {
		if err := json.Unmarshal(raw, &r.body); err != nil {
			b.t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
	return r
}

func (b *box) request(ctx context.Context, p party, method, path string, body any, header ...string) *http.Request {
	b.t.Helper()
	var r io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(body)
	case io.Reader:
		r = body
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.server.URL+path, r)
	if err != nil {
		b.t.Fatal(err)
	}
	if p.secret != "" {
		req.Header.Set("Authorization", "Bearer "+p.secret)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[http.CanonicalHeaderKey(header[i])] = []string{header[i+1]}
	}
	return req
}

// want checks the status.
func (r reply) want(status int) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.raw)
	}
	return r
}

// refused checks an error in all its parts.
func (r reply) refused(status int, code, param string) reply {
	r.t.Helper()
	r.want(status)
	e, _ := r.body["error"].(map[string]any)
	var got any = ""
	if e["param"] != nil {
		got = e["param"]
	}
	if e["code"] != code || got != param || e["message"] == "" || e["type"] == "" {
		r.t.Fatalf("want code %s, param %q: %s", code, param, r.raw)
	}
	if id := r.header.Get(web.RequestIDHeader); id == "" || e["request_id"] != id {
		r.t.Fatalf("the header has request id %q: %s", id, r.raw)
	}
	if r.header.Get("Content-Type") != "application/json" || len(r.body) != 1 || len(e) != 5 {
		r.t.Fatalf("not the one shape (%s): %s", r.header.Get("Content-Type"), r.raw)
	}
	return r
}

// at reads a value inside the JSON: "instance.id", "data.0.name".
func (r reply) at(path string) any {
	r.t.Helper()
	return within(r.t, r.body, path)
}

func within(t testing.TB, v any, path string) any {
	t.Helper()
	for step := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[step]
			if !ok {
				t.Fatalf("there is no %q of %q in %v", step, path, v)
			}
			v = next
		case []any:
			var n int
			if _, err := fmt.Sscan(step, &n); err != nil || n >= len(x) {
				t.Fatalf("there is no %q of %q in %v", step, path, v)
			}
			v = x[n]
		default:
			t.Fatalf("there is no %q of %q in %v", step, path, v)
		}
	}
	return v
}

// has checks several values, given as path, value, path, value.
func (r reply) has(pairs ...any) reply {
	r.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := r.at(pairs[i].(string)); fmt.Sprint(got) != fmt.Sprint(pairs[i+1]) {
			r.t.Errorf("%s is %v, want %v", pairs[i], got, pairs[i+1])
		}
	}
	return r
}

type object = map[string]any

func launchBody(name string, hours float64) object {
	return object{"name": name, "gpu_type": "h100", "image": "demo/box", "estimated_duration_hours": hours}
}

func (b *box) launch(p party, name string, hours float64) (path string) {
	b.t.Helper()
	r := b.call(p, "POST", "/v1/gpu-instances", launchBody(name, hours)).want(201)
	return fmt.Sprintf("/v1/gpu-instances/%v", r.at("id"))
}

// reach waits until an instance is in a state.
func (b *box) reach(p party, path, state string) {
	b.t.Helper()
	for _, data := range b.watch(p, path+"?watch=true") {
		if data["state"] == state {
			return
		}
	}
	b.t.Fatalf("%s never became %s", path, state)
}

// watch yields the events of a stream until the server or the test ends it.
func (b *box) watch(p party, path string) iter.Seq2[string, object] {
	b.t.Helper()
	return func(yield func(string, object) bool) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		resp, err := http.DefaultClient.Do(b.request(ctx, p, "GET", path, nil))
		if err != nil {
			b.t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" ||
			resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Accel-Buffering") != "no" {
			b.t.Fatalf("%s: %s %v", path, resp.Status, resp.Header)
		}
		name := ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if s, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = s
			}
			if s, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var data object
				if err := json.Unmarshal([]byte(s), &data); err != nil {
					b.t.Fatalf("%v in %s", err, s)
				}
				if !yield(name, data) {
					return
				}
			}
		}
		if ctx.Err() != nil {
			b.t.Fatalf("%s did not end", path)
		}
	}
}

func (b *box) wantBalance(p party, available, held string) {
	b.t.Helper()
	b.call(p, "GET", "/v1/billing/balance", nil).want(200).has("available", available, "held", held, "currency", "USD")
}
