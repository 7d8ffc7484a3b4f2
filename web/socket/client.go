package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/web"
)

// Limits of the client's side.
const (
	// inputBytes is the most input that one message carries.
	inputBytes = 32 << 10
	// ackBytes is how much output is read before the server is told.
	ackBytes = 128 << 10
	// maxAnswerBytes is the longest message that is taken from a server.
	maxAnswerBytes = 4 << 20
	// goodByeTime is how long a server may take to answer a good-bye.
	goodByeTime = time.Second
)

// DialOption says how to connect, beyond where to.
type DialOption func(*dialing)

type dialing struct {
	http  *http.Client
	query url.Values
	pulse pulse
}

// WithHTTPClient makes the handshake with c instead of http.DefaultClient.
func WithHTTPClient(c *http.Client) DialOption { return func(d *dialing) { d.http = c } }

// WithSession attaches to another shell than the main one.
func WithSession(name string) DialOption {
	return func(d *dialing) { d.query.Set("session", name) }
}

// From asks for the output from an absolute offset on; below zero, which is also
// the default, for all that is kept.
func From(offset int64) DialOption {
	return func(d *dialing) { d.query.Set("from", strconv.FormatInt(offset, 10)) }
}

// WithWindow tells the size of the window that the shell is shown in.
func WithWindow(cols, rows uint16) DialOption {
	return func(d *dialing) {
		d.query.Set("cols", strconv.Itoa(int(cols)))
		d.query.Set("rows", strconv.Itoa(int(rows)))
	}
}

// dial connects. What the server refuses is a *web.Failure; any other error
// means that there was no answer.
func dial(ctx context.Context, address, key, protocol string, d dialing) (*websocket.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	u.RawQuery = d.query.Encode()
	ws, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{
		HTTPClient:   d.http,
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + key}},
		Subprotocols: []string{protocol},
	})
	if err != nil {
		return nil, refusal(u, resp, err)
	}
	if ws.Subprotocol() != protocol {
		_ = ws.CloseNow()
		return nil, &web.Failure{Status: http.StatusUnprocessableEntity, Code: "unprocessable",
			Message: fmt.Sprintf("%s does not speak %s: install the same version of EcoLink on both sides", u.Host, protocol)}
	}
	ws.SetReadLimit(maxAnswerBytes)
	return ws, nil
}

func refusal(u *url.URL, resp *http.Response, err error) error {
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		var plain *url.Error
		if errors.As(err, &plain) { // without the URL, which is long and says nothing new
			err = plain.Err
		}
		return fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	var body struct{ Error *web.Failure }
	raw, _ := io.ReadAll(resp.Body) // bounded by the library, and what is missing shows as bad JSON
	if json.Unmarshal(raw, &body) != nil || body.Error == nil || body.Error.Message == "" {
		body.Error = &web.Failure{Message: fmt.Sprintf("%s answered %s", u.Host, resp.Status)}
	}
	body.Error.Status = resp.StatusCode
	return body.Error
}

// TerminalConn is a terminal at the other end of a connection. It is an
// agent.Terminal and behaves as one: Read ends with agent.ErrTerminalEnded when
// the shell has ended and with io.EOF when this reader was too slow. Any other
// error is a lost connection: dial again, From the offset that was reached.
type TerminalConn struct {
	ws       *websocket.Conn
	start    int64
	prologue []byte
	windows  chan agent.TerminalWindow
	message  io.Reader // the rest of the output message that is being read
	seen     int64     // the offset that Read has come to
	acked    int64     // the offset that the server knows of, or will
	acks     chan int64

	ctx         context.Context // of Read and Write, which have none of their own
	cancel      context.CancelFunc
	waitingFrom atomic.Int64 // Unix nanoseconds since when Read waits; 0 outside Read
	helpers     sync.WaitGroup
	closing     sync.Once
}

