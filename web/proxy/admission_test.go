package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
)

const servicePath, jupyterPath = "/gpu-instances/3/service/", "/gpu-instances/3/jupyter/"

func TestStrangersLearnNothingOfAClosedService(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, echo)
	w.instances.listen(t, 3, 8888, echo)
	for _, path := range []string{"/gpu-instances/%s/service/x", "/gpu-instances/%s/jupyter/x"} {
		there, absent := strings.Replace(path, "%s", "3", 1), strings.Replace(path, "%s", "77", 1)
		for _, c := range []struct {
			name    string
			headers []string
			status  int
		}{
			{"nobody", nil, 401},
			{"nobody's browser", asPage(), 303},
			{"another account's key", []string{"Authorization", "Bearer " + w.bob.key}, 404},
			{"another account's member", asPage("Cookie", consoleCookie(w.bob)), 404},
			{"a key that is none", []string{"Authorization", "Bearer eco_" + strings.Repeat("x", 40)}, 401},
		} {
			a, b := w.ask("GET", "", there, nil, c.headers...), w.ask("GET", "", absent, nil, c.headers...)
			if a.StatusCode != c.status || b.StatusCode != c.status {
				t.Errorf("%s at %s: %s, and %s of an instance that is not there; want %d", c.name, path, a.Status, b.Status, c.status)
			}
			if l := a.Header.Get("Location"); c.status == 303 && !strings.HasPrefix(l, "/login?next=") {
				t.Errorf("%s is led to %s", c.name, l)
			}
		}
		// Nor on the instance's own host.
		for _, label := range []string{"instance-", "jupyter-"} {
			a, b := w.ask("GET", w.host(label+"3"), "/", nil), w.ask("GET", w.host(label+"77"), "/", nil)
			if a.StatusCode != 401 || b.StatusCode != 401 {
				t.Errorf("%s: %s and %s", label, a.Status, b.Status)
			}
		}
	}
	if w.instances.dials != 0 {
		t.Errorf("the instance was asked %d times", w.instances.dials)
	}
}

func TestMembersReachAClosedServiceByKeyAndByPass(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, echo)
	if res := w.ask("TRACE", "", servicePath, nil, "Authorization", "Bearer "+w.alice.key); res.StatusCode != 405 {
		t.Errorf("TRACE: %s", res.Status)
	}
	got := text(t, w.ask("GET", "", servicePath+"a%2Fb//c?x=1;y&z", nil, "Authorization", "Bearer "+w.alice.key))
	if !strings.HasPrefix(got, "GET /a%2Fb//c?x=1;y&z host=") || strings.Contains(got, "eco_") || strings.Contains(got, "Authorization") {
		t.Errorf("by key it got\n%s", got)
	}
	host, pass, next := w.enter(w.alice, servicePath+"deep/page?q=%20")
	if host != w.host("instance-3") || next != "/deep/page?q=%20" {
		t.Fatalf("handed over to %s %s", host, next)
	}
	got = text(t, w.ask("GET", host, next, nil, asPage("Cookie", "ecolink_pass=1.forged; theme=dark; "+pass+"; a=b")...))
	if !strings.HasPrefix(got, "GET /deep/page?q=%20 host="+host) || strings.Contains(got, "ecolink_") || !strings.Contains(got, "Cookie: theme=dark; a=b") {
		t.Errorf("by pass it got\n%s", got)
	}
}

func TestAServiceIsOpenedAndClosedWithEffectOnTheNextRequest(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, echo)
	open := func(v bool) { w.instances.change(3, func(i *scheduler.Instance) { i.ServiceOpen = v }) }
	for _, v := range []bool{true, false, true} {
		open(v)
		want := map[bool]int{true: 200, false: 401}[v]
		if res := w.ask("GET", "", servicePath, nil); res.StatusCode != want {
			t.Errorf("open %v: %s", v, res.Status)
		}
		if res := w.ask("GET", w.host("instance-3"), "/", nil); res.StatusCode != want {
			t.Errorf("open %v on its host: %s", v, res.Status)
		}
	}
	res := w.ask("GET", "", servicePath+"p?q=1", nil, asPage("Cookie", consoleCookie(w.alice))...)
	if to := res.Header.Get("Location"); res.StatusCode != 307 || to != "http://"+w.host("instance-3")+"/p?q=1" {
		t.Errorf("a browser is led %s to %s", res.Status, to)
	}
	if res := w.ask("GET", "", jupyterPath, nil); res.StatusCode != 401 {
		t.Errorf("an open service opens Jupyter: %s", res.Status)
	}
}

