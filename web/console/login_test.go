package console

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/web"
	"ecolink/web/console/assets"
	"ecolink/web/throttle"
)

func (w *world) setPassword(email string) {
	w.t.Helper()
	hash, err := w.hasher.Hash(context.Background(), password)
	if err != nil {
		w.t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		u, err := identity.UserByEmail(tx, email)
		if err != nil {
			return err
		}
		return identity.SetPassword(tx, u.ID, hash)
	})
}

func TestLogInLeadsWhereOneWantedToGo(t *testing.T) {
	w := newWorld(t, 2).people()
	w.setPassword("ana@example.org")
	b := w.browser()
	b.get("/billing?before=7").wantRedirect("/login?next=%2Fbilling%3Fbefore%3D7")
	b.submit("/login?next=%2Fbilling%3Fbefore%3D7", "/login", url.Values{"email": {"Ana@Example.org"}, "password": {password}}).
		wantRedirect("/billing?before=7")
	c := b.set[0]
	if c.Name != sessionCookie || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Secure || c.MaxAge <= 0 {
		t.Errorf("the cookie is %s", c)
	}
	b.get("/instances").want(200, "ana@example.org", "$100.00")
	b.get("/login?next=//evil.example").wantRedirect("/instances")
}

func TestCookieIsSecureWhereHTTPSEndsBefore(t *testing.T) {
	w := newWorld(t, 1).people()
	w.setPassword("ana@example.org")
	w.console.SecureCookies = true
	b := w.browser()
	b.submit("/login", "/login", url.Values{"email": {"ana@example.org"}, "password": {password}}).wantRedirect("/instances")
	if !b.set[0].Secure || b.set[0].Name != "__Host-"+sessionCookie || b.set[0].Path != "/" || b.set[0].Domain != "" {
		t.Errorf("the cookie is %s", b.set[0])
	}
	b.get("/instances").want(200, "ana@example.org")
	// What another host of the domain can set is not looked at.
	planted := w.as("eve@example.org")
	planted.get("/instances").wantRedirect("/login?next=%2Finstances")
}