// Dial attaches to a shell of an instance, whose terminal's address url is. The
// context is for connecting; Close ends the connection. A refusal by the server
// is a *web.Failure.
func Dial(ctx context.Context, url, key string, opts ...DialOption) (*TerminalConn, error) {
	d := newDialing(opts)
	d.query.Set("flow", "1")
	ws, err := dial(ctx, url, key, TerminalProtocol, d)
	if err != nil {
		return nil, err
	}
	var first struct {
		Start    *int64 `json:"start"`
		Prologue string `json:"prologue"`
	}
	_, raw, err := ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &first)
	}
	if err == nil && first.Start == nil {
		err = errors.New("the first message has no start")
	}
	if err != nil {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("attach to the terminal: %v", err)
	}
	t := &TerminalConn{
		ws: ws, start: *first.Start, prologue: []byte(first.Prologue), seen: *first.Start, acked: *first.Start,
		windows: make(chan agent.TerminalWindow, 1), acks: make(chan int64, 1),
	}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	t.helpers.Go(func() { t.watch(d.pulse) })
	t.helpers.Go(t.sendAcks)
	return t, nil
}

func newDialing(opts []DialOption) dialing {
	d := dialing{query: url.Values{}, pulse: usualPulse}
	for _, o := range opts {
		o(&d)
	}
	return d
}

// Start is the absolute offset of the first byte that Read gives.
func (t *TerminalConn) Start() int64 { return t.start }

// Prologue is what an empty screen is sent before the output; it counts as none.
func (t *TerminalConn) Prologue() []byte { return t.prologue }

// Windows gives the session's window when it is another than this side's.
func (t *TerminalConn) Windows() <-chan agent.TerminalWindow { return t.windows }

// Read reads output. Bytes that come with an error are good. The server sends no
// more than so much ahead of it.
func (t *TerminalConn) Read(p []byte) (int, error) {
	t.waitingFrom.Store(time.Now().UnixNano())
	defer t.waitingFrom.Store(0)
	for {
		if t.message == nil {
			if err := t.next(); err != nil {
				return 0, err
			}
		}
		n, err := t.message.Read(p)
		if err == io.EOF { // of the message
			t.message, err = nil, nil
		}
		if err != nil {
			return n, lost(err)
		}
		if n > 0 {
			t.count(n)
			return n, nil
		}
	}
}

// count tells the server now and then how far the output has been read: not at
// once, which would wait for a program that does not read its input.
func (t *TerminalConn) count(n int) {
	t.seen += int64(n)
	if t.seen-t.acked < ackBytes {
		return
	}
	t.acked = t.seen
	select { // the latest counts
	case <-t.acks:
	default:
	}
	t.acks <- t.seen
}

func (t *TerminalConn) sendAcks() {
	for {
		select {
		case <-t.ctx.Done():
			return
		case offset := <-t.acks:
			if t.ws.Write(t.ctx, websocket.MessageText, fmt.Appendf(nil, `{"ack":%d}`, offset)) != nil {
				return // so does Read
			}
		}
	}
}

// next goes to the next message with output.
func (t *TerminalConn) next() error {
	for {
		typ, r, err := t.ws.Reader(t.ctx)
		if err != nil {
			return lost(err)
		}
		if typ == websocket.MessageBinary {
			t.message = r
			return nil
		}
		var news struct {
			Ended  bool `json:"ended"`
			Window *struct{ Cols, Rows uint16 }
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			return lost(err)
		}
		if err := json.Unmarshal(raw, &news); err != nil {
			return fmt.Errorf("the terminal's server sent a message that can't be read: %w", err)
		}
		if news.Ended {
			return agent.ErrTerminalEnded
		}
		if w := news.Window; w != nil {
			select {
			case <-t.windows:
			default:
			}
			t.windows <- agent.TerminalWindow{Cols: w.Cols, Rows: w.Rows}
		}
	}
}

// lost keeps the errors of the connection apart from io.EOF, which has a
// meaning of its own here.
func lost(err error) error {
	if websocket.CloseStatus(err) == StatusFellBehind {
		return io.EOF
	}
	return fmt.Errorf("the connection was lost: %v", err)
}

// Write types p into the terminal. What was written when the connection is lost
// may have arrived or not.
func (t *TerminalConn) Write(p []byte) (n int, err error) {
	for len(p) > n {
		piece := p[n:min(len(p), n+inputBytes)]
		if err := t.ws.Write(t.ctx, websocket.MessageBinary, piece); err != nil {
			return n, lost(err)
		}
		n += len(piece)
	}
	return n, nil
}

