package socket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/agent/keeper/keepertest"
	"ecolink/agent/keeper/session"
	"ecolink/agent/terminal"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
)

func TestMain(m *testing.M) { os.Exit(keepertest.Main(m)) }

// hosted is a shell with a real host, which sends its output itself.
type hosted struct {
	dir string

	mu    sync.Mutex
	views []*terminal.Terminal
}

func newHosted(t *testing.T, script string) *hosted {
	t.Helper()
	config := session.Config{Dir: t.TempDir(), ScrollbackBytes: 8 << 20}
	host := keepertest.Start(t, config.Args())
	shell := exec.Command(keepertest.Binary(t), "shell", "/bin/sh", "-c", script)
	shell.Stdout = host.Stdout
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
	})
	if err := session.Adopt(t.Context(), config.Dir, shell.Process.Pid, session.Window{Cols: 80, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	return &hosted{dir: config.Dir}
}

func (h *hosted) Terminal(ctx context.Context, _ identity.AccountID, _ scheduler.InstanceID, _ string, from int64, cols, rows uint16) (agent.Terminal, error) {
	conn, err := session.Dial(ctx, h.dir, max(from, session.FromOldest), session.Window{Cols: cols, Rows: rows})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.views = append(h.views, &terminal.Terminal{Conn: conn})
	return h.views[len(h.views)-1], nil
}

// viewers is how many the host has.
func (h *hosted) viewers(t *testing.T) int {
	t.Helper()
	s, err := session.ReadStatus(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	return s.Viewers
}

func (h *hosted) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

func (h *hosted) handler(p pulse) http.Handler {
	return quick(Terminal(h, slog.New(slog.DiscardHandler)), p)
}

// counted is what `seq` prints, and the script that prints it when a line is typed.
const counting = "stty -echo -onlcr; echo ready; read line; seq 1 400000; echo at the end; read line"

const ready = "ready\n"

func wantBytesAfterStart(t *testing.T, c *websocket.Conn, want string) {
	t.Helper()
	if kind, p := receive(t, c); kind != websocket.MessageText || !strings.HasPrefix(p, `{"start":`) {
		t.Fatalf("it begins with %q", p)
	}
	wantBytes(t, c, want)
}

var counted = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	b.WriteString(ready)
	for n := range 400_000 {
		fmt.Fprintf(&b, "%d\n", n+1)
	}
	b.WriteString("at the end\n")
	return b.Bytes()
})

func mustBeCounted(t *testing.T, got []byte) {
	t.Helper()
	if sha256.Sum256(got) != sha256.Sum256(counted()) {
		n := 0
		for n < min(len(got), len(counted())) && got[n] == counted()[n] {
			n++
		}
		t.Fatalf("%d of %d bytes came, and from byte %d on they are others", len(got), len(counted()), n)
	}
}

// Pings, their answers and news of the window go between the messages of output.
func TestForwardedOutputIsExactBesideAllElseThatIsSaid(t *testing.T) {
	h := newHosted(t, counting)
	srv := serve(t, h.handler(pulse{every: time.Millisecond, within: patience}))
	c, err := Dial(t.Context(), srv.URL+"/i/7", "key", WithWindow(80, 24), func(d *dialing) { d.pulse = pulse{every: time.Millisecond, within: patience} })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other, err := Dial(t.Context(), srv.URL+"/i/7", "key", WithWindow(100, 30))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() { _, _ = io.Copy(io.Discard, other) }()
	var news sync.WaitGroup
	stop := make(chan struct{})
	news.Go(func() {
		for n := uint16(0); ; n++ {
			select {
			case <-stop:
				return
			case <-c.Windows():
			case <-time.After(2 * time.Millisecond):
				_ = other.Resize(t.Context(), 100+n%2, 30)
			}
		}
	})
	got := make([]byte, len(counted()))
	if _, err := io.ReadFull(c, got[:len(ready)]); err != nil { // it echoes no more
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "go\n"); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadFull(c, got[len(ready):])
	close(stop)
	news.Wait()
	if err != nil {
		t.Fatal(err)
	}
	mustBeCounted(t, got)
	if _, err := io.WriteString(c, "end\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(got); !errors.Is(err, agent.ErrTerminalEnded) {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
}

func TestForwardedViewerWhoseConnectionBreaksAgainAndAgainGetsEveryByteOnce(t *testing.T) {
	h := newHosted(t, counting)
	srv := serve(t, h.handler(usualPulse))
	var got []byte
	buf := make([]byte, 32<<10)
	for round := 0; len(got) < len(counted()); round++ {
		var conns []net.Conn
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			conns = append(conns, conn)
			return conn, err
		}}}
		c, err := Dial(t.Context(), srv.URL+"/i/7", "key", From(int64(len(got))), WithHTTPClient(client))
		if err != nil {
			t.Fatal(err)
		}
		if c.Start() != int64(len(got)) {
			t.Fatalf("after byte %d it goes on at %d", len(got), c.Start())
		}
		if round == 0 {
			got = make([]byte, len(ready))
			if _, err := io.ReadFull(c, got); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "go\n"); err != nil {
				t.Fatal(err)
			}
		}
		for enough := len(got) + 1 + rand.N(300<<10); len(got) < min(enough, len(counted())); {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, conn := range conns {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
		_ = c.Close()
	}
	mustBeCounted(t, got)
}

