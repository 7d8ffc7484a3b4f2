package socket

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"ecolink/scheduler"
	"ecolink/web"
)

// Limits of a connection.
const (
	// maxMessageBytes is the longest message that a client may send: a large paste.
	maxMessageBytes = 1 << 20
	// outputBytes is the most output that one message carries.
	outputBytes = 64 << 10
	// fewBytes is the most that is read of a terminal that prints little.
	fewBytes = 2 << 10
	// maxUnseenBytes is how much output may be on its way to a client that says
	// what it has shown. Behind a viewer who was cut off the session keeps twice as
	// much.
	maxUnseenBytes = 1 << 20
	// stalledCheck is how often output that waits for acks looks whether they can
	// come at all.
	stalledCheck = 50 * time.Millisecond
	// beatTime is how often such a client gets a sign of life.
	beatTime = 3 * time.Second
	// resizeTime is how long the machine may take to resize a window.
	resizeTime = 5 * time.Second
)

// pulse is how a dead peer is found out: a ping goes out every so often and must
// be answered within a time. A peer is dead after the two together, at the latest.
type pulse struct{ every, within time.Duration }

var usualPulse = pulse{every: 5 * time.Second, within: 5 * time.Second}

// Why a connection ends before what it shows does.
var (
	errGone       = errors.New("the client has gone")
	errLeft       = errors.New("the client has said good-bye")
	errDead       = errors.New("the client does not answer")
	errMisspoke   = errors.New("the client said something that is not in the protocol")
	errGoingAway  = errors.New("EcoLink is stopping")
	errServerSide = errors.New("the terminal broke")
)

// connection is a WebSocket with its pulse.
type connection struct {
	*websocket.Conn
	outlet *outlet
	pulse  pulse
	// stalled counts who waits for a program that does not read: for the one here
	// to take the client's input, when nothing is read from the socket, answers to
	// pings included; or for the client's to take output, when a client that reads
	// no further answers none. Their absence says nothing about the client then; if
	// it has gone, the kernel finds out by what it can't deliver.
	stalled atomic.Int32
	heard   atomic.Int64 // counts signs of life besides answers to pings
}

// hold runs f, which waits for a program to read.
func (c *connection) hold(f func()) {
	c.stalled.Add(1)
	f()
	c.heard.Add(1)
	c.stalled.Add(-1)
}

// precheck refuses what can't become a WebSocket, or must not, before anything is
// opened for it. The library checks the origin again.
func precheck(r *http.Request, protocol string) error {
	// A route for GET also takes HEAD, which opens nothing.
	if r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return web.Fail(http.StatusUpgradeRequired, "upgrade_required", "Upgrade", "this address speaks WebSocket: connect with a WebSocket client, subprotocol "+protocol)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return web.Fail(http.StatusForbidden, "forbidden", "Origin", "a page of another site may not open this connection: use this box's own console, or connect without an Origin header")
		}
	}
	for offered := range strings.SplitSeq(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(offered), protocol) {
			return nil
		}
	}
	return web.Fail(http.StatusBadRequest, "invalid_request", "Sec-WebSocket-Protocol", "offer the subprotocol "+protocol+": update your client if it has another")
}

func accept(w http.ResponseWriter, r *http.Request, protocol string, p pulse) (*connection, error) {
	watched := &hijack{ResponseWriter: w}
	conn, err := websocket.Accept(watched, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(maxMessageBytes)
	return &connection{Conn: conn, outlet: watched.outlet, pulse: p}, nil
}

// keepAlive pings until ctx ends; on a dead peer it ends ctx and the connection.
func (c *connection) keepAlive(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(c.pulse.every)
	defer tick.Stop()
	answers := make(chan error, 1)
	asking := false
	defer func() {
		if asking {
			<-answers
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		before := c.heard.Load()
		if !asking {
			// Not with the time that an answer may take: the library cuts a connection
			// whose ping is not through by then, behind output that nobody reads yet.
			asking = true
			go func() { answers <- c.Ping(ctx) }()
		}
		late := time.NewTimer(c.pulse.within)
		var err error
		select {
		case err = <-answers:
			asking = false
		case <-late.C:
			err = context.DeadlineExceeded // the same question may still wait
		}
		late.Stop()
		// The library gives up after some seconds a ping that could not be sent.
		excused := c.stalled.Load() > 0 || c.heard.Load() != before
		if err == nil || errors.Is(err, context.DeadlineExceeded) && excused {
			continue
		}
		if ctx.Err() != nil {
			return // it is being closed
		}
		end(errDead)
		_ = c.CloseNow() // whoever writes may be waiting for the dead
		return
	}
}

// sayLast sends the last message, and returns when the client has read that and all
// before it, however long that takes, or ctx ends: who closes a connection before has
// what is still on its way lost.
func (c *connection) sayLast(ctx context.Context, p []byte) (err error) {
	c.hold(func() {
		if err = c.Write(ctx, websocket.MessageText, p); err == nil {
			_ = c.Ping(ctx)
		}
	})
	return err
}

// say sends one message. A peer that takes much longer for it than for a ping is dead.
func (c *connection) say(kind websocket.MessageType, p []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*(c.pulse.every+c.pulse.within))
	defer cancel()
	return c.Write(ctx, kind, p)
}

// hangUp closes the connection as befits the cause.
func (c *connection) hangUp(cause error) {
	switch {
	case errors.Is(cause, errMisspoke):
		_ = c.Close(websocket.StatusPolicyViolation, cause.Error())
	case errors.Is(cause, errGoingAway):
		_ = c.Close(websocket.StatusGoingAway, cause.Error())
	case errors.Is(cause, errServerSide):
		_ = c.Close(websocket.StatusInternalError, cause.Error())
	default: // nobody is there to be told
		_ = c.CloseNow()
	}
}

// instanceOf reads the instance's number from the path.
func instanceOf(r *http.Request) (scheduler.InstanceID, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || n < 1 {
		return 0, web.Fail(http.StatusNotFound, "not_found", "id", "an instance is named by its number: list them with GET /v1/gpu-instances")
	}
	return scheduler.InstanceID(n), nil
}