func TestATicketIsGoodOnceForOneHostAndAMinute(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, echo)
	ticket := func() *url.URL {
		to, err := w.ask("GET", "", servicePath, nil, asPage("Cookie", consoleCookie(w.alice))...).Location()
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	enters := func(host string, to *url.URL) bool {
		res := w.ask("GET", host, to.RequestURI(), nil, asPage()...)
		return len(res.Cookies()) > 0
	}
	one := ticket()
	if !enters(one.Host, one) || enters(one.Host, one) {
		t.Error("a ticket is not good exactly once")
	}
	if two := ticket(); enters(w.host("instance-4"), two) || enters(two.Host, two) {
		t.Error("a ticket is good for another host, or after that was tried")
	}
	now := time.Now()
	late := w.proxy.tickets.issue(1, target{Service, 3}, now)
	if _, ok := w.proxy.tickets.redeem(late, target{Service, 3}, now.Add(ticketTime)); ok {
		t.Error("a ticket is good after its time")
	}
	for range maxTickets + 10 {
		w.proxy.tickets.issue(1, target{Service, 3}, now)
	}
	if n := len(w.proxy.tickets.all); n > maxTickets {
		t.Errorf("%d tickets are kept", n)
	}
	for next, want := range map[string]string{"//evil.example/": "/", "https://evil.example/": "/", `/\evil.example`: "/", "/a?b": "/a?b", "": "/"} {
		if got := ownPath(next); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

func TestWhoSitsAtATerminalReadsThatAServiceIsPrivateAndHowToOpenIt(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, echo)
	for _, there := range []struct{ host, path string }{{"", servicePath}, {w.host("instance-3"), "/"}} {
		res := w.ask("GET", there.host, there.path, nil, "Accept", "*/*", "User-Agent", "curl/8.5.0")
		body := text(t, res)
		if res.StatusCode != 401 || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" || res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s, %q: %s", res.Status, res.Header, body)
		}
		for _, want := range []string{"This service is private", "sign in", "Authorization: Bearer", "--public"} {
			if !strings.Contains(body, want) {
				t.Errorf("%q is not in %q", want, body)
			}
		}
		res = w.ask("GET", there.host, there.path, nil, "Accept", "application/json")
		if body := text(t, res); res.StatusCode != 401 || !strings.HasPrefix(body, `{"error":`) {
			t.Errorf("a program gets %s: %s", res.Status, body)
		}
	}
}

func TestAPassOutlivesARestartAndEndsWithItsSession(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, echo)
	host, pass, _ := w.enter(w.alice, servicePath)
	status := func(host string) int {
		return w.ask("GET", host, "/", nil, asPage("Cookie", pass)...).StatusCode
	}
	w.start("", make([]byte, 32))
	if got := status(host); got != 200 {
		t.Errorf("after a restart: %d", got)
	}
	if got := status(w.host("jupyter-3")); got != 303 {
		t.Errorf("at the instance's other host: %d", got)
	}
	other := make([]byte, 32)
	other[0] = 1
	w.start("", other)
	if got := status(host); got != 303 {
		t.Errorf("signed with another key: %d", got)
	}
	w.start("", make([]byte, 32))
	w.update(func(tx *store.Tx) error { return identity.DeleteSession(tx, w.alice.session) })
	if got := status(host); got != 303 {
		t.Errorf("after signing out: %d", got)
	}
}

