package socket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

const patience = 10 * time.Second

// shell is a shell session in memory, as the machine keeps them: output with
// absolute offsets, several viewers.
type shell struct {
	mu      sync.Mutex
	changed *sync.Cond
	output  []byte
	typed   []byte
	ended   bool
	stuck   bool // does not read its input
	windows [][2]uint16
	views   []*view

	account identity.AccountID // asked for last
	session string
}

func newShell() *shell {
	s := &shell{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *shell) Terminal(_ context.Context, a identity.AccountID, id scheduler.InstanceID, session string, from int64, cols, rows uint16) (agent.Terminal, error) {
	if id != 7 {
		return nil, &scheduler.Problem{Kind: scheduler.NotFound, Message: "there is no such instance"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if from < 0 || from > int64(len(s.output)) {
		from = 0
	}
	s.account, s.session = a, session
	s.windows = append(s.windows, [2]uint16{cols, rows})
	v := &view{shell: s, start: from, at: from}
	s.views = append(s.views, v)
	return v, nil
}

func (s *shell) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.changed.Broadcast()
}

func (s *shell) print(text string) { s.set(func() { s.output = append(s.output, text...) }) }

// view is an agent.Terminal.
type view struct {
	shell         *shell
	start, at     int64
	closed, tired bool // tired: the machine hangs up on it
}

func (v *view) Start() int64 { return v.start }

func (v *view) Read(p []byte) (int, error) {
	s := v.shell
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case v.closed:
			return 0, errClosed
		case v.tired:
			return 0, io.EOF
		case v.at < int64(len(s.output)):
			n := copy(p, s.output[v.at:])
			v.at += int64(n)
			return n, nil
		case s.ended:
			return 0, errors.Join(errors.New("instance-7"), agent.ErrTerminalEnded)
		}
		s.changed.Wait()
	}
}

var errClosed = errors.New("closed")

func (v *view) Write(p []byte) (int, error) {
	s := v.shell
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.stuck && !v.closed {
		s.changed.Wait()
	}
	if v.closed {
		return 0, errClosed
	}
	s.typed = append(s.typed, p...)
	s.changed.Broadcast()
	return len(p), nil
}

func (v *view) Prologue() []byte                     { return nil }
func (v *view) Windows() <-chan agent.TerminalWindow { return nil }
func (v *view) Leave() error                         { return v.Close() }

func (v *view) Close() error {
	v.shell.set(func() { v.closed = true })
	return nil
}

func (v *view) Resize(_ context.Context, cols, rows uint16) error {
	v.shell.set(func() { v.shell.windows = append(v.shell.windows, [2]uint16{cols, rows}) })
	return nil
}

// until waits for a condition of the shell.
func (s *shell) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s.mu.Lock()
		good := ok()
		s.mu.Unlock()
		if good {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *shell) allClosed() bool {
	for _, v := range s.views {
		if !v.closed {
			return false
		}
	}
	return true
}

// serve mounts a handler as the API does, for account 3. The test fails when a
// handler or a goroutine of this package outlives it.
func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /i/{id}", func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(web.WithCaller(r.Context(), web.Caller{Account: 3, User: 1})))
	})
	base, stop := context.WithCancel(context.Background())
	srv := httptest.NewUnstartedServer(web.Identify(mux, slog.New(slog.DiscardHandler), ""))
	srv.Config.BaseContext = nil
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(base, cancel)()
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
	srv.Start()
	t.Cleanup(func() {
		stop()
		srv.Close()
		deadline := time.Now().Add(patience)
		for {
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(stacks, "socket.(*viewer)") && !strings.Contains(stacks, "socket.(*connection)") && !strings.Contains(stacks, "socket.(*execHandler)") {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("goroutines are left behind:\n%s", stacks)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	stops.Store(srv, stop)
	return srv
}

// stops has what makes a server go down, by server.
var stops sync.Map

func goDown(srv *httptest.Server) {
	stop, _ := stops.Load(srv)
	stop.(context.CancelFunc)()
}

func quick(h http.Handler, p pulse) http.Handler {
	switch h := h.(type) {
	case *terminalHandler:
		h.pulse = p
	case *execHandler:
		h.pulse = p
	}
	return h
}

func connect(t *testing.T, srv *httptest.Server, path, protocol string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, srv.URL+path, &websocket.DialOptions{Subprotocols: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 24)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func send(t *testing.T, c *websocket.Conn, kind websocket.MessageType, p string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Write(ctx, kind, []byte(p)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *websocket.Conn) (websocket.MessageType, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, p, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return kind, string(p)
}

// wantText receives a text message and compares it as JSON.
func wantText(t *testing.T, c *websocket.Conn, want string) {
	t.Helper()
	kind, got := receive(t, c)
	if kind != websocket.MessageText || got != want {
		t.Fatalf("got %v %q, want the text %s", kind, got, want)
	}
}

// wantBytes receives exactly these bytes of output, in however many messages.
func wantBytes(t *testing.T, c *websocket.Conn, want string) {
	t.Helper()
	var got strings.Builder
	for got.Len() < len(want) {
		kind, p := receive(t, c)
		if kind != websocket.MessageBinary {
			t.Fatalf("after %q came the text %q", got.String(), p)
		}
		got.WriteString(p)
	}
	if got.String() != want {
		t.Fatalf("got %q, want %q", got.String(), want)
	}
}

func wantClose(t *testing.T, c *websocket.Conn, want websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, p, err := c.Read(ctx)
	if err == nil {
		t.Fatalf("got %q, want the connection closed with %d", p, want)
	}
	if got := websocket.CloseStatus(err); got != want {
		t.Fatalf("closed with %d (%v), want %d", got, err, want)
	}
}

// refused makes a request that is not upgraded, and gives the failure.
func refused(t *testing.T, srv *httptest.Server, path string, change func(*http.Request)) (int, web.Failure) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": TerminalProtocol + ", " + ExecProtocol,
	} {
		req.Header.Set(k, v)
	}
	if change != nil {
		change(req)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ Error web.Failure }
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, body.Error
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return resp.StatusCode, body.Error
}
