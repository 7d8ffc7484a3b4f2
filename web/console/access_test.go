package console

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web/socket"
)

// access is the statuses that a route about something of Acme's gives to callers:
// one without a session, another account's owner, a member of Acme, and its owner.
type access struct {
	query, form                     string
	nobody, stranger, member, owner int
}

// accesses has a row for each route. {id} is a running instance of Acme's, or
// under /keys a key, and under /storage a drive with the snapshot first.
var accesses = map[string]access{
	"GET /setup":                                      {"", "", 401, 401, 401, 401}, // the box is set up
	"POST /setup":                                     {"", "token=x", 401, 401, 401, 401},
	"GET /login":                                      {"", "", 200, 303, 303, 303},
	"POST /login":                                     {"", "email=ana@example.org&password=wrong", 401, 401, 401, 401},
	"POST /logout":                                    {"", "", 401, 303, 303, 303},
	"POST /logout-everywhere":                         {"", "", 401, 303, 303, 303},
	"POST /account":                                   {"", "account=1", 401, 404, 303, 303},
	"GET /instances":                                  {"", "", 303, 200, 200, 200},
	"GET /instances/events":                           {"", "", 303, 200, 200, 200},
	"GET /instances/new":                              {"", "", 303, 200, 200, 200},
	"POST /instances/new":                             {"", launchForm, 401, 402, 303, 303}, // a stranger has no money
	"GET /instances/quote":                            {launchForm, "", 303, 200, 200, 200},
	"GET /instances/{id}":                             {"", "", 303, 404, 200, 200},
	"GET /instances/{id}/events":                      {"", "", 303, 404, 200, 200},
	"GET /instances/{id}/logs":                        {"", "", 303, 404, 200, 200},
	"GET /instances/{id}/service":                     {"", "", 303, 404, 200, 200},
	"POST /instances/{id}/service":                    {"", "service_port=8000", 401, 404, 303, 303},
	"GET /instances/{id}/extend":                      {"", "", 303, 404, 200, 200},
	"POST /instances/{id}/extend":                     {"", "hours=1&nonce=n", 401, 404, 303, 303},
	"GET /instances/{id}/extend/quote":                {"hours=1", "", 303, 404, 200, 200},
	"GET /instances/{id}/terminate":                   {"", "", 303, 404, 200, 200},
	"POST /instances/{id}/terminate":                  {"", "", 401, 404, 303, 303},
	"GET /instances/{id}/terminal":                    {"", "", 303, 404, 200, 200},
	"GET /instances/{id}/terminal/status":             {"", "", 303, 404, 200, 200},
	"GET /instances/{id}/terminal/socket":             {"", "", 401, 404, 101, 101},
	"GET /storage":                                    {"", "", 303, 200, 200, 200},
	"GET /storage/events":                             {"", "", 303, 200, 200, 200},
	"GET /storage/new":                                {"", "", 303, 200, 200, 200},
	"POST /storage/new":                               {"", "kind=drive&name=more&size_gb=1", 401, 402, 303, 303}, // the same form sent again
	"GET /storage/quote":                              {"kind=drive&size_gb=1", "", 303, 200, 200, 200},
	"GET /storage/{id}":                               {"", "", 303, 404, 200, 200},
	"GET /storage/{id}/events":                        {"", "", 303, 404, 200, 200},
	"GET /storage/{id}/grow":                          {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/grow":                         {"", "size_gb=2", 401, 404, 303, 303},
	"GET /storage/{id}/snapshot":                      {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/snapshot":                     {"", "name=more", 401, 404, 303, 303},
	"GET /storage/{id}/clone":                         {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/clone":                        {"", "name=clone", 401, 404, 303, 409},
	"GET /storage/{id}/delete":                        {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/delete":                       {"", "name=wrong", 401, 404, 422, 422}, // not its name
	"GET /storage/{id}/snapshots/{snapshot}/restore":  {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/snapshots/{snapshot}/restore": {"", "", 401, 404, 303, 303},
	"GET /storage/{id}/snapshots/{snapshot}/clone":    {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/snapshots/{snapshot}/clone":   {"", "name=clone-too", 401, 404, 303, 409},
	"GET /storage/{id}/snapshots/{snapshot}/delete":   {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/snapshots/{snapshot}/delete":  {"", "", 401, 404, 303, 303},
	"GET /storage/{id}/files":                         {"", "", 303, 404, 200, 200},
	"GET /storage/{id}/files/content":                 {"path=none", "", 303, 404, 404, 404},
	"GET /storage/{id}/files/archive":                 {"", "", 303, 404, 200, 200},
	"POST /storage/{id}/uploads":                      {"", "", 401, 403, 403, 403}, // the token is a header
	"GET /gpus":                                       {"", "", 303, 200, 200, 200},
	"GET /billing":                                    {"", "", 303, 200, 200, 200},
	"GET /billing/statement":                          {"", "", 303, 200, 200, 200},
	"GET /ssh-keys":                                   {"", "", 303, 200, 200, 200},
	"POST /ssh-keys":                                  {"", "public_key=" + url.QueryEscape(somePublicKey), 401, 303, 303, 303}, // everybody's own
	"POST /ssh-keys/prove":                            {"", "public_key=" + url.QueryEscape(somePublicKey), 401, 200, 200, 200},
	"GET /ssh-keys/{id}/remove":                       {"", "", 303, 404, 404, 404},
	"POST /ssh-keys/{id}/remove":                      {"", "", 401, 404, 404, 404},
	"GET /keys":                                       {"", "", 303, 200, 200, 200},
	"POST /keys":                                      {"", "name=more", 401, 200, 403, 200},
	"GET /keys/registries":                            {"", "", 303, 200, 200, 200},
	"POST /keys/registries":                           {"", "host=ghcr.io&username=ana&password=x", 401, 303, 403, 303},
	"POST /keys/registries/{id}/remove":               {"", "", 401, 404, 403, 404}, // there is none of that number
	"GET /keys/{id}/cap":                              {"", "", 303, 404, 403, 200},
	"POST /keys/{id}/cap":                             {"", "monthly_cap=1", 401, 404, 403, 303},
	"GET /keys/{id}/revoke":                           {"", "", 303, 404, 403, 200},
	"POST /keys/{id}/revoke":                          {"", "", 401, 404, 403, 303},
	"/":                                               {"", "", 303, 404, 404, 404},
}

const launchForm = "name=more&gpu_type=h100&gpu_count=1&image=demo/box&estimated_duration_hours=1"

// routes reads the patterns, and how each is served, from the code that
// registers them.
func routes(t *testing.T) (kinds map[string]string) {
	t.Helper()
	source, err := os.ReadFile("console.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds = map[string]string{}
	for _, m := range regexp.MustCompile(`mux\.Handle\("([^"]+)", c\.(\w+)\(`).FindAllStringSubmatch(string(source), -1) {
		kinds[m[1]] = m[2]
	}
	for pattern, kind := range kinds {
		if strings.HasPrefix(pattern, "POST ") && kind == "page" {
			t.Errorf("%s changes something and is no form", pattern)
		}
		if _, ok := accesses[pattern]; !ok {
			t.Errorf("this test does not know %s", pattern)
		}
	}
	if len(kinds) != len(accesses) {
		t.Fatalf("there are %d routes, and here %d", len(kinds), len(accesses))
	}
	return kinds
}

// addMember puts somebody new into Acme.
func (w *world) addMember(email string) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.NewUser{Email: email}, time.Now())
		if err != nil {
			return err
		}
		return identity.AddMember(tx, w.acme.ID, u.ID, identity.RoleMember)
	})
}

// ask sends a request to a route, as a browser or a page's script would, and
// gives the status and what there is of the answer at once.
func (b *browser) ask(pattern string, id int64, csrf string, change func(*http.Request)) (status int, body string) {
	b.w.t.Helper()
	row := accesses[pattern]
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "GET", "/nowhere"
	}
	path = strings.NewReplacer("{id}", fmt.Sprint(id), "{snapshot}", "first").Replace(path) + "?" + row.query
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.w.srv.URL+path, strings.NewReader(row.form+"&csrf="+csrf))
	if err != nil {
		b.w.t.Fatal(err)
	}
	if method == "GET" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if strings.HasSuffix(path, "/socket?") {
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": socket.TerminalProtocol} {
			req.Header.Set(k, v)
		}
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
	if h := resp.Header; h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" ||
		!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'self';") || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		b.w.t.Errorf("%s has the header %v", pattern, h)
	}
	if resp.StatusCode >= 400 || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			b.w.t.Fatal(err)
		}
		body = string(raw)
	}
	return resp.StatusCode, body
}

