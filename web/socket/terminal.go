package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// TerminalProtocol is the subprotocol of Terminal. The server begins with the text
// {"start":N}, N being the absolute offset of the first byte of output; with
// "prologue" in it, that text is to be shown first, on an empty screen, and is no
// output. Output and input are binary messages; the client's text
// {"resize":{"cols":80,"rows":24}} tells the window that it shows the session in;
// the server's text {"window":{…}} tells the session's when that is another: it has
// the one of whoever came, typed or resized last. The server's text {"ended":true}
// is its last message when the shell has ended.
//
// A client that has asked for flow=1 says with the text {"ack":N} up to which
// offset it has shown the output, at least every 256 KiB; the server sends at most
// 1 MiB more than that, and an empty text object every few seconds, by whose
// absence a client finds a dead connection. What a client is cut off from it then
// finds again. A client that means to leave closes with 1000 or 1001.
const TerminalProtocol = "ecolink.terminal.v1"

// StatusFellBehind closes the connection of a viewer who read too slowly. It may
// connect again, with from= the offset that it has got to.
const StatusFellBehind websocket.StatusCode = 4001

// Terminals opens terminals; the scheduler does.
type Terminals interface {
	Terminal(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, session string, from int64, cols, rows uint16) (agent.Terminal, error)
}

// Terminal serves a terminal of the instance that the path names as {id}. Query:
// session, from (absent: all that is kept), cols and rows. What fails before the
// connection is upgraded is answered as a web.Failure.
func Terminal(t Terminals, log *slog.Logger) http.Handler {
	return &terminalHandler{terminals: t, log: log, pulse: usualPulse}
}

type terminalHandler struct {
	terminals Terminals
	log       *slog.Logger
	pulse     pulse
}

func (h *terminalHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	term, err := h.open(r)
	if err != nil {
		web.WriteFailure(w, web.Explain(r.Context(), h.log, err))
		return
	}
	conn, err := accept(w, r, TerminalProtocol, h.pulse)
	if err != nil { // the library has answered
		h.log.WarnContext(r.Context(), "a terminal's connection was not upgraded", "request_id", web.RequestID(r.Context()), "err", err)
		_ = term.Close()
		return
	}
	v := &viewer{conn: conn, term: term, input: make(chan []byte), acks: make(chan struct{}, 1)}
	v.forwarder, _ = term.(agent.Forwarder)
	if flow, _ := number(r, "flow", 0); flow == 1 {
		v.window = maxUnseenBytes
	}
	if cause := v.run(r.Context()); errors.Is(cause, errServerSide) {
		h.log.ErrorContext(r.Context(), "a terminal broke", "request_id", web.RequestID(r.Context()), "instance", r.PathValue("id"), "err", cause)
	}
}

// open checks everything that can be checked without a WebSocket.
func (h *terminalHandler) open(r *http.Request) (agent.Terminal, error) {
	if err := precheck(r, TerminalProtocol); err != nil {
		return nil, err
	}
	id, err := instanceOf(r)
	if err != nil {
		return nil, err
	}
	from, err := number(r, "from", -1)
	if err != nil {
		return nil, err
	}
	if _, err := number(r, "flow", 0); err != nil {
		return nil, err
	}
	cols, err := cells(r, "cols", 80)
	if err != nil {
		return nil, err
	}
	rows, err := cells(r, "rows", 24)
	if err != nil {
		return nil, err
	}
	c := web.CallerOf(r.Context())
	return h.terminals.Terminal(r.Context(), c.Account, id, r.URL.Query().Get("session"), from, cols, rows)
}

func number(r *http.Request, name string, absent int64) (int64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, web.Fail(http.StatusBadRequest, "invalid_request", name, name+" is a whole number")
	}
	return n, nil
}

// maxCells is far beyond any screen; a window costs the programs in it memory.
const maxCells = 4096

func cells(r *http.Request, name string, absent int64) (uint16, error) {
	n, err := number(r, name, absent)
	if err == nil && (n < 1 || n > maxCells) {
		err = web.Fail(http.StatusBadRequest, "invalid_request", name, name+" is a number from 1 to "+strconv.Itoa(maxCells))
	}
	return uint16(n), err
}

