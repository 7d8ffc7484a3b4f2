package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"ecolink/scheduler"
)

// openWorld has a public service.
func openWorld(t testing.TB, h http.HandlerFunc) *world {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8000, h)
	w.instances.change(3, func(i *scheduler.Instance) { i.ServiceOpen = true })
	return w
}

func TestTheContainerIsToldAnewWhoAsks(t *testing.T) {
	w := openWorld(t, echo)
	got := text(t, w.ask("GET", "", servicePath, nil,
		"X-Forwarded-For", "10.0.0.1", "X-Forwarded-Host", "evil.example", "X-Forwarded-Prefix", "/evil", "X-Forwarded-Proto", "https", "X-Forwarded-User", "root",
		"X_Forwarded_For", "10.0.0.1", "X_Real-IP", "10.0.0.1", "Forwarded", "for=10.0.0.1", "X-Real-Ip", "10.0.0.1", "X-Ecolink-Account", "1", "Proxy-Authorization", "Basic x", "Te", "gzip", "Connection", "X-Secret", "X-Secret", "1",
		"Cookie", "a=b", "Authorization", "Bearer service-own"))
	for _, want := range []string{
		"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Host: 127.0.0.1:" + w.port + "\r\n", "X-Forwarded-Proto: http\r\n",
		"X-Forwarded-Prefix: /gpu-instances/3/service\r\n", "Authorization: Bearer service-own\r\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, not := range []string{"10.0.0.1", "evil", "X-Forwarded-User", "X-Ecolink", "Proxy-Authorization", "X-Secret", "Cookie"} {
		if strings.Contains(got, not) {
			t.Errorf("%q is passed on in\n%s", not, got)
		}
	}
}

func TestJupyterGetsItsTokenAndItsWholePath(t *testing.T) {
	w := newWorld(t, "")
	w.instances.listen(t, 3, 8888, echo)
	got := text(t, w.ask("GET", "", jupyterPath+"api/status", nil, "Authorization", "Bearer "+w.alice.key))
	if !strings.HasPrefix(got, "GET "+jupyterPath+"api/status ") || !strings.Contains(got, "Authorization: token secret-of-3\r\n") {
		t.Errorf("it got\n%s", got)
	}
	host, pass, next := w.enter(w.alice, jupyterPath+"tree?x=1")
	if host != w.host("jupyter-3") || next != jupyterPath+"tree?x=1" {
		t.Errorf("handed over to %s%s", host, next)
	}
	res := w.ask("GET", host, "/", nil, asPage("Cookie", pass)...)
	if res.StatusCode != 303 || res.Header.Get("Location") != jupyterPath {
		t.Errorf("its host's root: %s to %s", res.Status, res.Header.Get("Location"))
	}
	res = w.ask("GET", host, next, nil, asPage("Cookie", pass)...)
	if !strings.Contains(res.Header.Get("Content-Security-Policy"), "frame-ancestors 'self'") {
		t.Error("another's page may put it into a frame")
	}
	w.instances.change(3, func(i *scheduler.Instance) { i.JupyterToken = "" })
	if res := w.ask("GET", "", jupyterPath, nil, "Authorization", "Bearer "+w.alice.key); res.StatusCode != 404 {
		t.Errorf("an instance without Jupyter: %s", res.Status)
	}
}

func TestCookiesOfAServiceStayOnItsHost(t *testing.T) {
	w := openWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		for _, c := range []string{"a=1; Domain=.localhost; Path=/", "ecolink_session=x", "__Host-ecolink_pass=x; Path=/; Secure", "ECOLINK_PASS=1", "=ecolink_pass=x", "b=2; HttpOnly"} {
			rw.Header().Add("Set-Cookie", c)
		}
		rw.Header().Set("Clear-Site-Data", `"*"`)
		rw.Header().Set("X-Ecolink-Request-Id", "forged")
	})
	res := w.ask("GET", w.host("instance-3"), "/", nil)
	if got := strings.Join(res.Header.Values("Set-Cookie"), " | "); got != "a=1; Path=/ | b=2; HttpOnly" {
		t.Errorf("cookies %q", got)
	}
	if res.Header.Get("Clear-Site-Data") != "" || len(res.Header.Values("X-Ecolink-Request-Id")) != 1 || res.Header.Get("X-Ecolink-Request-Id") == "forged" {
		t.Errorf("headers %v", res.Header)
	}
}

// A container's interim answers go past what corrects its headers.
func TestOnlyTheLastAnswerOfAServiceComesOut(t *testing.T) {
	w := openWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Set-Cookie", "ecolink_session=x")
		rw.Header().Set("Link", "</v1/instances>; rel=preload; as=fetch")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Del("Link")
		rw.WriteHeader(http.StatusTeapot)
	})
	interim := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { interim++; return nil }})
	r, err := http.NewRequestWithContext(ctx, "GET", w.server.URL+servicePath, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if interim != 0 || res.StatusCode != http.StatusTeapot || res.Header.Get("Set-Cookie") != "" || res.Header.Get("Link") != "" {
		t.Errorf("%d interim answers, then %s with %v", interim, res.Status, res.Header)
	}
	if res.Header.Get("X-Ecolink-Request-Id") == "" {
		t.Error("the container took headers of ours out of the answer")
	}
}

func TestHeadersWithoutAnEndAreNotKept(t *testing.T) {
	w := openWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		for n := range 64 {
			rw.Header().Set(fmt.Sprint("X-Large-", n), strings.Repeat("x", 16<<10))
		}
	})
	if res := w.ask("GET", "", servicePath, nil); res.StatusCode != http.StatusBadGateway {
		t.Errorf("1 MiB of headers: %s", res.Status)
	}
}

