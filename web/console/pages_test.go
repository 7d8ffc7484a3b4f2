package console

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"ecolink/ledger"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web"
)

var pages = []string{"/instances", "/instances/new", "/gpus", "/billing", "/keys", "/ssh-keys"}

// inline is what the policy forbids: scripts and styles within the page, handlers
// in attributes, and addresses that are scripts.
var inline = regexp.MustCompile(`(?i)<style|\sstyle=|<script(?:>|\s[^>]*>[^<])|\son[a-z]+=|javascript:|hx-on`)

func (a answer) wantSafe(path string) answer {
	a.t.Helper()
	h := a.header
	if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
		a.t.Errorf("%s: policy %q", path, csp)
	}
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" ||
		h.Get("Referrer-Policy") != "same-origin" || h.Get(web.RequestIDHeader) == "" {
		a.t.Errorf("%s: headers %v", path, h)
	}
	if found := inline.FindString(a.body); found != "" {
		a.t.Errorf("%s has %q inline", path, found)
	}
	if !strings.Contains(h.Get("Content-Type"), "charset=utf-8") {
		a.t.Errorf("%s is %s", path, h.Get("Content-Type"))
	}
	return a
}

func TestEveryPageRendersForAnEmptyAccount(t *testing.T) {
	w := newWorld(t, 2).people()
	b := w.as("eve@example.org")
	for path, text := range map[string]string{
		"/instances": "No instances yet", "/instances/new": "2 of 2 free", "/gpus": "GPU 1",
		"/billing": "No transactions yet", "/keys": "No keys yet",
	} {
		b.get(path).want(200, text, "Simulated GPUs (h100x2)", "eve@example.org").wantSafe(path)
	}
	b.get("/").wantRedirect("/instances")
	w.browser().get("/login").want(200, "Simulated GPUs (h100x2)").wantSafe("/login")
}

func TestEveryPageRendersForAFullAccount(t *testing.T) {
	w := newWorld(t, 3).people()
	w.launch("done", "demo/box", scheduler.Running)
	if _, err := w.sched.Terminate(t.Context(), w.acme.ID, 1); err != nil {
		t.Fatal(err)
	}
	w.until(1, scheduler.Terminated)
	w.launch("broken", "no/longer:there", scheduler.Failed)
	w.launch("busy", "demo/box", scheduler.Running)
	w.machine.set(func() { w.machine.hold = true; w.machine.pulling.TotalBytes, w.machine.pulling.Bytes = 200, 84 })
	w.launch("pulling", "demo/big", scheduler.Pulling)
	w.launch("pulling-too", "demo/big", scheduler.Pulling)
	w.launch("waiting", "demo/box", scheduler.Pending)
	b := w.as("ana@example.org")
	for _, path := range pages {
		b.get(path).want(200).wantSafe(path)
	}
	b.get("/instances").want(200, "waits for 1 × h100", `class="badge pulling"`, "/instances/3/terminate").without("/instances/1/terminate")
	b.get("/gpus").want(200, "instance 3", `class="badge yours"`)
	w.as("eve@example.org").get("/gpus").want(200, `class="badge used"`).without("instance 3")
	for id, texts := range map[int][]string{
		1: {"it was terminated by a user", "refunded"},
		2: {"its image could not be pulled", "&lt;b&gt;gone&lt;/b&gt;", "Launch another like it"},
		3: {"/instances/3/terminal", "Cost so far", "SECRET_TOKEN", "data-deadline"},
		4: {"<progress", "of 200 B"},
		6: {"first in the queue"},
	} {
		path := fmt.Sprintf("/instances/%d", id)
		b.get(path).want(200, texts...).without("hunter2", "<b>gone").wantSafe(path)
	}
	for _, path := range []string{"/instances/3/terminal", "/instances/3/terminate", "/instances/3/extend", "/keys/1/revoke", "/nowhere", "/instances/99"} {
		b.get(path).wantSafe(path)
	}
}

func TestWithoutGPUsThePagesSayWhy(t *testing.T) {
	w := newWorld(t, 0).people()
	b := w.as("ana@example.org")
	for _, path := range pages {
		b.get(path).want(200, "no NVIDIA driver was found").without("Simulated GPUs")
	}
}

func TestForeignInstancesDoNotExist(t *testing.T) {
	w := newWorld(t, 2).people()
	w.launch("secret-project", "demo/box", scheduler.Running)
	b := w.as("eve@example.org")
	for _, path := range []string{"/instances/1", "/instances/1/terminal", "/instances/1/terminate", "/instances/1/extend", "/instances/1/extend/quote?hours=1"} {
		b.get(path).want(404).without("secret-project")
	}
	stream := func(r *http.Request) { r.Header.Set("Accept", "text/event-stream") }
	for _, path := range []string{"/instances/1/events", "/instances/1/logs", "/instances/1/terminal/status"} {
		b.send("GET", path, nil, stream).want(404).without("secret-project")
	}
	csrf := b.csrf("/instances")
	b.send("POST", "/instances/1/terminate", url.Values{"csrf": {csrf}}, nil).want(404)
	b.send("POST", "/instances/1/extend", url.Values{"csrf": {csrf}, "hours": {"1"}}, nil).want(404)
	if i := w.until(1, scheduler.Running); i.Paid != 2*time.Hour {
		t.Errorf("it was extended to %s", i.Paid)
	}
	b.get("/instances/0").want(404)
	b.get("/instances/x").want(404)
}

