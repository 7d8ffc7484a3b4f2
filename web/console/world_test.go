package console

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/price"
	"ecolink/ledger/registries"
	"ecolink/ledger/secrets"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/scheduler/placement"
	"ecolink/web"
	"ecolink/web/console/assets"
	"ecolink/web/files"
	"ecolink/web/proxy"
	"ecolink/web/socket"
)

const (
	patience = 15 * time.Second
	password = "correct horse battery"
)

// world is the console over a real store and a running scheduler, with Ana, who
// owns Acme and $100, and Eve, who owns Empty and nothing.
type world struct {
	t       *testing.T
	store   *store.Store
	sched   *scheduler.Scheduler
	machine *machine
	console *console
	srv     *httptest.Server
	hasher  *identity.Hasher
	acme    identity.Account
	ana     identity.User
}

// newWorld makes a world of n simulated H100s.
func newWorld(t *testing.T, n int) *world {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "ecolink.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st, machine: newMachine(), hasher: identity.NewHasher(2)}
	inv := nvml.Inventory{Simulated: true, SimulatedAs: fmt.Sprintf("h100x%d", n), DriverVersion: "550.54.15", CUDAVersion: "12.4"}
	var gpus []placement.GPU
	for i := range n {
		g := nvml.GPU{Index: i, UUID: fmt.Sprintf("GPU-%d", i), Name: "NVIDIA H100 80GB HBM3", Type: "h100", MemoryBytes: 80 << 30}
		inv.GPUs = append(inv.GPUs, g)
		gpus = append(gpus, placement.GPU{UUID: g.UUID, Index: i, Type: g.Type})
	}
	if n == 0 {
		inv = nvml.Inventory{Note: "no NVIDIA driver was found: install one, or start with --gpus simulated:h100x8"}
	}
	log := slog.New(slog.DiscardHandler)
	w.sched = scheduler.New(st, w.machine, gpus, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.sched.Run(ctx) }()
	w.machine.KeepFiles(t.TempDir())
	volumes, err := files.New(w.sched, st, log)
	if err != nil {
		t.Fatal(err)
	}
	set, err := assets.Embedded()
	if err != nil {
		t.Logf("these pages are plain: %v", err)
	}
	keys, err := secrets.Open(filepath.Join(t.TempDir(), "secrets.key"))
	if err != nil {
		t.Fatal(err)
	}
	origins, err := proxy.ParseOrigins("http://127.0.0.1:7070", "")
	if err != nil {
		t.Fatal(err)
	}
	w.console = newConsole(Deps{
		Box:        "gpu.example.org",
		Addresses:  origins,
		Registries: registries.New(keys),
		Store:      st, Scheduler: w.sched, Hasher: w.hasher, Inventory: inv, Log: log, Terminal: socket.Terminal(w.sched, log), Files: volumes,
	}, set)
	w.console.recheck = 20 * time.Millisecond
	w.srv = httptest.NewServer(web.Identify(w.console.handler(), log, inv.SimulatedAs))
	t.Cleanup(func() {
		w.srv.CloseClientConnections()
		w.srv.Close()
		w.machine.set(func() { w.machine.hold = false })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		st.Close()
	})
	return w
}

func (w *world) update(fn func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// people makes Ana and Eve, and a price. Only tests that log in pay for a hash.
func (w *world) people() *world {
	w.update(func(tx *store.Tx) error {
		b, err := identity.Bootstrap(tx, identity.FirstOperator{
			AccountName: "Acme", KeyName: "set-up", User: identity.NewUser{Email: "ana@example.org"}}, time.Now())
		if err != nil {
			return err
		}
		w.acme, w.ana = b.Account, b.User
		if _, err := price.Set(tx, price.GPU("h100"), usd("1.60"), time.Time{}, time.Now(), ""); err != nil {
			return err
		}
		_, err = ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: b.Account.ID, Amount: usd("100"), Description: "invoice <1>"})
		return err
	})
	w.addOwner("Empty", "eve@example.org")
	return w
}