// A client that shows its output before it types on, and a program that does the
// same, would wait for each other for ever.
func TestForwardedOutputGoesOnWhileInputWaitsForTheProgram(t *testing.T) {
	h := newHosted(t, "stty raw -echo; echo ready; exec cat")
	srv := serve(t, h.handler(usualPulse))
	c := connect(t, srv, "/i/7?flow=1", TerminalProtocol)
	wantBytesAfterStart(t, c, ready)
	const size = 8 << 20
	paste := strings.Repeat("0123456789abcdef", size/16)
	go func() {
		for n := 0; n < size; n += 64 << 10 {
			if c.Write(context.Background(), websocket.MessageBinary, []byte(paste[n:n+64<<10])) != nil {
				return
			}
		}
	}()
	var got strings.Builder
	for got.Len() < size {
		kind, p := receive(t, c)
		if kind == websocket.MessageBinary {
			got.WriteString(p)
			send(t, c, websocket.MessageText, fmt.Sprintf(`{"ack":%d}`, len(ready)+got.Len()))
		}
	}
	if got.String() != paste {
		t.Error("what came back is not what was typed")
	}
}

func TestForwardedViewerIsSentNoMoreThanItSaysItHasShown(t *testing.T) {
	h := newHosted(t, counting)
	srv := serve(t, h.handler(usualPulse))
	c := connect(t, srv, "/i/7?flow=1", TerminalProtocol)
	wantBytesAfterStart(t, c, ready)
	send(t, c, websocket.MessageBinary, "go\n")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	got := 0
	for {
		kind, p, err := c.Read(ctx)
		if err != nil {
			break
		}
		if kind == websocket.MessageBinary {
			got += len(p)
		}
	}
	if got < maxUnseenBytes*9/10 || got > maxUnseenBytes+outputBytes {
		t.Errorf("%d bytes came without an ack", got)
	}
}

// refusing is a host that takes no frames.
type refusing struct {
	agent.Forwarder
	err error
}

func (r refusing) Between([]byte) error { return r.err }

func TestOutletWritesPastTheHostOnlyWhenThatHasLetGo(t *testing.T) {
	for err, want := range map[error]bool{net.ErrClosed: true, errors.New("the host holds it"): false} {
		near, far := net.Pipe()
		wrote := make(chan bool, 1)
		go func() {
			n, _ := far.Read(make([]byte, 8))
			wrote <- n > 0
		}()
		o := &outlet{Conn: near}
		o.yield(refusing{err: err})
		if _, got := o.Write([]byte("frame")); (got == nil) != want {
			t.Errorf("%v: Write gives %v", err, got)
		}
		_ = near.Close()
		if got := <-wrote; got != want {
			t.Errorf("%v: written past the host: %v, want %v", err, got, want)
		}
		_ = far.Close()
	}
}

func TestServerThatGoesDownSaysSoAmidForwardedOutput(t *testing.T) {
	h := newHosted(t, "exec yes")
	srv := serve(t, h.handler(usualPulse))
	c := connect(t, srv, "/i/7", TerminalProtocol)
	go func() {
		time.Sleep(200 * time.Millisecond)
		goDown(srv)
	}()
	for {
		_, _, err := c.Read(t.Context())
		if err == nil {
			continue
		}
		if got := websocket.CloseStatus(err); got != websocket.StatusGoingAway {
			t.Errorf("closed with %d: %v", got, err)
		}
		break
	}
	h.until(t, "the viewer's end", func() bool { return h.viewers(t) == 0 })
}

func TestNonsenseAmidForwardedOutputClosesItsConnectionOnly(t *testing.T) {
	h := newHosted(t, "exec yes")
	srv := serve(t, h.handler(usualPulse))
	bad, good := connect(t, srv, "/i/7", TerminalProtocol), connect(t, srv, "/i/7", TerminalProtocol)
	send(t, bad, websocket.MessageText, "nonsense")
	for {
		if _, _, err := bad.Read(t.Context()); err != nil {
			if got := websocket.CloseStatus(err); got != websocket.StatusPolicyViolation {
				t.Errorf("closed with %d: %v", got, err)
			}
			break
		}
	}
	for range 100 {
		receive(t, good)
	}
	_ = good.Close(websocket.StatusNormalClosure, "")
	h.until(t, "both viewers' end", func() bool { return h.viewers(t) == 0 })
}

func TestDeadPeerOfForwardedOutputIsFoundOut(t *testing.T) {
	for name, script := range map[string]string{"in silence": "read line", "amid output": "exec yes"} {
		t.Run(name, func(t *testing.T) {
			h := newHosted(t, script)
			srv := serve(t, h.handler(pulse{every: 20 * time.Millisecond, within: 50 * time.Millisecond}))
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET /i/7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", TerminalProtocol)
			h.until(t, "the terminal", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.views) == 1 })
			h.until(t, "the viewer's end", func() bool { return h.viewers(t) == 0 })
		})
	}
}