func TestWrongPasswordIsRefusedAndThrottled(t *testing.T) {
	w := newWorld(t, 1).people()
	w.setPassword("ana@example.org")
	b := w.browser()
	wrong := url.Values{"email": {"ana@example.org"}, "password": {"<script>wrong"}}
	b.submit("/login", "/login", wrong).want(401, "The e-mail or the password is wrong", `value="ana@example.org"`).without("<script>wrong")
	if len(b.set) != 0 {
		t.Error("a cookie was set")
	}
	for range maxFailures - 1 { // without the cost of hashing
		if _, ok := w.console.failed.Begin(time.Now(), attemptNames("ana@example.org", "127.0.0.1")...); !ok {
			t.Fatal("throttled too early")
		}
	}
	right := url.Values{"email": {"ANA@example.org "}, "password": {password}}
	a := b.submit("/login", "/login", right).want(429, "too many failed attempts: try again in")
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 || n > int(throttle.Window/time.Second) {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
}

func TestLongNamesAreCutShort(t *testing.T) {
	if len(attemptNames(strings.Repeat("x", 1<<20), "192.0.2.1")[1]) > 300 {
		t.Error("a name is as long as what was sent")
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	form := hidden(t, b.get("/keys").body, "/keys")
	form.Set("name", "stolen")
	for name, change := range map[string]func(*http.Request){
		"cross-site":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":      func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"foreign origin": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
	} {
		if a := b.send("POST", "/keys", form, change); a.status != 403 {
			t.Errorf("%s: %d", name, a.status)
		}
		if a := w.browser().send("POST", "/login", url.Values{"email": {"a@b.cd"}, "password": {"x"}}, change); a.status != 403 {
			t.Errorf("%s log-in: %d", name, a.status)
		}
	}
	form.Set("csrf", w.as("ana@example.org").csrf("/keys"))
	b.send("POST", "/keys", form, nil).want(403, "not from your present session")
	form.Del("csrf")
	b.send("POST", "/keys", form, nil).want(403)
	b.get("/keys").without("stolen")
}

func (b *browser) csrf(page string) string {
	b.w.t.Helper()
	return hidden(b.w.t, b.get(page).body, "/logout").Get("csrf")
}

func TestOversizedFormIsRefused(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.as("ana@example.org")
	b.send("POST", "/keys", url.Values{"csrf": {b.csrf("/keys")}, "name": {strings.Repeat("x", 2<<20)}}, nil).want(413, "larger than 1 MiB")
	// Who is not known yet has us keep less.
	for _, path := range []string{"/login", "/setup"} {
		w.browser().send("POST", path, url.Values{"email": {strings.Repeat("x", maxOpenBytes)}}, nil).want(413, "larger than 64 KiB")
	}
}

func TestSignOutEndsThisSessionOrAll(t *testing.T) {
	w := newWorld(t, 1).people()
	one, two := w.as("ana@example.org"), w.as("ana@example.org")
	kept := one.cookies[sessionCookie]
	one.submit("/instances", "/logout", nil).wantRedirect("/login")
	one.cookies[sessionCookie] = kept
	one.get("/keys").wantRedirect("/login?next=%2Fkeys")
	two.get("/keys").want(200)
	three := w.as("ana@example.org")
	three.submit("/instances", "/logout-everywhere", nil).wantRedirect("/login")
	two.get("/keys").wantRedirect("/login?next=%2Fkeys")
}

func TestScriptsOfTheSignedOutAreToldSo(t *testing.T) {
	w := newWorld(t, 1).people()
	b := w.browser()
	if a := b.part("/instances/quote").want(401); a.header.Get("HX-Refresh") != "true" {
		t.Error("the script is not told to reload")
	}
	b.send("GET", "/instances/events", nil, func(r *http.Request) { r.Header.Set("Accept", "text/event-stream") }).want(401, `"message":`)
	b.send("POST", "/keys", url.Values{"name": {"x"}}, nil).want(401, "Sign in")
}

func TestSetupLinkWorksOnce(t *testing.T) {
	w := newWorld(t, 1)
	var token string
	w.update(func(tx *store.Tx) (err error) { token, err = identity.CreateSetupToken(tx, time.Now()); return err })
	b := w.browser()
	b.get("/login").want(200, "not set up yet")
	b.get("/setup?token=wrong").want(401, "The set-up link was used, replaced or is too old")
	page := "/setup?token=" + token
	b.submit(page, "/setup", url.Values{"email": {"nonsense"}, "password": {password}, "name": {"Acme"}}).
		want(422, "is not an e-mail address", `aria-invalid="true"`, `value="nonsense"`)
	b.submit(page, "/setup", url.Values{"email": {"op@example.org"}, "password": {"short"}, "name": {"Acme"}}).
		want(422, "The password is too short", `value="op@example.org"`)
	b.submit(page, "/setup", url.Values{"email": {"op@example.org"}, "password": {password}, "name": {" "}}).
		want(422, "The name is empty")
	again := hidden(t, b.get(page).body, "/setup")
	b.submit(page, "/setup", url.Values{"email": {"op@example.org"}, "password": {password}, "name": {"Acme & Co"}}).
		want(200, "EcoLink is set up", `value="eco_`, "Acme &amp; Co")
	b.get("/instances").want(200, "op@example.org")
	again.Set("email", "second@example.org")
	again.Set("password", password)
	again.Set("name", "Second")
	w.browser().send("POST", "/setup", again, nil).want(401)
	w.browser().get(page).want(401)
	if err := w.store.View(func(tx *store.Tx) error {
		u, err := identity.UserByEmail(tx, "op@example.org")
		if err == nil && !u.Operator {
			t.Error("they are no operator")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestRedirectsStayOnThisBox(t *testing.T) {
	for _, bad := range []string{"", "keys", "//evil.example", "/\\evil.example", "https://evil.example/", "/\t/evil.example", "javascript:alert(1)"} {
		if got := localPath(bad); got != "/instances" {
			t.Errorf("%q leads to %q", bad, got)
		}
	}
	if got := localPath("/instances/7/terminal?session=work"); got != "/instances/7/terminal?session=work" {
		t.Errorf("a good path leads to %q", got)
	}
}

func TestAccountSwitcherIsCheckedOnEachRequest(t *testing.T) {
	w := newWorld(t, 1).people()
	w.addOwner("Robotics", "ana@example.org")
	b := w.as("ana@example.org")
	stale := hidden(t, b.get("/keys").body, "/keys")
	b.get("/instances").want(200, "Robotics", "$100.00")
	b.submit("/instances", "/account", url.Values{"account": {"3"}}).wantRedirect("/instances")
	b.get("/instances").want(200, "$0.00").without("$100.00")
	stale.Set("name", "in the wrong account")
	b.send("POST", "/keys", stale, nil).want(409, "You have switched to another account")
	b.submit("/instances", "/account", url.Values{"account": {"2"}}).want(404)
	b.cookies[accountCookie] = "2" // Eve's
	b.get("/instances").want(200, "$100.00")
	b.cookies[accountCookie] = "3"
	w.addOwner("Third", "eve@example.org")
	w.update(func(tx *store.Tx) error {
		eve, err := identity.UserByEmail(tx, "eve@example.org")
		if err != nil {
			return err
		}
		if err := identity.AddMember(tx, 3, eve.ID, identity.RoleOwner); err != nil {
			return err
		}
		return identity.RemoveMember(tx, 3, w.ana.ID)
	})
	b.get("/instances").want(200, "$100.00")
}

func TestPlainPagesSaySo(t *testing.T) {
	w := newWorld(t, 1).people()
	w.console.assets = assets.Set{}
	w.as("ana@example.org").get("/instances").want(200, "no styles and scripts").without("<script", "stylesheet")
	w.browser().get("/login").want(200, "no styles and scripts")
}

func TestWrongPasswordsOfOneShutOutNobodyElseBehindAProxy(t *testing.T) {
	w := newWorld(t, 1).people()
	w.setPassword("ana@example.org")
	front := httptest.NewServer(web.BehindProxy(w.srv.Config.Handler))
	t.Cleanup(front.Close)
	w.srv.URL = front.URL
	for n := range maxFailures { // without the cost of hashing
		w.console.failed.Begin(time.Now(), attemptNames(strconv.Itoa(n)+"@example.org", "192.0.2.1")...)
	}
	right := url.Values{"email": {"ana@example.org"}, "password": {password}}
	from := func(address string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Forwarded-For", address) }
	}
	w.browser().send("POST", "/login", right, from("192.0.2.1")).want(429)
	w.browser().send("POST", "/login", right, from("192.0.2.1, 192.0.2.2")).wantRedirect("/instances")
}