func TestEveryRouteLetsInWhomItShould(t *testing.T) {
	w := newWorld(t, 2).people()
	w.storagePrices()
	w.addMember("mia@example.org")
	n := 0
	for pattern := range routes(t) {
		row := accesses[pattern]
		for _, c := range []struct {
			email string
			want  int
		}{{"", row.nobody}, {"eve@example.org", row.stranger}, {"mia@example.org", row.member}, {"ana@example.org", row.owner}} {
			n++
			secret := fmt.Sprintf("secret-%d", n)
			id := w.target(pattern, secret)
			b, csrf := w.browser(), ""
			if c.email != "" {
				b = w.as(c.email)
				csrf = b.csrf("/gpus")
			}
			status, body := b.ask(pattern, id, csrf, nil)
			if status != c.want {
				t.Errorf("%s: %q gets %d, want %d: %s", pattern, c.email, status, c.want, body)
			}
			if c.want == 404 && strings.Contains(body, secret) {
				t.Errorf("%s tells %q of what is Acme's: %s", pattern, c.email, body)
			}
			w.endAll()
			w.releaseKey()
		}
	}
}

// target makes what a route is about.
func (w *world) target(pattern, name string) (id int64) {
	w.t.Helper()
	switch {
	case strings.Contains(pattern, "/instances/{id}"):
		return int64(w.launch(name, "demo/box", scheduler.Running).ID)
	case strings.Contains(pattern, "/storage/{id}"):
		return int64(w.driveWithSnapshot(name).ID)
	case strings.Contains(pattern, "/keys/{id}"):
		w.update(func(tx *store.Tx) error {
			k, _, err := identity.CreateKey(tx, w.acme.ID, w.ana.ID, name, "", time.Now())
			id = int64(k.ID)
			return err
		})
	}
	return id
}

