package socket

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"ecolink/agent"
	"ecolink/ledger/identity"
	"ecolink/scheduler"
	"ecolink/web"
)

// ExecProtocol is the subprotocol of Exec. Each binary message begins with a byte
// that says what follows: 0 from the client for standard input, of which an empty
// piece is the end; 1 and 2 from the server for standard output and error. The
// server's last message is the text {"exit":code} or {"error":{…}}.
const ExecProtocol = "ecolink.exec.v1"

// The first bytes of binary messages.
const (
	stdinPiece  = 0
	stdoutPiece = 1
	stderrPiece = 2
)

// Execs runs commands; the scheduler does.
type Execs interface {
	Exec(ctx context.Context, a identity.AccountID, id scheduler.InstanceID, argv []string, io agent.Stdio) (int, error)
}

// Exec serves one command in the instance that the path names as {id}. Query: arg,
// repeated, the words of the command. It ends with the command, or the command
// with it.
func Exec(e Execs, log *slog.Logger) http.Handler {
	return &execHandler{execs: e, log: log, pulse: usualPulse}
}

type execHandler struct {
	execs Execs
	log   *slog.Logger
	pulse pulse
}

func (h *execHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := instanceOf(r)
	if err == nil {
		err = precheck(r, ExecProtocol)
	}
	argv := r.URL.Query()["arg"]
	if err == nil && len(argv) == 0 {
		err = web.Fail(http.StatusUnprocessableEntity, "unprocessable", "arg", "name a command to run: ?arg=nvidia-smi&arg=-L")
	}
	if err != nil {
		web.WriteFailure(w, web.Explain(r.Context(), h.log, err))
		return
	}
	conn, err := accept(w, r, ExecProtocol, h.pulse)
	if err != nil { // the library has answered
		h.log.WarnContext(r.Context(), "a command's connection was not upgraded", "request_id", web.RequestID(r.Context()), "err", err)
		return
	}
	h.run(r.Context(), conn, func(ctx context.Context, std agent.Stdio) (int, error) {
		return h.execs.Exec(ctx, web.CallerOf(ctx).Account, id, argv, std)
	})
}

// run has the command talk through the connection. It returns when the command
// and all goroutines have ended.
func (h *execHandler) run(request context.Context, conn *connection, command func(context.Context, agent.Stdio) (int, error)) {
	ctx, end := context.WithCancelCause(request)
	stdin, typed := io.Pipe()
	var others sync.WaitGroup
	others.Go(func() { listenForStdin(conn, typed, end) })
	others.Go(func() { conn.keepAlive(ctx, end) })
	code, err := command(ctx, agent.Stdio{Stdin: stdin, Stdout: pieces{conn, stdoutPiece}, Stderr: pieces{conn, stderrPiece}})
	_ = stdin.Close() // what is still typed goes nowhere
	switch cause := context.Cause(ctx); {
	case request.Err() != nil:
		conn.hangUp(errGoingAway)
	case cause != nil:
		conn.hangUp(cause)
	default:
		if conn.sayLast(ctx, h.verdict(ctx, code, err)) == nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
		} else {
			_ = conn.CloseNow()
		}
	}
	end(errGone)
	others.Wait()
}

func (h *execHandler) verdict(ctx context.Context, code int, err error) []byte {
	var last any = map[string]int{"exit": code}
	if err != nil {
		last = map[string]*web.Failure{"error": web.Explain(ctx, h.log, err)}
	}
	raw, err := json.Marshal(last)
	if err != nil {
		panic(err) // numbers and strings
	}
	return raw
}

// listenForStdin passes the client's pieces on until the connection ends.
func listenForStdin(conn *connection, typed *io.PipeWriter, end context.CancelCauseFunc) {
	defer typed.CloseWithError(io.ErrUnexpectedEOF)
	for {
		kind, p, err := conn.Read(context.Background())
		if err != nil {
			end(errGone)
			return
		}
		if kind != websocket.MessageBinary || len(p) == 0 || p[0] != stdinPiece {
			end(errMisspoke)
			return
		}
		if len(p) == 1 {
			_ = typed.Close() // always nil
			continue
		}
		// A command that has stopped reading loses the rest, as in a shell.
		conn.hold(func() { _, _ = typed.Write(p[1:]) })
	}
}

// pieces sends what is written to it as messages of one kind.
type pieces struct {
	conn *connection
	kind byte
}

// Write implements io.Writer.
func (w pieces) Write(p []byte) (n int, err error) {
	buf := make([]byte, 0, 1+min(len(p), outputBytes))
	for n < len(p) {
		piece := p[n:min(len(p), n+outputBytes)]
		buf = append(append(buf[:0], w.kind), piece...)
		// However long that takes: the output may go into a pager.
		var err error
		w.conn.hold(func() { err = w.conn.Write(context.Background(), websocket.MessageBinary, buf) })
		if err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}
