package console

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/ledger/store"
	"ecolink/scheduler"
	"ecolink/web/socket"
)

// dial opens the page's socket, with the browser's cookie.
func (b *browser) dial(ctx context.Context) (*socket.TerminalConn, error) {
	client := &http.Client{Transport: withCookie(b.cookies[sessionCookie])}
	return socket.Dial(ctx, b.w.srv.URL+"/instances/1/terminal/socket", "", socket.WithHTTPClient(client))
}

type withCookie string

func (c withCookie) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: string(c)})
	return http.DefaultTransport.RoundTrip(r)
}

func TestTerminalPageLeadsToTheShell(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	b.get("/instances/1/terminal").want(200, `data-socket="/instances/1/terminal/socket"`, "Simulated GPUs").wantSafe("terminal")
	b.get("/instances/1/terminal?session=work").want(200, `data-socket="/instances/1/terminal/socket?session=work"`)
	b.get("/instances/1/terminal/status").want(200, `"state":"running"`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := b.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for buf := make([]byte, 100); !strings.HasSuffix(got.String(), "# echo"); {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.Write(buf[:n])
	}
	if _, err := c.Write([]byte{4}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != agent.ErrTerminalEnded {
		t.Errorf("got %v", err)
	}
}

func TestTerminalEndsWithTheSession(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	b := w.as("ana@example.org")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := b.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.update(func(tx *store.Tx) error { return identity.DeleteAllSessions(tx, w.ana.ID) })
	ended := make(chan error, 1)
	go func() {
		for buf := make([]byte, 100); ; {
			if _, err := c.Read(buf); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the terminal outlives the session")
	}
	b.send("GET", "/instances/1/terminal/status", nil, func(r *http.Request) { r.Header.Set("Accept", "application/json") }).want(401, "sign in again")
}

func TestTerminalIsTheAccountsOwn(t *testing.T) {
	w := newWorld(t, 1).people()
	w.launch("box", "demo/box", scheduler.Running)
	for _, b := range []*browser{w.browser(), w.as("eve@example.org")} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if c, err := b.dial(ctx); err == nil {
			c.Close()
			t.Error("a stranger got in")
		}
		cancel()
	}
}