// endAll ends Acme's instances, whose money comes back.
func (w *world) endAll() {
	w.t.Helper()
	all, err := w.sched.List(w.acme.ID, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range all {
		if !canEnd(i.State) {
			continue
		}
		if _, err := w.sched.Terminate(context.Background(), w.acme.ID, i.ID); err != nil {
			w.t.Fatal(err)
		}
		w.until(i.ID, scheduler.Terminated)
	}
}

func TestEveryFormIsSentByItsOwnSessionFromThisSite(t *testing.T) {
	w := newWorld(t, 1).people()
	w.storagePrices()
	instance := int64(w.launch("trainer", "demo/box", scheduler.Running).ID)
	drive := w.driveWithSnapshot("datasets")
	b := w.as("ana@example.org")
	csrf, foreign, other := b.csrf("/gpus"), w.as("eve@example.org").csrf("/gpus"), w.as("ana@example.org").csrf("/gpus")
	kinds := routes(t)
	for pattern, kind := range kinds {
		if !strings.HasPrefix(pattern, "POST ") {
			continue
		}
		id := instance
		if strings.Contains(pattern, "/keys") {
			id = 1
		}
		if strings.Contains(pattern, "/storage") {
			id = int64(drive.ID)
		}
		for name, change := range map[string]func(*http.Request){
			"another site":    func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
			"a sibling site":  func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
			"another origin":  func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
			"a sandbox":       func(r *http.Request) { r.Header.Set("Origin", "null") },
			"another port":    func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") },
			"a likeness":      func(r *http.Request) { r.Header.Set("Origin", w.srv.URL+".evil.example") },
			"a user of a URL": func(r *http.Request) { r.Header.Set("Origin", "http://"+r.Host+"@evil.example") },
		} {
			if status, _ := b.ask(pattern, id, csrf, change); status != 403 {
				t.Errorf("%s from %s: %d", pattern, name, status)
			}
		}
		if kind == "open" {
			continue
		}
		for name, token := range map[string]string{"none": "", "another user's": foreign, "another session's": other, "cut": csrf[1:]} {
			if status, _ := b.ask(pattern, id, token, nil); status != 403 {
				t.Errorf("%s with the token %s: %d", pattern, name, status)
			}
		}
		// A token in the address could come from a link.
		inQuery := func(r *http.Request) { r.URL.RawQuery = "csrf=" + url.QueryEscape(csrf) }
		if status, _ := b.ask(pattern, id, "", inQuery); status != 403 {
			t.Errorf("%s with the token in its address: %d", pattern, status)
		}
	}
	if i := w.until(scheduler.InstanceID(instance), scheduler.Running); i.Paid != 2*time.Hour {
		t.Errorf("it was extended to %s", i.Paid)
	}
	if d := w.untilDrive(drive.ID, available); d.GB != drive.GB || len(d.Snapshots) != 1 {
		t.Errorf("the drive was changed: %+v", d)
	}
	b.get("/keys").want(200).without(">more<")
}

// Whatever users, registries and containers write is text in every page, part
// and stream.
func TestWhatPeopleWriteIsTextEverywhere(t *testing.T) {
	const evil = `"><img src=x onerror=alert(1)>`
	w := newWorld(t, 2).people()
	b := w.as("ana@example.org")
	i, err := w.sched.Launch(context.Background(), scheduler.LaunchRequest{
		Account: w.acme.ID, User: w.ana.ID, Name: "plain", GPUType: "h100", GPUCount: 1, Image: evil, Hours: 1,
		Command: []string{evil}, Env: map[string]string{"A": evil},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.until(i.ID, scheduler.Running)
	w.machine.print("instance-1", "<b>", evil+"\r\n\nevent: content\ndata: <img>\n\x1b]0;<img>\x07")
	w.launch("gone", "no/longer:there", scheduler.Failed)
	for _, path := range []string{
		"/instances", "/instances/1", "/instances/1/terminate", "/instances/1/extend", "/instances/1/terminal?session=" + url.QueryEscape(evil),
		"/instances/1/extend/quote?hours=" + url.QueryEscape(evil), "/instances/1?note=" + url.QueryEscape(evil), "/instances/2",
		"/instances/quote?gpu_count=1&estimated_duration_hours=1&gpu_type=" + url.QueryEscape(evil), "/instances/" + url.PathEscape(evil),
		"/login?next=/" + url.QueryEscape(evil), "/billing?before=" + url.QueryEscape(evil), "/keys/" + url.PathEscape(evil) + "/revoke",
	} {
		b.get(path).without("<img", "<b>gone")
	}
	w.browser().get("/login?next=/" + url.QueryEscape(evil)).want(200).without("<img")
	typed := url.Values{"csrf": {b.csrf("/gpus")}, "nonce": {evil}, "hours": {evil}, "tag": {evil}, "email": {evil}, "next": {"/" + evil}}
	for _, f := range launchFields {
		typed.Set(f, evil)
	}
	for _, path := range []string{"/instances/new", "/instances/1/extend", "/keys", "/login"} {
		b.send("POST", path, typed, nil).without("<img")
	}
	w.endAll()
	if logs := b.get("/instances/1/logs").want(200).body; strings.Contains(logs, "\nevent: content") || strings.Contains(logs, "data: <img") {
		t.Errorf("a line of output is an event: %s", logs)
	}
	b.get("/instances/1/events").want(200).without("<img")
}
