package endtoend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"ecolink/packaging/userland"
)

// visitor is a person at a browser.
type visitor struct {
	t   testing.TB
	ctx context.Context
}

func newVisitor(t testing.TB) visitor { return visitor{t, browser(t)} }

func (v visitor) does(what string, actions ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	if err := chromedp.Do(v.ctx, actions...); err != nil {
		at, _ := chromedp.Run(v.ctx, chromedp.Location())
		text, _ := chromedp.Run(v.ctx, chromedp.Text(css("body")))
		v.t.Fatalf("%s: %v; %s says:\n%s", what, err, at, text)
	}
}

// finds evaluates an expression, a promise too, and gives its value.
func (v visitor) finds(expression string) string {
	v.t.Helper()
	value, err := chromedp.Run(v.ctx, chromedp.Evaluate[string]("Promise.resolve("+expression+").then(x => JSON.stringify(x))", chromedp.EvalAwaitPromise))
	if err != nil {
		v.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (v visitor) signsIn(b *box) {
	v.t.Helper()
	v.does("sign in",
		chromedp.Navigate(b.url+"/login"),
		chromedp.SendKeys(css("input[name=email]"), operator),
		chromedp.SendKeys(css("input[name=password]"), password),
		chromedp.Submit(css("input[name=password]")),
		chromedp.WaitVisible(css(`a[href="/instances/new"]`)),
	)
}

// shiftEnter runs a cell, as people do.
func shiftEnter() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
			event := input.DispatchKeyEventParams{Type: kind, Modifiers: 8, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13}
			if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, event); err != nil {
				return err
			}
		}
		return nil
	})
}

// own is the address of an instance's own host.
func (b *box) own(label string) string {
	_, port, err := net.SplitHostPort(strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		b.t.Fatal(err)
	}
	return "http://" + label + ".localhost:" + port
}

