package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// speak serves one WebSocket with a function.
func speak(t *testing.T, protocol string, f func(ctx context.Context, ws *websocket.Conn, r *http.Request)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		f(r.Context(), ws, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestDialSaysWhoAndWhatAndReadsFromTheStart(t *testing.T) {
	asked := make(chan *http.Request, 1)
	url := speak(t, TerminalProtocol, func(ctx context.Context, ws *websocket.Conn, r *http.Request) {
		asked <- r
		ws.Write(ctx, websocket.MessageText, []byte(`{"start":7}`))
		ws.Write(ctx, websocket.MessageBinary, []byte("hello "))
		ws.Write(ctx, websocket.MessageText, []byte(`{"later":"versions say more"}`))
		ws.Write(ctx, websocket.MessageBinary, []byte("world"))
		ws.Write(ctx, websocket.MessageText, []byte(`{"ended":true}`))
		ws.Close(websocket.StatusNormalClosure, "")
	})
	c, err := Dial(t.Context(), url+"/x", "eco_k", WithSession("other"), From(5), WithWindow(100, 30), WithHTTPClient(&http.Client{}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := <-asked
	if r.Header.Get("Authorization") != "Bearer eco_k" || r.URL.Path != "/x" || r.URL.RawQuery != "cols=100&flow=1&from=5&rows=30&session=other" {
		t.Errorf("asked for %s with %v", r.URL, r.Header)
	}
	if c.Start() != 7 {
		t.Errorf("start %d", c.Start())
	}
	var got bytes.Buffer
	if _, err := io.Copy(&got, c); !errors.Is(err, agent.ErrTerminalEnded) || got.String() != "hello world" {
		t.Errorf("got %q, %v", got.String(), err)
	}
}

func TestInputAndResizeArriveInPieces(t *testing.T) {
	type said struct {
		kind websocket.MessageType
		text string
	}
	heard := make(chan said, 8)
	url := speak(t, TerminalProtocol, func(ctx context.Context, ws *websocket.Conn, _ *http.Request) {
		ws.Write(ctx, websocket.MessageText, []byte(`{"start":0}`))
		ws.SetReadLimit(maxMessageBytes)
		for {
			kind, p, err := ws.Read(ctx)
			if err != nil {
				close(heard)
				return
			}
			heard <- said{kind, string(p)}
		}
	})
	c, err := Dial(t.Context(), url, "k")
	if err != nil {
		t.Fatal(err)
	}
	paste := strings.Repeat("x", inputBytes+5)
	if n, err := c.Write([]byte(paste)); n != len(paste) || err != nil {
		t.Fatal(n, err)
	}
	if err := c.Resize(t.Context(), 80, 24); err != nil {
		t.Fatal(err)
	}
	for _, want := range []said{
		{websocket.MessageBinary, paste[:inputBytes]}, {websocket.MessageBinary, "xxxxx"},
		{websocket.MessageText, `{"resize":{"cols":80,"rows":24}}`},
	} {
		if got := <-heard; got != want {
			t.Errorf("heard %d bytes of kind %v, want %d of kind %v", len(got.text), got.kind, len(want.text), want.kind)
		}
	}
	began := time.Now()
	c.Close()
	c.Close()
	if _, more := <-heard; more || time.Since(began) > 3*time.Second {
		t.Errorf("after %s still connected", time.Since(began))
	}
}

func TestFallingBehindIsEOFAndNothingElseIs(t *testing.T) {
	for name, c := range map[string]struct {
		end func(*websocket.Conn)
		eof bool
	}{
		"fell behind": {func(ws *websocket.Conn) { ws.Close(StatusFellBehind, "fell behind") }, true},
		"going away":  {func(ws *websocket.Conn) { ws.Close(websocket.StatusGoingAway, "") }, false},
		"closed":      {func(ws *websocket.Conn) { ws.Close(websocket.StatusNormalClosure, "") }, false},
		"cut":         {func(ws *websocket.Conn) { ws.CloseNow() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			url := speak(t, TerminalProtocol, func(ctx context.Context, ws *websocket.Conn, _ *http.Request) {
				ws.Write(ctx, websocket.MessageText, []byte(`{"start":0}`))
				ws.Write(ctx, websocket.MessageBinary, []byte("some"))
				c.end(ws)
			})
			conn, err := Dial(t.Context(), url, "k")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var got []byte
			buf := make([]byte, 3)
			for err == nil {
				var n int
				n, err = conn.Read(buf)
				got = append(got, buf[:n]...)
			}
			if string(got) != "some" || errors.Is(err, io.EOF) != c.eof || errors.Is(err, agent.ErrTerminalEnded) {
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
}

func TestRefusalIsTheServersFailure(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   string
	}{
		{409, `{"error":{"code":"conflict","message":"instance 1 is pending","param":null,"request_id":"req_1"}}`, "instance 1 is pending"},
		{502, "<html>bad gateway</html>", "502 Bad Gateway"},
		{200, "fine", "200 OK"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		defer server.Close()
		_, err := Dial(t.Context(), server.URL, "k")
		var f *web.Failure
		if !errors.As(err, &f) || f.Status != c.status || !strings.Contains(f.Message, c.want) {
			t.Errorf("%d: got %v", c.status, err)
		}
	}
	var f *web.Failure
	if _, err := Dial(t.Context(), "http://127.0.0.1:1", "k"); err == nil || errors.As(err, &f) {
		t.Errorf("nobody there: got %v", err)
	}
}

func TestSilentServerIsNoticed(t *testing.T) {
	url := speak(t, TerminalProtocol, func(ctx context.Context, ws *websocket.Conn, _ *http.Request) {
		ws.Write(ctx, websocket.MessageText, []byte(`{"start":0}`))
		<-t.Context().Done() // reads nothing, so answers no ping
	})
	hurried := func(d *dialing) { d.pulse = pulse{every: 20 * time.Millisecond, within: 100 * time.Millisecond} }
	c, err := Dial(t.Context(), url, "k", hurried)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
	c.Close()
}

// execs runs a function as a command.
type execs func(ctx context.Context, argv []string, std agent.Stdio) (int, error)

func (e execs) Exec(ctx context.Context, _ identity.AccountID, _ scheduler.InstanceID, argv []string, std agent.Stdio) (int, error) {
	return e(ctx, argv, std)
}

// serveExec serves a command as the API does.
func serveExec(t *testing.T, e execs) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/{id}/exec", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Exec(e, slog.New(slog.DiscardHandler)).ServeHTTP(w, r.WithContext(web.WithCaller(r.Context(), web.Caller{Account: 1})))
	}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/1/exec"
}

func TestExecCarriesAllStreamsAndTheExitCode(t *testing.T) {
	url := serveExec(t, func(_ context.Context, argv []string, std agent.Stdio) (int, error) {
		io.WriteString(std.Stderr, strings.Join(argv, "|"))
		_, err := io.Copy(std.Stdout, std.Stdin)
		return 42, err
	})
	input := bytes.Repeat([]byte("0123456789\x00\xff"), 50_000)
	e, err := DialExec(t.Context(), url, "k", []string{"cat", "", "a b", "ü&="})
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code, err := e.Run(t.Context(), agent.Stdio{Stdin: bytes.NewReader(input), Stdout: &out, Stderr: &errs})
	if err != nil || code != 42 || !bytes.Equal(out.Bytes(), input) || errs.String() != "cat||a b|ü&=" {
		t.Errorf("code %d, %v; %d bytes of %d; stderr %q", code, err, out.Len(), len(input), errs.String())
	}
}

func TestExecWithoutInputAndWithAFailure(t *testing.T) {
	url := serveExec(t, func(_ context.Context, argv []string, std agent.Stdio) (int, error) {
		if rest, err := io.ReadAll(std.Stdin); err != nil || len(rest) > 0 {
			t.Errorf("stdin gave %q, %v", rest, err)
		}
		return 0, &scheduler.Problem{Kind: scheduler.Unprocessable, Field: "command", Message: "no such command"}
	})
	e, err := DialExec(t.Context(), url, "k", []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Run(t.Context(), agent.Stdio{})
	var f *web.Failure
	if !errors.As(err, &f) || f.Code != "unprocessable" || f.Message != "no such command" || *f.Param != "command" {
		t.Errorf("got %v", err)
	}
}

func TestExecEndsWithItsContextAndItsConnection(t *testing.T) {
	ended := make(chan struct{}, 2)
	url := serveExec(t, func(ctx context.Context, _ []string, std agent.Stdio) (int, error) {
		io.WriteString(std.Stdout, "x")
		<-ctx.Done()
		ended <- struct{}{}
		return 0, ctx.Err()
	})
	e, err := DialExec(t.Context(), url, "k", []string{"sleep"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := e.Run(ctx, agent.Stdio{Stdout: writerFunc(func([]byte) { cancel() })}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended

	gone := speak(t, ExecProtocol, func(ctx context.Context, ws *websocket.Conn, _ *http.Request) {
		ws.Write(ctx, websocket.MessageBinary, []byte("\x01half"))
	})
	if e, err = DialExec(t.Context(), gone, "k", []string{"sleep"}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code, err := e.Run(t.Context(), agent.Stdio{Stdout: &out}); err == nil || out.String() != "half" {
		t.Errorf("code %d, %v, %q", code, err, out.String())
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