func TestEventsArriveWhenTheyAreSent(t *testing.T) {
	next := make(chan struct{})
	w := openWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			fmt.Fprintf(rw, "data: %d\n\n", n)
			rw.(http.Flusher).Flush()
			<-next
		}
	})
	res := w.ask("GET", "", servicePath, nil)
	lines := bufio.NewReader(res.Body)
	for n := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("event %d: %q, %v", n, line, err)
		}
		lines.ReadString('\n')
		next <- struct{}{}
	}
}

func TestBodiesStreamInBothDirections(t *testing.T) {
	const size = 64 << 20
	w := openWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		http.NewResponseController(rw).EnableFullDuplex()
		n, err := io.Copy(rw, r.Body)
		if n != size || err != nil {
			t.Errorf("the service got %d bytes, %v", n, err)
		}
	})
	pr, pw := io.Pipe()
	go func() {
		buf := make([]byte, 1<<20)
		for range size / len(buf) {
			if _, err := pw.Write(buf); err != nil {
				break
			}
		}
		pw.Close()
	}()
	res := w.ask("POST", "", servicePath, pr)
	n, err := io.Copy(io.Discard, res.Body)
	if n != size || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
}

// upgraded connects as a WebSocket client does, and speaks raw bytes from then on.
func (w *world) upgraded(host, path string, headers ...string) (net.Conn, *bufio.Reader, *http.Response) {
	w.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+w.port)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	for n := 0; n < len(headers); n += 2 {
		request += headers[n] + ": " + headers[n+1] + "\r\n"
	}
	io.WriteString(conn, request+"\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return conn, r, res
}

// shout upgrades, and repeats in capitals what it hears until it hears no more.
func shout(rw http.ResponseWriter, r *http.Request) {
	conn, buf, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	for {
		line, err := buf.ReadString('\n')
		if err != nil {
			return
		}
		io.WriteString(conn, strings.ToUpper(line))
	}
}

func TestWebSocketsPassAndOutliveTheRecheck(t *testing.T) {
	w := openWorld(t, shout)
	for _, at := range []struct{ host, path string }{{"127.0.0.1:" + w.port, servicePath}, {w.host("instance-3"), "/ws"}} {
		conn, r, res := w.upgraded(at.host, at.path)
		if res.StatusCode != 101 {
			t.Fatalf("%s: %s", at.host, res.Status)
		}
		for range 3 {
			io.WriteString(conn, "hello\n")
			if line, err := r.ReadString('\n'); err != nil || line != "HELLO\n" {
				t.Fatalf("%q, %v", line, err)
			}
			time.Sleep(2 * w.proxy.recheck)
		}
	}
	conn, r, _ := w.upgraded(w.host("instance-3"), "/ws")
	io.WriteString(conn, "x\n")
	r.ReadString('\n')
	w.instances.change(3, func(i *scheduler.Instance) { i.ServiceOpen = false })
	if _, err := r.ReadString('\n'); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a socket goes on after its service was closed: %v", err)
	}
}

func TestAClientThatLeavesIsNotAnsweredOn(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	w := openWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", w.server.URL+servicePath, nil)
	if err != nil {
		t.Fatal(err)
	}
	go http.DefaultTransport.RoundTrip(r)
	<-begun
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the service goes on working for nobody")
	}
}

func TestWhatDoesNotAnswerIsSaidClearly(t *testing.T) {
	w := newWorld(t, "")
	key := []string{"Authorization", "Bearer " + w.alice.key}
	res := w.ask("GET", "", servicePath, nil, key...)
	if body := text(t, res); res.StatusCode != 502 || !strings.Contains(body, `"code":"bad_gateway"`) || !strings.Contains(body, "nothing listens on port 8000") {
		t.Errorf("nothing listens: %s %s", res.Status, body)
	}
	host, pass, _ := w.enter(w.alice, jupyterPath)
	res = w.ask("GET", host, jupyterPath, nil, asPage("Cookie", pass)...)
	if body := text(t, res); res.StatusCode != 502 || !strings.HasPrefix(body, "<!doctype html>") || !strings.Contains(body, "jupyter lab") {
		t.Errorf("no Jupyter: %s %s", res.Status, body)
	}
	w.instances.listen(t, 3, 8000, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	res = w.ask("POST", "", servicePath, nil, key...)
	if body := text(t, res); res.StatusCode != 502 || !strings.Contains(body, "broke off") {
		t.Errorf("it hangs up: %s %s", res.Status, body)
	}
	w.instances.change(3, func(i *scheduler.Instance) { i.State = scheduler.Pulling })
	res = w.ask("GET", "", servicePath, nil, key...)
	if body := text(t, res); res.StatusCode != 409 || !strings.Contains(body, "is pulling") {
		t.Errorf("not running: %s %s", res.Status, body)
	}
	w.instances.change(3, func(i *scheduler.Instance) { i.ServicePort, i.State = 0, scheduler.Running })
	if res := w.ask("GET", "", servicePath, nil, key...); res.StatusCode != 404 {
		t.Errorf("no service: %s", res.Status)
	}
	if res := w.ask("GET", w.host("nonsense"), "/", nil); res.StatusCode != 404 {
		t.Errorf("a host of nobody: %s", res.Status)
	}
	if res := w.ask("GET", "", "/instances", nil); text(t, res) != "console /instances" {
		t.Error("the console is out of reach")
	}
}

func TestConnectionsToAContainerAreUsedAgain(t *testing.T) {
	w := openWorld(t, echo)
	for range 20 {
		text(t, w.ask("GET", "", servicePath, nil))
	}
	if w.instances.dials != 1 {
		t.Errorf("20 requests made %d connections", w.instances.dials)
	}
}