// viewer is one connection to a terminal.
type viewer struct {
	conn  *connection
	term  agent.Terminal
	input chan []byte // from listen to typeIn

	window int64         // how far output may be ahead of acks; 0: of a client that sends none
	acked  atomic.Int64  // the last
	acks   chan struct{} // there was one

	typing    atomic.Int64    // how much of input is not typed in yet, in messages
	forwarder agent.Forwarder // may be nil
	forwarded atomic.Bool     // the host sends the output itself
	stuck     atomic.Bool     // acks can't come: they are behind input that waits
	crediting sync.Mutex      // one credit at a time, so that the host ends with the latest
}

// run shows the terminal until either side ends, and returns when all of its
// goroutines have: output here, and one each for what the client says, for
// typing it in, for the pulse, for news of the window and for closing the terminal,
// which ends output.
func (v *viewer) run(request context.Context) (cause error) {
	ctx, end := context.WithCancelCause(context.WithoutCancel(request))
	var others sync.WaitGroup
	others.Go(func() { v.listen(ctx, end) })
	others.Go(func() { v.typeIn(ctx) })
	others.Go(func() { v.conn.keepAlive(ctx, end) })
	others.Go(func() { v.tellNews(ctx) })
	others.Go(func() {
		select {
		case <-request.Done():
			end(errGoingAway)
		case <-ctx.Done():
		}
		if errors.Is(context.Cause(ctx), errLeft) {
			_ = v.term.Leave()
		} else {
			_ = v.term.Close()
		}
	})
	end(v.output(ctx))
	cause = context.Cause(ctx)
	switch {
	case errors.Is(cause, agent.ErrTerminalEnded):
		_ = v.conn.say(websocket.MessageText, []byte(`{"ended":true}`))
		_ = v.conn.Close(websocket.StatusNormalClosure, "the shell has ended")
	case errors.Is(cause, io.EOF):
		_ = v.conn.Close(StatusFellBehind, "fell behind")
	default:
		v.conn.hangUp(cause)
	}
	others.Wait()
	return cause
}

// output sends what the terminal shows, and returns why it stopped.
func (v *viewer) output(ctx context.Context) error {
	sent := v.term.Start()
	v.acked.Store(sent)
	start, err := json.Marshal(struct {
		Start    int64  `json:"start"`
		Prologue string `json:"prologue,omitempty"`
	}{sent, string(v.term.Prologue())})
	if err != nil {
		return errors.Join(errServerSide, err)
	}
	if err := v.conn.say(websocket.MessageText, start); err != nil {
		return errGone
	}
	if socket := v.conn.outlet.tcp(); v.forwarder != nil && socket != nil {
		_ = v.forwarder.Forward(socket) // if it fails the output comes here
	}
	few := make([]byte, fewBytes)
	var many []byte
	for buf := few; ; {
		if err := v.awaitAcks(ctx, sent); err != nil {
			return err
		}
		n, err := v.term.Read(buf)
		if n > 0 {
			if err := v.conn.say(websocket.MessageBinary, buf[:n]); err != nil {
				return errGone
			}
			sent += int64(n)
		}
		// Most viewers look at a prompt: a large buffer is for who needs it.
		switch full := n == len(buf); {
		case full && many == nil:
			many = make([]byte, outputBytes)
			buf = many
		case n < fewBytes:
			buf, many = few, nil
		}
		switch {
		case err == nil:
		case errors.Is(err, agent.ErrTerminalForwarded):
			v.conn.outlet.yield(v.forwarder)
			v.forwarded.Store(true)
			v.credit()
		case ctx.Err() != nil: // closed by us, and the cause is known
			return context.Cause(ctx)
		case errors.Is(err, agent.ErrTerminalEnded):
			return agent.ErrTerminalEnded
		case errors.Is(err, io.EOF):
			return io.EOF
		default:
			return errors.Join(errServerSide, err)
		}
	}
}

// awaitAcks waits while the client has too much to show yet. While its input waits
// for the program, its acks are behind that, and the program may be waiting for its
// output to be taken: then they are not waited for.
func (v *viewer) awaitAcks(ctx context.Context, sent int64) error {
	for v.window > 0 && sent-v.acked.Load() >= v.window {
		select {
		case <-v.acks:
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(stalledCheck):
		}
		if v.conn.stalled.Load() > 0 {
			return nil
		}
	}
	return nil
}

