package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

// instances are records in memory; their ports are this machine's own.
type instances struct {
	mu    sync.Mutex
	all   map[scheduler.InstanceID]scheduler.Instance
	ports map[scheduler.InstanceID]map[int]int // the container's port → ours
	dials int
}

func (s *instances) Published(id scheduler.InstanceID) (scheduler.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.all[id]
	if !ok {
		return i, &scheduler.Problem{Kind: scheduler.NotFound, Message: "no such instance"}
	}
	return i, nil
}

func (s *instances) DialPort(ctx context.Context, id scheduler.InstanceID, port int) (net.Conn, error) {
	s.mu.Lock()
	s.dials++
	ours, ok := s.ports[id][port]
	s.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(ours)))
}

func (s *instances) change(id scheduler.InstanceID, f func(*scheduler.Instance)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.all[id]
	f(&i)
	s.all[id] = i
}

// listen puts a service behind a port of the instance.
func (s *instances) listen(t testing.TB, id scheduler.InstanceID, port int, h http.Handler) {
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ports[id] == nil {
		s.ports[id] = map[int]int{}
	}
	s.ports[id][port] = ours
}

// person has an account, a session at the console and an API key.
type person struct {
	account identity.AccountID
	user    identity.UserID
	session string
	key     string
}

// world is a box with Alice's instance 3, whose service listens on port 8000 and
// whose Jupyter on 8888, and with Bob, who has nothing.
type world struct {
	t          testing.TB
	store      *store.Store
	instances  *instances
	proxy      *proxy
	server     *httptest.Server
	port       string
	alice, bob person
}

func newWorld(t testing.TB, pattern string) *world {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, instances: &instances{all: map[scheduler.InstanceID]scheduler.Instance{}, ports: map[scheduler.InstanceID]map[int]int{}}}
	w.alice, w.bob = w.join("alice"), w.join("bob")
	w.instances.all[3] = scheduler.Instance{
		ID: 3, Account: w.alice.account, Name: "trainer", State: scheduler.Running, ServicePort: 8000, JupyterToken: "secret-of-3",
	}
	w.server = httptest.NewUnstartedServer(nil)
	w.port = strconv.Itoa(w.server.Listener.Addr().(*net.TCPAddr).Port)
	w.start(pattern, make([]byte, 32))
	t.Cleanup(func() {
		w.server.CloseClientConnections()
		w.server.Close()
		st.Close()
	})
	return w
}

// start makes the proxy that the server runs, as a new process would.
func (w *world) start(pattern string, key []byte) {
	console := "http://127.0.0.1:" + w.port
	if pattern == "none" {
		console, pattern = "http://box.example.org:"+w.port, ""
	}
	origins, err := ParseOrigins(console, pattern)
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	w.proxy = newProxy(Deps{
		Store: w.store, Instances: w.instances, Keys: web.Keys{Store: w.store, Log: log}, Origins: origins, PassKey: key, Log: log,
	})
	w.proxy.recheck = 50 * time.Millisecond
	next := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprintf(rw, "console %s", r.URL.Path) })
	w.server.Config.Handler = web.Identify(w.proxy.handler(next), log, "")
	if w.server.URL == "" {
		w.server.Start()
	}
}

func (w *world) join(name string) (p person) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
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
		_, secret, err := identity.CreateKey(tx, a.ID, u.ID, "first", "", now)
		if err != nil {
			return err
		}
		_, token, err := identity.CreateSession(tx, u.ID, "192.0.2.1", now)
		p = person{a.ID, u.ID, token, secret}
		return err
	})
	return p
}

func (w *world) update(f func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(context.Background(), f); err != nil {
		w.t.Fatal(err)
	}
}

// host is the address of an instance's own host, as a browser has it.
func (w *world) host(label string) string { return label + ".localhost:" + w.port }

// ask sends one request to the server, whatever host it is for, and follows
// nothing.
func (w *world) ask(method, host, path string, body io.Reader, headers ...string) *http.Response {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	w.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, method, w.server.URL+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	for n := 0; n < len(headers); n += 2 {
		r.Header.Add(headers[n], headers[n+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { res.Body.Close() })
	return res
}

func text(t testing.TB, res *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// asPage are the headers of a browser that opens an address.
func asPage(more ...string) []string {
	return append([]string{"Accept", "text/html,*/*", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "none"}, more...)
}

func consoleCookie(p person) string { return web.SessionCookie + "=" + p.session }

// enter has a person go from the console to an instance's host, and gives the pass.
func (w *world) enter(p person, path string) (host, pass, next string) {
	w.t.Helper()
	res := w.ask("GET", "", path, nil, asPage("Cookie", consoleCookie(p))...)
	if res.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("%s: %s: %s", path, res.Status, text(w.t, res))
	}
	to, err := res.Location()
	if err != nil || to.Path != enterPath {
		w.t.Fatalf("%s leads to %v, %v", path, to, err)
	}
	res = w.ask("GET", to.Host, to.RequestURI(), nil, asPage()...)
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		w.t.Fatalf("the ticket: %s %v", res.Status, res.Cookies())
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Domain != "" {
		w.t.Errorf("the pass is %v", c)
	}
	return to.Host, c.Name + "=" + c.Value, res.Header.Get("Location")
}

// echo answers with what it got.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s host=%s body=%d\n", r.Method, r.RequestURI, r.Host, len(body))
	_ = r.Header.Write(&b)
	io.WriteString(w, b.String())
})
