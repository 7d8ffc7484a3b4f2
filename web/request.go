package web

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"ecolink/ledger/identity"
)

// Caller is who a request comes from, on behalf of which account.
type Caller struct {
	Account identity.AccountID
	User    identity.UserID // who signed in, or who made the key
	Key     identity.KeyID  // 0 in the browser
	Tag     string          // the key's source tag
}

type contextKey int

const (
	requestIDKey contextKey = iota
	callerKey
)

// WithCaller notes who is calling, once that is known.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey, c)
}

// CallerOf tells who is calling. Handlers that run without having checked would
// act for nobody, so a missing caller is a bug and panics.
func CallerOf(ctx context.Context) Caller {
	c, ok := ctx.Value(callerKey).(Caller)
	if !ok {
		panic("web: a handler runs before its caller is known")
	}
	return c
}

// RequestIDHeader carries the request id on every answer.
const RequestIDHeader = "X-Ecolink-Request-Id"

// RequestID is the id of the request that ctx belongs to; "" outside one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// Identify gives every request its id, says so in the answer, and turns a panic
// into a failure of that request alone. simulated names the machine that the
// GPUs imitate, for every answer to say so; "" when they are real. Peers who do
// not send their body, or do not take their answer, are cut off in time.
func Identify(next http.Handler, log *slog.Logger, simulated string) http.Handler {
	return identify(next, log, simulated, usualPatience)
}

func identify(next http.Handler, log *slog.Logger, simulated string, p patience) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := newRequestID()
		w.Header().Set(RequestIDHeader, id)
		if simulated != "" {
			w.Header().Set("X-Ecolink-Simulated-Gpus", simulated)
		}
		r = r.WithContext(context.WithValue(r.Context(), requestIDKey, id))
		watched := &beginning{ResponseWriter: w, rc: http.NewResponseController(w), patience: p.write}
		_ = watched.rc.SetWriteDeadline(time.Time{}) // the one of the connection's request before
		p.timeBody(watched.rc, r)
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler {
				panic(cause)
			}
			err := fmt.Errorf("panic in %s %s: %v\n%s", r.Method, r.URL.Path, cause, debug.Stack())
			f := Explain(r.Context(), log, err)
			if watched.begun {
				panic(http.ErrAbortHandler) // a half answer must not look whole
			}
			WriteFailure(w, f)
		}()
		next.ServeHTTP(watched, r)
	})
}

// beginning notes whether an answer has begun, and gives each piece of it its time.
type beginning struct {
	http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration
	begun    bool
}

// begin also gives their time to the flush that follows a write and to the one
// that net/http does at the end.
func (b *beginning) begin() {
	b.begun = true
	_ = b.rc.SetWriteDeadline(time.Now().Add(b.patience))
}

func (b *beginning) WriteHeader(status int) {
	b.begin()
	b.ResponseWriter.WriteHeader(status)
}

func (b *beginning) Write(p []byte) (int, error) {
	b.begin()
	return b.ResponseWriter.Write(p)
}

// Hijack is how WebSockets take the connection. The library that we use asks for
// it directly and not through http.ResponseController.
func (b *beginning) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	b.begun = true
	return b.rc.Hijack()
}

// Unwrap lets http.ResponseController find what the server offers.
func (b *beginning) Unwrap() http.ResponseWriter { return b.ResponseWriter }

func newRequestID() string {
	var b [12]byte
	rand.Read(b[:])
	return "req_" + hex.EncodeToString(b[:])
}

// BearerToken is the API key of a request; "" when there is none.
func BearerToken(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// BehindProxy takes the address that a request came from out of the last
// X-Forwarded-For, which a proxy on this box has added: seen from here all come
// from the proxy, and one of them who fails to log in would shut out the others.
// Only where there is such a proxy: else somebody on the box could claim any
// address.
func BehindProxy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddr(From(r))
		if hops := r.Header.Values("X-Forwarded-For"); err == nil && peer.Unmap().IsLoopback() && len(hops) > 0 {
			last := hops[len(hops)-1]
			client, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
			if err == nil {
				behind := *r
				behind.RemoteAddr = netip.AddrPortFrom(client.Unmap().WithZone(""), 0).String()
				r = &behind
			}
		}
		next.ServeHTTP(w, r)
	})
}

// From is the address that a request came from, without the port.
func From(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