func TestAPassIsOfNoUseToAnotherHostsPages(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8888, echo)
	host, pass, next := w.enter(w.alice, jupyterPath)
	for _, c := range []struct {
		what    string
		method  string
		headers []string
		want    int
	}{
		{"its own page", "POST", []string{"Origin", "http://" + host, "Sec-Fetch-Site", "same-origin"}, 200},
		{"its own page's socket", "GET", []string{"Origin", "http://" + host, "Upgrade", "websocket"}, 200},
		{"a link from elsewhere", "GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"a sibling's fetch", "GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", "Origin", "http://" + w.host("instance-9")}, 403},
		{"a sibling's image", "GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403},
		{"a sibling's frame", "GET", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"a sibling's form", "POST", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", "http://" + w.host("instance-9")}, 403},
		{"a sibling's socket", "GET", []string{"Origin", "http://" + w.host("instance-9"), "Upgrade", "websocket"}, 403},
		{"a socket of nobody", "GET", []string{"Upgrade", "websocket"}, 403},
		{"an old browser's foreign form", "POST", []string{"Origin", "http://" + w.host("instance-9")}, 403},
		{"a sandboxed page", "POST", []string{"Origin", "null"}, 403},
		{"a form without an origin", "POST", nil, 403},
	} {
		if got := w.ask(c.method, host, next, nil, append(c.headers, "Cookie", pass)...).StatusCode; got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

func TestWhoIsNoMemberAnyMoreLosesOpenConnections(t *testing.T) {
	w := newWorld(t, "")
	begun := make(chan struct{})
	ended := make(chan struct{})
	w.instances.listen(t, 3, 8000, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.(http.Flusher).Flush()
		close(begun)
		<-r.Context().Done()
		close(ended)
	}))
	host, pass, _ := w.enter(w.alice, servicePath)
	go w.ask("GET", host, "/", nil, asPage("Cookie", pass)...)
	<-begun
	time.Sleep(4 * w.proxy.recheck)
	select {
	case <-ended:
		t.Fatal("it was cut off while all was well")
	default:
	}
	w.update(func(tx *store.Tx) error {
		if err := identity.AddMember(tx, w.alice.account, w.bob.user, identity.RoleOwner); err != nil {
			return err
		}
		return identity.RemoveMember(tx, w.alice.account, w.alice.user)
	})
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection goes on")
	}
}

func TestWithoutHostsOfTheirOwnBrowsersGetASandboxAndNoJupyter(t *testing.T) {
	w := newWorld(t, "none")
	w.instances.listen(t, 3, 8000, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Add("Set-Cookie", "ecolink_session=stolen; Path=/")
		rw.Header().Add("Set-Cookie", "own=1; Path=/")
		rw.Header().Set("Service-Worker-Allowed", "/")
		rw.Header().Set("Location", "/next?a=b")
		rw.WriteHeader(302)
	}))
	w.instances.change(3, func(i *scheduler.Instance) { i.ServiceOpen = true })
	res := w.ask("GET", "", servicePath, nil, asPage("Cookie", consoleCookie(w.alice))...)
	if csp := strings.Join(res.Header.Values("Content-Security-Policy"), "\n"); !strings.Contains(csp, "sandbox") || strings.Contains(csp, "allow-same-origin") {
		t.Errorf("Content-Security-Policy %q", csp)
	}
	for name, want := range map[string]string{"Set-Cookie": "", "Service-Worker-Allowed": "", "Location": servicePath + "next?a=b", "X-Content-Type-Options": "nosniff"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if res := w.ask("GET", "", servicePath, nil, "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"); res.StatusCode != 403 {
		t.Errorf("as a script of the console: %s", res.Status)
	}
	res = w.ask("GET", "", jupyterPath, nil, asPage("Cookie", consoleCookie(w.alice))...)
	if body := text(t, res); res.StatusCode != 501 || !strings.Contains(body, "--service-url") {
		t.Errorf("Jupyter: %s\n%s", res.Status, body)
	}
}