func TestErrorsArePagesWithARequestID(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	a := b.get("/nowhere").want(404, "There is no page at this address", "Error 404")
	if id := a.header.Get(web.RequestIDHeader); id == "" || !strings.Contains(a.body, id) {
		t.Errorf("the request id %q is not on the page", id)
	}
	b.part("/instances/99/terminate").want(404, "data-cancel").without("<html")
}

func TestNamesAreEscapedEverywhere(t *testing.T) {
	const evil = `<img src=x onerror=alert(1)>`
	w := newWorld(t, 1).people()
	w.addOwner(evil, "ana@example.org")
	w.update(func(tx *store.Tx) error {
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: w.acme.ID, Amount: usd("1"), Description: evil})
		if err != nil {
			return err
		}
		_, _, err = identity.CreateKey(tx, w.acme.ID, w.ana.ID, evil, evil, time.Now())
		return err
	})
	w.launch("plain", evil+"/image", scheduler.Running)
	w.machine.print("instance-1", "stdout", evil)
	b := w.as("ana@example.org")
	for _, path := range append(pages, "/instances/1", "/keys/2/revoke", "/instances/new?image="+url.QueryEscape(`">`+evil)) {
		b.get(path).want(200).without("<img")
	}
	b.get("/instances/1").want(200, "&lt;img src=x")
}

func TestKeyIsShownOnceAndRevoked(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	made := b.submit("/keys", "/keys", url.Values{"name": {"ci"}, "tag": {"tests"}}).want(200, "Your new key: ci")
	secret := regexp.MustCompile(`value="(eco_[0-9A-Za-z]+)"`).FindStringSubmatch(made.body)
	if secret == nil {
		t.Fatalf("no secret in %s", made.body)
	}
	var key identity.Key
	if err := w.store.View(func(tx *store.Tx) (err error) { key, err = identity.FindKey(tx, secret[1]); return err }); err != nil {
		t.Fatal(err)
	}
	b.get("/keys").want(200, "ci", key.Prefix+"…", "tests").without(secret[1])
	b.submit("/keys", "/keys", url.Values{"name": {" "}, "tag": {"kept"}}).want(422, "The name is empty", `value="kept"`)
	path := fmt.Sprintf("/keys/%d/revoke", key.ID)
	b.get(path).want(200, "Revoke ci?")
	b.part(path).want(200, "Revoke ci?").without("<html")
	b.submit(path, path, nil).wantRedirect("/keys")
	b.get("/keys").want(200).without(">ci<")
	if err := w.store.View(func(tx *store.Tx) error { _, err := identity.FindKey(tx, secret[1]); return err }); err == nil {
		t.Error("the key still works")
	}
	w.as("eve@example.org").get("/keys/1/revoke").want(404)
	if err := w.store.View(func(tx *store.Tx) error {
		events, err := identity.ListAudit(tx, w.acme.ID, 10, 0)
		if err == nil && (len(events) != 2 || events[0].Action != "key.revoke" || events[1].Action != "key.create") {
			t.Errorf("the audit log has %+v", events)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestMembersMakeAndRevokeNoKeys(t *testing.T) {
	w := newWorld(t, 1).people()
	w.update(func(tx *store.Tx) error {
		u, err := identity.CreateUser(tx, identity.NewUser{Email: "max@example.org"}, time.Now())
		if err != nil {
			return err
		}
		return identity.AddMember(tx, w.acme.ID, u.ID, identity.RoleMember)
	})
	b := w.as("max@example.org")
	b.get("/keys").want(200, "ask one of them").without(`action="/keys"`, "/revoke")
	csrf := b.csrf("/keys")
	b.send("POST", "/keys", url.Values{"csrf": {csrf}, "name": {"x"}}, nil).want(403)
	b.send("POST", "/keys/1/revoke", url.Values{"csrf": {csrf}}, nil).want(403)
}

func TestStatementIsPaged(t *testing.T) {
	w := newWorld(t, 1).people()
	w.update(func(tx *store.Tx) error {
		for n := range transactionRows + 5 {
			if _, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: w.acme.ID, Amount: usd("1"), Description: fmt.Sprintf("number %d.", n)}); err != nil {
				return err
			}
		}
		return nil
	})
	b := w.as("ana@example.org")
	first := b.get("/billing").want(200, "number 24.", "+$1.00", "Older").without("number 4.", "Newest")
	older := regexp.MustCompile(`/billing\?before=\d+`).FindString(first.body)
	b.get(older).want(200, "number 4.", "invoice &lt;1&gt;", "Newest").without("number 5.", "Older")
}

func TestListOfInstancesIsPaged(t *testing.T) {
	w := newWorld(t, 1).people()
	w.machine.set(func() { w.machine.hold = true })
	w.update(func(tx *store.Tx) error {
		_, err := ledger.Credit(tx, ledger.Entry{At: time.Now(), Account: w.acme.ID, Amount: usd("1000")})
		return err
	})
	for n := range pageRows + 2 {
		if _, err := w.sched.Launch(t.Context(), scheduler.LaunchRequest{Account: w.acme.ID, User: w.ana.ID,
			Name: fmt.Sprintf("box-%d", n), GPUType: "h100", GPUCount: 1, Image: "demo/box", Hours: 1}); err != nil {
			t.Fatal(err)
		}
	}
	b := w.as("ana@example.org")
	b.get("/instances").want(200, "box-51<", "/instances?before=3").without("box-1<")
	b.get("/instances?before=3").want(200, "box-1<", "box-0<").without("box-2<", "Older")
}