func (w *world) addOwner(account, email string) {
	w.update(func(tx *store.Tx) error {
		a, err := identity.CreateAccount(tx, account, time.Now())
		if err != nil {
			return err
		}
		u, err := identity.UserByEmail(tx, email)
		if err != nil {
			if u, err = identity.CreateUser(tx, identity.NewUser{Email: email}, time.Now()); err != nil {
				return err
			}
		}
		return identity.AddMember(tx, a.ID, u.ID, identity.RoleOwner)
	})
}

func usd(s string) ledger.MicroUSD {
	m, err := ledger.ParseUSD(s)
	if err != nil {
		panic(err)
	}
	return m
}

// browser keeps cookies and follows no redirects.
type browser struct {
	w       *world
	cookies map[string]string
	set     []*http.Cookie // by the last answer
}

func (w *world) browser() *browser { return &browser{w: w, cookies: map[string]string{}} }

// as gives the browser of somebody who is signed in.
func (w *world) as(email string) *browser {
	w.t.Helper()
	b := w.browser()
	w.update(func(tx *store.Tx) error {
		u, err := identity.UserByEmail(tx, email)
		if err != nil {
			return err
		}
		var token string
		_, token, err = identity.CreateSession(tx, u.ID, "test", time.Now())
		b.cookies[sessionCookie] = token
		return err
	})
	return b
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (b *browser) send(method, path string, form url.Values, change func(*http.Request)) answer {
	b.w.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(method, b.w.srv.URL+path, body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Origin", b.w.srv.URL)
	}
	for k, v := range b.cookies {
		req.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.set = resp.Cookies()
	for _, c := range b.set {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return answer{b.w.t, resp.StatusCode, resp.Header, string(raw)}
}

func (b *browser) get(path string) answer { b.w.t.Helper(); return b.send("GET", path, nil, nil) }

// part gets what a script asks for.
func (b *browser) part(path string) answer {
	b.w.t.Helper()
	return b.send("GET", path, nil, func(r *http.Request) { r.Header.Set("HX-Request", "true") })
}

// submit fills in the form of a page that posts to action, as a browser would,
// and sends it: its hidden fields come from the page.
func (b *browser) submit(page, action string, values url.Values) answer {
	b.w.t.Helper()
	form := hidden(b.w.t, b.get(page).body, action)
	for k, v := range values {
		form[k] = v
	}
	return b.send("POST", action, form, nil)
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)

func hidden(t *testing.T, page, action string) url.Values {
	t.Helper()
	_, form, ok := strings.Cut(page, `action="`+action+`"`)
	if !ok {
		t.Fatalf("the page has no form for %s:\n%s", action, page)
	}
	form, _, _ = strings.Cut(form, "</form>")
	out := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(form, -1) {
		out.Set(m[1], m[2])
	}
	return out
}

func (a answer) want(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			a.t.Fatalf("%q is missing in: %s", text, a.body)
		}
	}
	return a
}

func (a answer) without(texts ...string) answer {
	a.t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			a.t.Fatalf("%q is in: %s", text, a.body)
		}
	}
	return a
}

func (a answer) wantRedirect(to string) answer {
	a.t.Helper()
	a.want(http.StatusSeeOther)
	if got := a.header.Get("Location"); got != to {
		a.t.Fatalf("redirected to %q, want %q", got, to)
	}
	return a
}

// launch launches for Acme and waits until it is in the state.
func (w *world) launch(name, image string, state scheduler.State) scheduler.Instance {
	w.t.Helper()
	i, err := w.sched.Launch(context.Background(), scheduler.LaunchRequest{
		Account: w.acme.ID, User: w.ana.ID, Name: name, GPUType: "h100", GPUCount: 1, Image: image, Hours: 2,
		Env: map[string]string{"SECRET_TOKEN": "hunter2"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.until(i.ID, state)
}

func (w *world) until(id scheduler.InstanceID, state scheduler.State) scheduler.Instance {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		i, err := w.sched.Get(w.acme.ID, id)
		if err != nil {
			w.t.Fatal(err)
		}
		if i.State == state {
			return i
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("instance %d is %s, want %s", id, i.State, state)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (w *world) wallet() (out ledger.Wallet) {
	w.t.Helper()
	if err := w.store.View(func(tx *store.Tx) (err error) { out, err = ledger.WalletOf(tx, w.acme.ID); return err }); err != nil {
		w.t.Fatal(err)
	}
	return out
}