// Resize tells the size of the window.
func (t *TerminalConn) Resize(ctx context.Context, cols, rows uint16) error {
	msg := fmt.Appendf(nil, `{"resize":{"cols":%d,"rows":%d}}`, cols, rows)
	if err := t.ws.Write(ctx, websocket.MessageText, msg); err != nil {
		return lost(err)
	}
	return nil
}

// Leave is Close, which says good-bye.
func (t *TerminalConn) Leave() error { return t.Close() }

// Close leaves the terminal; the shell lives on. A server that does not answer
// the good-bye is not waited for.
func (t *TerminalConn) Close() error {
	t.closing.Do(func() {
		said := make(chan struct{})
		go func() { // ends within the library's own limit, ten seconds
			defer close(said)
			_ = t.ws.Close(websocket.StatusNormalClosure, "")
		}()
		select {
		case <-said:
		case <-time.After(goodByeTime):
		}
		t.cancel()
		t.helpers.Wait()
	})
	return nil
}

// watch asks whether the server is still there: a network that vanished without
// a word would otherwise go unnoticed for as long as nobody types.
func (t *TerminalConn) watch(p pulse) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(t.ctx, p.within)
		err := t.ws.Ping(ctx)
		cancel()
		// Only Read sees the answers. Silence means nothing while the owner is
		// busy elsewhere, such as with a screen that takes no output.
		since := t.waitingFrom.Load()
		if err != nil && since != 0 && time.Since(time.Unix(0, since)) >= p.within {
			_ = t.ws.CloseNow()
			return
		}
	}
}

// ExecConn is a command that runs at the other end of a connection.
type ExecConn struct{ ws *websocket.Conn }

// DialExec starts a command in an instance, whose exec address url is. A refusal
// by the server is a *web.Failure. Run must follow.
func DialExec(ctx context.Context, url, key string, argv []string, opts ...DialOption) (*ExecConn, error) {
	d := newDialing(opts)
	d.query["arg"] = argv
	ws, err := dial(ctx, url, key, ExecProtocol, d)
	if err != nil {
		return nil, err
	}
	return &ExecConn{ws}, nil
}

// Run gives the command its input, writes out what it prints and returns its
// exit code. The connection is closed when it returns, and with it the command
// ends. A Stdin that is blocked in a read then stays so until that read ends.
func (e *ExecConn) Run(ctx context.Context, stdio agent.Stdio) (int, error) {
	defer e.ws.CloseNow()
	go e.feed(ctx, stdio.Stdin)
	for {
		typ, raw, err := e.ws.Read(ctx)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			return 0, lost(err)
		}
		if typ == websocket.MessageText {
			return e.finish(raw)
		}
		if err := deliver(raw, stdio); err != nil {
			return 0, err
		}
	}
}

func deliver(message []byte, stdio agent.Stdio) (err error) {
	if len(message) == 0 {
		return nil
	}
	switch message[0] {
	case stdoutPiece:
		_, err = stdio.Stdout.Write(message[1:])
	case stderrPiece:
		_, err = stdio.Stderr.Write(message[1:])
	}
	return err
}

func (e *ExecConn) finish(raw []byte) (int, error) {
	var end struct {
		Exit  *int         `json:"exit"`
		Error *web.Failure `json:"error"`
	}
	err := json.Unmarshal(raw, &end)
	switch {
	case err != nil:
		return 0, fmt.Errorf("the command's end can't be read: %w", err)
	case end.Error != nil:
		return 0, end.Error
	case end.Exit == nil:
		return 0, fmt.Errorf("the command's end can't be read: %s", bytes.TrimSpace(raw))
	}
	_ = e.ws.Close(websocket.StatusNormalClosure, "") // the server is closing too
	return *end.Exit, nil
}

// feed sends stdin and its end. Its errors are the connection's, which Run sees.
func (e *ExecConn) feed(ctx context.Context, stdin io.Reader) {
	if stdin == nil {
		stdin = bytes.NewReader(nil)
	}
	buf := make([]byte, 1+inputBytes)
	buf[0] = stdinPiece
	for {
		n, err := stdin.Read(buf[1:])
		if n > 0 && e.ws.Write(ctx, websocket.MessageBinary, buf[:1+n]) != nil {
			return
		}
		if err != nil {
			_ = e.ws.Write(ctx, websocket.MessageBinary, buf[:1])
			return
		}
	}
}
