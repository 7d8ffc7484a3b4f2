package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"ecolink/scheduler"
)

// errLeft ends what a client does not want any more.
var errLeft = errors.New("the client has left")

// connection is one person's, who is in.
type connection struct {
	*admission
	conn     *ssh.ServerConn
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request

	ctx    context.Context
	cancel context.CancelCauseFunc
	slots  chan struct{} // one for each channel
	noes   chan struct{} // one for each refusal that is not sent yet
	gone   chan struct{} // closed when the connection is, and why is known
	why    error
	others sync.WaitGroup

	mu       sync.Mutex
	ended    bool // no session begins any more
	sessions sync.WaitGroup
	forwards forwards
}

func newConnection(s *Server, conn *ssh.ServerConn, a *admission, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) *connection {
	c := &connection{admission: a, conn: conn, channels: channels, requests: requests, slots: make(chan struct{}, maxChannels), noes: make(chan struct{}, maxRefusals), gone: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	c.forwards.listeners = map[string]net.Listener{}
	return c
}

// end closes the connection; people read why.
func (c *connection) end(cause error) { c.cancel(cause) }

// recheck ends the connection if its person may not stay.
func (c *connection) recheck() {
	if c.refusal != nil {
		return // it ends by itself
	}
	err := c.server.gate.MayStay(c.entry)
	var problem *scheduler.Problem
	if errors.As(err, &problem) {
		c.end(problem)
	} else if err != nil {
		c.server.log.Error("an SSH connection could not be checked", "instance", c.entry.Instance, "err", err)
	}
}

// run serves the connection until it ends, and returns when all that belongs to it
// has.
func (c *connection) run() {
	c.recheck() // what has changed during the log-in
	c.others.Go(func() {
		c.why = c.conn.Wait()
		close(c.gone)
	})
	c.others.Go(c.keepAlive)
	c.others.Go(c.answerRequests)
	c.others.Go(c.hangUp)
	if c.refusal != nil {
		stop := time.AfterFunc(connectTime, func() { c.end(c.refusal) }) // who opens no session waits for nothing
		defer stop.Stop()
	}
	for channel := range c.channels {
		c.open(channel)
	}
	c.cancel(errLeft)
	c.others.Wait() // for hangUp above all, which waits for sessions
}

// open serves a channel that the client wants. It does not wait, since the client's
// other channels would: but for a client that reads no answers, who could else have
// any number of them kept here.
func (c *connection) open(channel ssh.NewChannel) {
	reject := func(reason ssh.RejectionReason, message string) {
		select {
		case c.noes <- struct{}{}:
		case <-c.ctx.Done():
			return
		}
		c.others.Go(func() {
			defer func() { <-c.noes }()
			_ = channel.Reject(reason, message)
		})
	}
	var serve func(ssh.NewChannel)
	session := false
	switch channel.ChannelType() {
	case "session":
		serve, session = c.session, true
	case "direct-tcpip":
		serve = c.forwardOut
	default:
		reject(ssh.UnknownChannelType, "EcoLink has no channels of this type")
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		reject(ssh.ResourceShortage, "too many sessions and forwarded connections at once")
		return
	}
	done := func() { <-c.slots }
	if session && !c.beginSession() {
		done()
		reject(ssh.ConnectionFailed, "the connection is being closed")
		return
	}
	c.others.Go(func() {
		defer done()
		if session {
			defer c.sessions.Done()
		}
		serve(channel)
	})
}

// beginSession counts a session, unless the connection ends.
func (c *connection) beginSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.sessions.Add(1)
	}
	return !c.ended
}

// hangUp closes the connection once it is to end, after its sessions have said why.
func (c *connection) hangUp() {
	<-c.ctx.Done()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.forwards.closeAll()
	said := make(chan struct{})
	go func() {
		c.sessions.Wait()
		close(said)
	}()
	select {
	case <-said:
	case <-time.After(farewell):
	}
	_ = c.conn.Close()
	<-said // closing has ended them all
}

// keepAlive asks the client for a sign of life, and hangs up when there is none.
func (c *connection) keepAlive() {
	tick := time.NewTicker(c.server.times.keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case <-c.ctx.Done():
			return
		case err := <-answered:
			if err == nil {
				continue
			}
		case <-time.After(c.server.times.silence):
			c.server.log.Info("SSH: a client does not answer any more", "instance", c.entry.Instance)
		}
		c.end(errLeft)
		return // closing ends a request that waits
	}
}

// answerRequests answers what is asked of the connection as a whole.
func (c *connection) answerRequests() {
	for r := range c.requests {
		var answer []byte
		ok := false
		switch r.Type {
		case "tcpip-forward":
			ok, answer = c.forwardIn(r.Payload)
		case "cancel-tcpip-forward":
			ok = c.stopForward(r.Payload)
		case "keepalive@openssh.com":
			ok = true
		}
		if r.WantReply {
			_ = r.Reply(ok, answer) // a client that is gone shows elsewhere
		}
	}
}

// onPurpose tells whether the client left by itself, and was not cut off: it closed
// the channel, or the whole connection in order.
func (c *connection) onPurpose() bool {
	select {
	case <-c.gone:
		return errors.Is(c.why, io.EOF) || c.why != nil && strings.HasPrefix(c.why.Error(), "ssh: disconnect, reason 11")
	case <-time.After(100 * time.Millisecond):
		return c.ctx.Err() == nil
	}
}

// explain is an error in words for people.
func (c *connection) explain(err error) string {
	var problem *scheduler.Problem
	switch {
	case errors.As(err, &problem):
		return problem.Message
	case errors.Is(err, errStopping):
		return errStopping.Error()
	}
	c.server.log.Error("SSH: something failed", "instance", c.entry.Instance, "err", err)
	return "something went wrong inside EcoLink: try again, and tell the operator if it stays"
}
