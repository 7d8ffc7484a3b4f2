package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"ecolink/agent"
)

// Limits of a terminal.
const (
	// dialTime bounds one try to connect.
	dialTime = 10 * time.Second
	// settledTime is how long a connection without output must stay up to count
	// as back: a server that takes connections and drops them is not.
	settledTime = 5 * time.Second
	// lastOutputTime is how long leaving waits for a screen that takes no output.
	lastOutputTime = time.Second
)

// errLeft is why an attachment ends that the user has left.
var errLeft = errors.New("left the terminal")

const ctrlC = 0x03

// clearScreen resets modes, leaves full-screen programs' screen and clears what is
// seen, for output that does not go on from what is there.
const clearScreen = resetScreen + "\x1b[H\x1b[2J"

// attachment joins a person's keyboard and screen to a shell that lives on
// elsewhere, across as many connections as it takes. Every byte of the shell's
// output is written to out once and in order: next says how far that has come,
// and each new connection begins there.
type attachment struct {
	// dial connects to the shell, whose output it asks for from an offset on;
	// below zero, all that is kept.
	dial    func(ctx context.Context, from int64) (agent.Terminal, error)
	size    func() (cols, rows uint16)
	resized <-chan os.Signal
	typed   <-chan []byte // without the keys that leave
	out     io.Writer
	notice  *notice
	outage  outage

	next int64
}

// run shows the shell that t is connected to, until it has ended (nil), the user
// leaves (errLeft), ctx ends (its cause) or the connection does not come back.
func (a *attachment) run(ctx context.Context, t agent.Terminal) error {
	a.next = t.Start()
	if _, err := a.out.Write(t.Prologue()); err != nil {
		return screenError{err}
	}
	for {
		since := time.Now()
		err := a.relay(ctx, t)
		switch {
		case errors.Is(err, agent.ErrTerminalEnded):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(screenError)):
			return err
		}
		if time.Since(since) >= settledTime {
			a.outage.over()
		}
		if t, err = a.comeBack(ctx, err); err != nil {
			return err
		}
	}
}

// screenError is a screen that takes no output any more: nobody is there.
type screenError struct{ err error }

func (e screenError) Error() string { return fmt.Sprintf("write to the screen: %v", e.err) }

// relay works one connection to its end, which only the output tells: a shell's
// last words may still be on their way when typing fails.
func (a *attachment) relay(ctx context.Context, t agent.Terminal) error {
	connected, end := context.WithCancelCause(ctx)
	defer end(nil)
	var both sync.WaitGroup
	both.Go(func() { end(a.showOutput(t)) })
	both.Go(func() { a.sendInput(connected, t) })
	<-connected.Done()
	_ = t.Close()
	done := make(chan struct{})
	go func() { both.Wait(); close(done) }()
	select {
	case <-done:
	case <-afterEnd(ctx, lastOutputTime): // the screen is stuck, and the process is about to exit
	}
	return context.Cause(connected)
}

// afterEnd is closed some time after ctx has ended.
func afterEnd(ctx context.Context, d time.Duration) <-chan struct{} {
	out := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { close(out) }) })
	return out
}

func (a *attachment) showOutput(t agent.Terminal) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.Read(buf)
		if n > 0 {
			if _, err := a.out.Write(buf[:n]); err != nil {
				return screenError{err}
			}
			a.next += int64(n)
			a.outage.over()
		}
		if err != nil {
			return err
		}
	}
}

func (a *attachment) sendInput(ctx context.Context, t agent.Terminal) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-a.typed:
			_, _ = t.Write(p) // if it fails, so does reading, which says why
		case <-a.resized:
			cols, rows := a.size()
			_ = t.Resize(ctx, cols, rows)
		}
	}
}

// comeBack connects again where the output stopped. Meanwhile what is typed goes
// nowhere, since nobody sees it, but ctrl-C leaves.
func (a *attachment) comeBack(ctx context.Context, why error) (agent.Terminal, error) {
	away, end := context.WithCancelCause(ctx)
	var typing sync.WaitGroup
	defer typing.Wait()
	defer end(nil)
	typing.Go(func() { a.ignoreTyping(away, end) })
	defer a.notice.clear()
	for {
		err := a.outage.wait(away)
		if away.Err() != nil {
			return nil, context.Cause(away)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", err, why)
		}
		t, err := a.redial(away)
		if err == nil {
			return t, nil
		}
		if away.Err() != nil {
			return nil, context.Cause(away)
		}
		if !transient(refusedBySocket(err)) && errors.As(refusedBySocket(err), new(*apiError)) {
			return nil, refusedBySocket(err)
		}
		why = err
		a.notice.show("connection lost, trying to come back; ctrl-C leaves, the shell lives on")
	}
}

func (a *attachment) ignoreTyping(ctx context.Context, end context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-a.typed:
			if bytes.IndexByte(p, ctrlC) >= 0 {
				end(errLeft)
				return
			}
		}
	}
}

// redial connects from a.next on. What the server no longer keeps is skipped, and
// said so. A shell whose output does not reach a.next is not the same one: the
// old one has ended while nobody looked, and its successor is shown from its start.
func (a *attachment) redial(ctx context.Context) (agent.Terminal, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	t, err := a.dial(ctx, a.next)
	if err != nil {
		return nil, err
	}
	missed := t.Start() - a.next
	if missed < 0 {
		_ = t.Close()
		if t, err = a.dial(ctx, -1); err != nil {
			return nil, err
		}
	}
	a.notice.clear()
	switch {
	case missed < 0:
		a.notice.say("the shell has ended meanwhile; this is a new one")
	case missed > 0:
		a.notice.say(fmt.Sprintf("%s of output were too much to keep and are missing here", byteSize(missed)))
	}
	a.next = t.Start()
	if prologue := t.Prologue(); len(prologue) > 0 {
		_, _ = io.WriteString(a.out, clearScreen) // writing output tells if the screen is gone
		_, _ = a.out.Write(prologue)
	}
	return t, nil
}