// fetch asks an instance's own host as a program does: *.localhost is this machine.
func (b *box) fetch(label, path string, headers ...string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if label != "" {
		req.Host = strings.TrimPrefix(b.own(label), "http://")
	}
	for n := 0; n < len(headers); n += 2 {
		req.Header.Set(headers[n], headers[n+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// awaitLarge waits for an instance whose image is a whole system: on a busy machine
// it takes more than a minute to unpack.
func (b *box) awaitLarge(id int64) {
	b.t.Helper()
	for end := time.Now().Add(5 * time.Minute); b.get(id).State != "running"; time.Sleep(100 * time.Millisecond) {
		if i := b.get(id); i.State == "failed" || time.Now().After(end) {
			b.t.Fatalf("instance %d is %s: %s", id, i.State, i.Problem)
		}
	}
}

func TestPersonOpensJupyterRunsACellAndGoesOnAfterARestart(t *testing.T) {
	b := newBox(t, 1)
	image, err := userland.Image(t.Context(), userland.Jupyter)
	if err != nil {
		t.Fatal(err)
	}
	name, err := b.registry.Push("demo/jupyter-notebook:1", image)
	if err != nil {
		t.Fatal(err)
	}
	request := b.request("notebook")
	request["image"] = name
	var made struct {
		instance
		JupyterURL string `json:"jupyter_url"`
	}
	if f := b.api(http.MethodPost, "/v1/gpu-instances", request, &made); f != nil {
		t.Fatalf("%+v", f)
	}
	prefix := fmt.Sprintf("/gpu-instances/%d/jupyter/", made.ID)
	if own := strings.Replace(b.url, "127.0.0.1", fmt.Sprintf("jupyter-%d.localhost", made.ID), 1); made.JupyterURL != own+prefix {
		t.Errorf("jupyter_url is %s", made.JupyterURL)
	}
	b.awaitLarge(made.ID)

	v := newVisitor(t)
	v.signsIn(b)
	v.does("follow the link on the instance's page",
		chromedp.Navigate(fmt.Sprintf("%s/instances/%d", b.url, made.ID)),
		chromedp.WaitVisible(css("#jupyter a")),
		chromedp.Evaluate[chromedp.Void](`document.querySelector('#jupyter a').removeAttribute('target')`),
		chromedp.Click(css("#jupyter a")),
		chromedp.WaitVisible(css("#notebook_list")),
	)
	jupyter := b.own(fmt.Sprintf("jupyter-%d", made.ID))
	if at := v.finds("location.origin"); at != `"`+jupyter+`"` {
		t.Errorf("the notebook is at %s, want %s", at, jupyter)
	}
	if cookies := v.finds("document.cookie"); strings.Contains(cookies, "ecolink") {
		t.Errorf("the notebook's scripts can read %s", cookies)
	}
	v.finds(`fetch('` + prefix + `api/contents', {method: 'POST', body: JSON.stringify({type: 'notebook'})}).then(r => r.status)`)
	connected := `!!(window.Jupyter?.notebook?.kernel?.is_connected())`
	v.does("run a cell",
		chromedp.Navigate(jupyter+prefix+"notebooks/Untitled.ipynb"),
		chromedp.WaitVisible(css(".CodeMirror")),
		chromedp.Poll[chromedp.Void](connected),
		chromedp.Click(css(".CodeMirror")),
		typeKeys("print(6*7)"),
		shiftEnter(),
		chromedp.Poll[chromedp.Void](`[...document.querySelectorAll('.output_text')].some(e => e.innerText.trim() === '42')`),
	)

	// EcoLink dies under the open notebook and comes back: the kernel goes on, and
	// what it knew is still there.
	v.does("remember something", typeKeys("x = 7"), shiftEnter(),
		chromedp.Poll[chromedp.Void](`!document.querySelector('.code_cell.running')`))
	v.finds(`(window.lost = 0, Jupyter.notebook.events.on('kernel_disconnected.Kernel', () => window.lost++), 0)`)
	// In the first second of a connection this client takes its end for the kernel's.
	v.does("work for a while", chromedp.Poll[chromedp.Void](`performance.now() > 5000`))
	b.kill()
	b.start()
	gaveUp := `!!document.querySelector('.modal-dialog')`
	v.does("notice, and connect again", chromedp.Poll[chromedp.Void](`window.lost > 0 && `+connected+` || `+gaveUp))
	if v.finds(gaveUp) == "true" {
		// It looks again a second later, and then takes the kernel for dead: on a busy
		// machine EcoLink needs longer. The page is opened again.
		t.Log("the notebook's page gave up before EcoLink was back")
		v.does("leave", chromedp.Evaluate[chromedp.Void](`window.onbeforeunload = null`))
		v.does("open the notebook again", chromedp.Navigate(jupyter+prefix+"notebooks/Untitled.ipynb"))
	}
	v.does("go on",
		chromedp.WaitVisible(css(".CodeMirror")),
		chromedp.Poll[chromedp.Void](connected),
		chromedp.Evaluate[chromedp.Void](`Jupyter.notebook.insert_cell_at_bottom(), Jupyter.notebook.select(Jupyter.notebook.ncells() - 1), Jupyter.notebook.edit_mode()`),
		typeKeys("print(x*x)"), shiftEnter(),
		chromedp.Poll[chromedp.Void](`[...document.querySelectorAll('.output_text')].some(e => e.innerText.trim() === '49')`),
	)

	// Strangers get nothing, and nobody the token.
	for _, path := range []string{prefix, prefix + "api/contents", "/"} {
		if status, body := b.fetch(fmt.Sprintf("jupyter-%d", made.ID), path); status != 401 {
			t.Errorf("a stranger gets %d at %s: %s", status, path, body)
		}
	}
	if status, body := b.fetch("", prefix+"api/status", "Authorization", "Bearer "+b.key); status != 200 || !strings.Contains(body, "kernels") {
		t.Errorf("with an API key: %d %s", status, body)
	}
	token := strings.TrimSpace(b.cli("instance", "exec", "notebook", "--", "printenv", "JUPYTER_TOKEN"))
	if len(token) < 20 {
		t.Fatalf("the token is %q", token)
	}
	_, list := b.fetch("", "/v1/gpu-instances", "Authorization", "Bearer "+b.key)
	for where, text := range map[string]string{
		"the API":       b.cli("instance", "show", "notebook", "-o", "json"),
		"a list":        list,
		"EcoLink's log": b.log(),
	} {
		if strings.Contains(text, token) {
			t.Errorf("%s tells the token", where)
		}
	}
}

// hostile is a page that tries what its visitor may and it may not. The console's
// address and a neighbour's are in its query.
const hostile = `<!doctype html><meta charset=utf-8><title>wait</title><script>
const q = new URLSearchParams(location.search), at = q.get('console'), other = q.get('other')
const tries = {
  readConsole: () => fetch(at + '/instances', {credentials: 'include'}).then(r => r.text()).then(t => t.length),
  readAPI: () => fetch(at + '/v1/gpu-instances', {credentials: 'include'}).then(r => r.text()),
  post: () => fetch(at + '/instances/1/terminate', {method: 'POST', credentials: 'include', mode: 'no-cors', body: new URLSearchParams({csrf: ''})}).then(() => { throw 'blind' }),
  terminal: () => new Promise((good, bad) => { const s = new WebSocket(at.replace('http', 'ws') + '/instances/1/terminal/socket', 'ecolink.terminal.v1'); s.onopen = () => good('open'); s.onerror = () => bad('refused') }),
  frame: () => new Promise((good, bad) => { const f = document.createElement('iframe'); f.src = at + '/instances'; f.onload = () => { try { good(f.contentWindow.document.body.innerText.length) } catch (e) { bad(e) } }; document.body.append(f) }),
  cookie: () => Promise[document.cookie.includes('ecolink') ? 'resolve' : 'reject'](document.cookie),
  toss: () => { document.cookie = 'ecolink_session=evil; path=/; domain=localhost'; document.cookie = 'ecolink_pass=evil; path=/; domain=localhost'; throw 'tossed' },
  readNeighbour: () => fetch(other + '/secret.html', {credentials: 'include'}).then(r => r.text()),
  blindNeighbour: () => fetch(other + '/secret.html', {credentials: 'include', mode: 'no-cors'}).then(() => { throw 'blind' }),
  frameNeighbour: () => new Promise((good, bad) => { const f = document.createElement('iframe'); f.src = other + '/secret.html'; f.onload = () => { try { good(f.contentWindow.document.body.innerText.length) } catch (e) { bad(e) } }; document.body.append(f) }),
}
addEventListener('load', async () => {
  const done = {origin: location.origin}
  for (const [name, attempt] of Object.entries(tries)) {
    try { done[name] = 'DONE ' + await attempt() } catch (e) { done[name] = 'failed: ' + e }
  }
  window.result = done
})
</script><body>`

func TestHostileServiceCanNotActInTheConsoleNorInANeighbour(t *testing.T) {
	b := newBox(t, 2)
	serve := func(name, file, content string, public bool) (i instance) {
		request := b.request(name)
		request["service_port"], request["service_public"] = 8000, public
		request["env"] = map[string]string{"PAGE": content}
		// On its own loopback: nothing but the proxy reaches it there.
		request["command"] = []string{"sh", "-c", `mkdir /www && cd /www && printf %s "$PAGE" > ` + file + ` && exec httpd -f -p 127.0.0.1:8000 -h /www`}
		if f := b.api(http.MethodPost, "/v1/gpu-instances", request, &i); f != nil {
			t.Fatalf("%+v", f)
		}
		return b.await(i.ID, "running")
	}
	evil, other := serve("evil", "index.html", hostile, true), serve("other", "secret.html", "the secret of other", false)
	evilPath, otherPath := fmt.Sprintf("/gpu-instances/%d/service/", evil.ID), fmt.Sprintf("/gpu-instances/%d/service/", other.ID)
	b.eventually("both answer", func() bool {
		one, _ := b.fetch("", evilPath)
		two, _ := b.fetch("", otherPath+"secret.html", "Authorization", "Bearer "+b.key)
		return one == 200 && two == 200
	})

	v := newVisitor(t)
	v.signsIn(b)
	v.does("open the neighbour, which members may", chromedp.Navigate(b.url+otherPath+"secret.html"))
	if text := v.finds("document.body.innerText"); !strings.Contains(text, "the secret of other") {
		t.Fatalf("a member sees %s", text)
	}
	query := url.Values{"console": {b.url}, "other": {b.own(fmt.Sprintf("instance-%d", other.ID))}}
	v.does("open the hostile page by its public address",
		chromedp.Navigate(b.url+evilPath+"?"+query.Encode()),
		chromedp.Poll[chromedp.Void]("window.result !== undefined"))
	var got map[string]string
	if err := json.Unmarshal([]byte(v.finds("window.result")), &got); err != nil {
		t.Fatal(err)
	}
	if want := b.own(fmt.Sprintf("instance-%d", evil.ID)); got["origin"] != want {
		t.Errorf("the page has the origin %s, want %s", got["origin"], want)
	}
	for name, outcome := range got {
		if name != "origin" && !strings.HasPrefix(outcome, "failed: ") {
			t.Errorf("%s: %s", name, outcome)
		}
	}
	if len(got) != 11 {
		t.Errorf("it tried %d things: %v", len(got)-1, got)
	}
	if i := b.get(1); i.State != "running" {
		t.Errorf("the page ended the instance: %s", i.State)
	}
	v.does("find oneself still signed in", chromedp.Navigate(b.url+"/instances"), chromedp.WaitVisible(css(`a[href="/instances/new"]`)))

	// Closed, it is closed to the next request; its own members still come in.
	off := map[string]any{"service_public": false}
	if f := b.api(http.MethodPatch, fmt.Sprintf("/v1/gpu-instances/%d", evil.ID), off, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	if status, _ := b.fetch("", evilPath); status != 401 {
		t.Errorf("closed, a stranger gets %d", status)
	}
	b.cli("instance", "service", "evil", "--port", "8001", "--public")
	if status, body := b.fetch("", evilPath); status != 502 || !strings.Contains(body, "nothing listens on port 8001") {
		t.Errorf("nothing listens: %d %s", status, body)
	}
	if out := b.cli("instance", "service", "evil", "--off"); !strings.Contains(out, "no service") {
		t.Errorf("off: %s", out)
	}
	// What is wrong is refused, field by field, and changes nothing.
	for _, c := range []struct {
		body  map[string]any
		field string
	}{
		{map[string]any{"service_port": 65536}, "service_port"},
		{map[string]any{"service_port": -1}, "service_port"},
		{map[string]any{"service_port": 0, "service_public": true}, "service_port"},
		{map[string]any{}, "service_port"},
	} {
		f := b.api(http.MethodPatch, fmt.Sprintf("/v1/gpu-instances/%d", evil.ID), c.body, nil)
		if f == nil || f.Status != 422 || f.Param != c.field {
			t.Errorf("%v: %+v", c.body, f)
		}
	}
}
