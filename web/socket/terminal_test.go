package socket

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func newTerminal(s *shell) http.Handler { return Terminal(s, slog.New(slog.DiscardHandler)) }

func TestTerminalCarriesBytesExactlyBothWays(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	raw := make([]byte, 300<<10)
	for i := range raw {
		raw[i] = byte(rand.IntN(256)) // not UTF-8: a terminal's output need not be
	}
	s.print(string(raw))
	c := connect(t, srv, "/i/7?cols=132&rows=50&session=work", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	wantBytes(t, c, string(raw))
	for piece := range slices.Chunk(raw, 50<<10) {
		send(t, c, websocket.MessageBinary, string(piece))
	}
	s.until(t, "all input", func() bool { return len(s.typed) == len(raw) })
	if !bytes.Equal(s.typed, raw) {
		t.Error("the input is not what was sent")
	}
	if s.account != 3 || s.session != "work" || s.windows[0] != [2]uint16{132, 50} {
		t.Errorf("opened for account %d, session %q, window %v", s.account, s.session, s.windows)
	}
}

func TestViewerComesBackAtItsOffset(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	s.print("hello ")
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	wantBytes(t, c, "hello ")
	_ = c.CloseNow()
	s.until(t, "the terminal's end", s.allClosed)
	s.print("world")
	c = connect(t, srv, "/i/7?from=6", TerminalProtocol)
	wantText(t, c, `{"start":6}`)
	wantBytes(t, c, "world")
}

func TestViewerWhoComesBackAfterTheEndIsToldOfIt(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	s.print("hello ")
	s.set(func() { s.ended = true })
	c := connect(t, srv, "/i/7?from=6", TerminalProtocol)
	wantText(t, c, `{"start":6}`)
	wantText(t, c, `{"ended":true}`)
	wantClose(t, c, websocket.StatusNormalClosure)
}

func TestResizeSetsTheWindow(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	send(t, c, websocket.MessageText, `{"resize":{"cols":100,"rows":40}}`)
	s.until(t, "the window", func() bool { return len(s.windows) == 2 && s.windows[1] == [2]uint16{100, 40} })
}

func TestNonsenseFromTheClientClosesItsConnectionOnly(t *testing.T) {
	for _, text := range []string{`nonsense`, `{}`, `{"resize":{"cols":0,"rows":10}}`, `{"resize":{"cols":70000,"rows":10}}`, `{"resize":{"cols":5000,"rows":10}}`} {
		s := newShell()
		srv := serve(t, newTerminal(s))
		c := connect(t, srv, "/i/7", TerminalProtocol)
		wantText(t, c, `{"start":0}`)
		send(t, c, websocket.MessageText, text)
		wantClose(t, c, websocket.StatusPolicyViolation)
		s.until(t, "the terminal's end", s.allClosed)
	}
}

func TestOversizedMessageIsRefused(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.Write(ctx, websocket.MessageBinary, make([]byte, maxMessageBytes+1)) // may be cut off
	s.until(t, "the terminal's end", s.allClosed)
	if len(s.typed) != 0 {
		t.Errorf("%d bytes were typed in", len(s.typed))
	}
}

func TestEndOfTheShellIsTold(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	s.set(func() { s.output = append(s.output, "logout\r\n"...); s.ended = true })
	wantBytes(t, c, "logout\r\n")
	wantText(t, c, `{"ended":true}`)
	wantClose(t, c, websocket.StatusNormalClosure)
}

func TestSlowViewerIsToldToComeBack(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	s.set(func() { s.views[0].tired = true })
	wantClose(t, c, StatusFellBehind)
	c = connect(t, srv, "/i/7?from=0", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
}

func TestServerThatGoesDownSaysSo(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	goDown(srv)
	wantClose(t, c, websocket.StatusGoingAway)
	s.until(t, "the terminal's end", s.allClosed)
}

func TestForeignOriginOpensNothing(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	for _, origin := range []string{"https://evil.example", "null", "http://127.0.0.1:1"} {
		status, f := refused(t, srv, "/i/7", func(r *http.Request) { r.Header.Set("Origin", origin) })
		if status != http.StatusForbidden || f.Code != "forbidden" {
			t.Errorf("origin %s: %d %s", origin, status, f.Code)
		}
	}
	if len(s.views) != 0 {
		t.Error("a terminal was opened")
	}
	if status, f := refused(t, srv, "/i/7", func(r *http.Request) { r.Header.Set("Origin", srv.URL) }); status != http.StatusSwitchingProtocols {
		t.Errorf("the own origin is refused: %d %s", status, f.Message)
	}
}

func TestRefusalsBeforeTheUpgradeAreOrdinaryFailures(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	for _, row := range []struct {
		path   string
		change func(*http.Request)
		status int
		param  string
	}{
		{"/i/8", nil, http.StatusNotFound, ""},
		{"/i/x", nil, http.StatusNotFound, "id"},
		{"/i/-1", nil, http.StatusNotFound, "id"},
		{"/i/7?from=x", nil, http.StatusBadRequest, "from"},
		{"/i/7?cols=0", nil, http.StatusBadRequest, "cols"},
		{"/i/7?rows=99999", nil, http.StatusBadRequest, "rows"},
		{"/i/7", func(r *http.Request) { r.Header.Del("Upgrade") }, http.StatusUpgradeRequired, "Upgrade"},
		{"/i/7", func(r *http.Request) { r.Header.Del("Sec-WebSocket-Protocol") }, http.StatusBadRequest, "Sec-WebSocket-Protocol"},
	} {
		status, f := refused(t, srv, row.path, row.change)
		param := ""
		if f.Param != nil {
			param = *f.Param
		}
		if status != row.status || param != row.param || f.Message == "" {
			t.Errorf("%s: %d in %q (%s), want %d in %q", row.path, status, param, f.Message, row.status, row.param)
		}
	}
	if len(s.views) != 0 {
		t.Error("a terminal was opened")
	}
}

func TestDeadPeerIsFoundOut(t *testing.T) {
	s := newShell()
	srv := serve(t, quick(newTerminal(s), pulse{every: 20 * time.Millisecond, within: 50 * time.Millisecond}))
	// A client that shakes hands and then says nothing more, not even pongs.
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /i/7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", TerminalProtocol)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatalf("%q, %v", line, err)
	}
	s.until(t, "the terminal's end", func() bool { return len(s.views) == 1 && s.views[0].closed })
}

func TestDeadPeerIsFoundOutWhileOutputWaitsForIt(t *testing.T) {
	s := newShell()
	s.print(strings.Repeat("x", 16<<20)) // more than any socket buffer takes
	srv := serve(t, quick(newTerminal(s), pulse{every: 20 * time.Millisecond, within: 50 * time.Millisecond}))
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /i/7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", TerminalProtocol)
	s.until(t, "the terminal's end", func() bool { return len(s.views) == 1 && s.views[0].closed })
}

func TestProgramThatDoesNotReadIsNotADeadPeer(t *testing.T) {
	s := newShell()
	s.stuck = true
	srv := serve(t, quick(newTerminal(s), pulse{every: 10 * time.Millisecond, within: 20 * time.Millisecond}))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, c, `{"start":0}`)
	answering := make(chan string, 1)
	go func() { // answers pings
		_, p, err := c.Read(context.Background())
		answering <- fmt.Sprint(string(p), err)
	}()
	for range 5 {
		send(t, c, websocket.MessageBinary, "paste ")
	}
	time.Sleep(200 * time.Millisecond) // many pulses
	s.set(func() { s.stuck = false })
	s.until(t, "all input", func() bool { return string(s.typed) == strings.Repeat("paste ", 5) })
	s.print("done")
	if got := <-answering; got != "done<nil>" {
		t.Errorf("got %s", got)
	}
}

func TestSeveralViewersSeeOneSession(t *testing.T) {
	s := newShell()
	srv := serve(t, newTerminal(s))
	a, b := connect(t, srv, "/i/7", TerminalProtocol), connect(t, srv, "/i/7", TerminalProtocol)
	wantText(t, a, `{"start":0}`)
	wantText(t, b, `{"start":0}`)
	send(t, a, websocket.MessageBinary, "from a;")
	s.until(t, "a's input", func() bool { return string(s.typed) == "from a;" })
	send(t, b, websocket.MessageBinary, "from b")
	s.until(t, "b's input", func() bool { return string(s.typed) == "from a;from b" })
	s.print("both")
	wantBytes(t, a, "both")
	wantBytes(t, b, "both")
}