// credit tells a host that sends the output itself how far it may go.
func (v *viewer) credit() {
	if !v.forwarded.Load() {
		return
	}
	v.crediting.Lock()
	defer v.crediting.Unlock()
	to := int64(math.MaxInt64)
	if v.window > 0 && !v.stuck.Load() {
		to = v.acked.Load() + v.window
	}
	_ = v.forwarder.Credit(to) // if it fails, so does Read
}

// tellNews passes on that the session's window is another than the client's, and
// gives signs of life.
func (v *viewer) tellNews(ctx context.Context) {
	var beat <-chan time.Time
	if v.window > 0 {
		tick := time.NewTicker(beatTime)
		defer tick.Stop()
		beat = tick.C
	}
	for {
		news := []byte("{}")
		select {
		case <-ctx.Done():
			return
		case <-beat:
		case w := <-v.term.Windows():
			news = fmt.Appendf(nil, `{"window":{"cols":%d,"rows":%d}}`, w.Cols, w.Rows)
		}
		if v.conn.say(websocket.MessageText, news) != nil {
			return // the connection is broken, which others notice too
		}
	}
}

// listen takes what the client says until the connection ends. It reads on while
// input is typed in, so that pings are answered.
func (v *viewer) listen(ctx context.Context, end context.CancelCauseFunc) {
	for {
		// Not ctx: the library would cut the connection before it is closed properly.
		kind, p, err := v.conn.Read(context.Background())
		switch status := websocket.CloseStatus(err); {
		case err == nil:
		case status == websocket.StatusNormalClosure || status == websocket.StatusGoingAway:
			end(errLeft)
			return
		default:
			end(errGone)
			return
		}
		v.conn.heard.Add(1)
		if kind == websocket.MessageText {
			if err := v.obey(ctx, p); err != nil {
				end(err)
				return
			}
			continue
		}
		v.take(ctx, p)
	}
}

// take types p in, or leaves it to typeIn if that may have to wait.
func (v *viewer) take(ctx context.Context, p []byte) {
	if v.forwarder != nil && v.typing.Load() == 0 {
		if p = p[v.forwarder.Press(p):]; len(p) == 0 {
			return
		}
	}
	v.typing.Add(1)
	v.conn.hold(func() {
		long := time.NewTimer(stalledCheck)
		defer long.Stop()
		for {
			select {
			case v.input <- p:
			case <-ctx.Done(): // what is still said is lost; the closing handshake is not
			case <-long.C:
				v.stuck.Store(true)
				v.credit()
				continue
			}
			break
		}
	})
	if v.stuck.Swap(false) {
		v.credit()
	}
}

func (v *viewer) obey(ctx context.Context, p []byte) error {
	var command struct {
		Resize *struct {
			Cols uint16 `json:"cols"`
			Rows uint16 `json:"rows"`
		} `json:"resize"`
		Ack *int64 `json:"ack"`
	}
	if err := json.Unmarshal(p, &command); err != nil {
		return errMisspoke
	}
	if command.Ack != nil {
		v.acked.Store(*command.Ack)
		v.credit()
		select {
		case v.acks <- struct{}{}:
		default:
		}
		return nil
	}
	size := command.Resize
	if size == nil || size.Cols < 1 || size.Rows < 1 || size.Cols > maxCells || size.Rows > maxCells {
		return errMisspoke
	}
	ctx, cancel := context.WithTimeout(ctx, resizeTime)
	defer cancel()
	// A window of the wrong size is no reason to take the terminal away; the next
	// change of size tries again.
	_ = v.term.Resize(ctx, size.Cols, size.Rows)
	return nil
}

// typeIn writes the client's input into the terminal. When that fails, the
// terminal's output says why, and the rest of the input is dropped.
func (v *viewer) typeIn(ctx context.Context) {
	broken := false
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-v.input:
			if !broken {
				_, err := v.term.Write(p)
				broken = err != nil
			}
			v.typing.Add(-1)
		}
	}
}
