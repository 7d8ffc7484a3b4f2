package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"ecolink/scheduler"
)

// watchInstance yields an instance as it is and then after every change, until it
// is over. Lost connections are made anew: only what a change led to is told, so
// nothing is missed by that.
func (c *client) watchInstance(ctx context.Context, id int64) iter.Seq2[record[instance], error] {
	return func(yield func(record[instance], error) bool) {
		var off outage
		for {
			var broke error
			for data, err := range c.events(ctx, instance{ID: id}.path()+"?watch=true") {
				var i record[instance]
				if err == nil {
					err = json.Unmarshal(data, &i)
				}
				if err != nil {
					broke = err
					break
				}
				off.over()
				if !yield(i, nil) || i.V.State.Final() {
					return
				}
			}
			if broke != nil && !transient(broke) {
				yield(record[instance]{}, broke)
				return
			}
			if err := off.wait(ctx); err != nil {
				yield(record[instance]{}, errors.Join(err, broke))
				return
			}
			if broke == nil { // a server that stops ends its streams; don't run in circles
				if err := pause(ctx, time.Second/4); err != nil {
					yield(record[instance]{}, err)
					return
				}
			}
		}
	}
}

// transient tells whether trying again may help.
func transient(err error) bool {
	var refused *apiError
	if errors.As(err, &refused) {
		return refused.Status >= 500 || refused.Status == http.StatusTooManyRequests
	}
	var lost *lostError
	return errors.As(err, &lost)
}

// waitUntilRunning shows how an instance gets to run. An instance that failed, or
// was ended before it ran, is an error.
func (c *client) waitUntilRunning(ctx context.Context, i record[instance], s *screen) (record[instance], error) {
	defer s.done()
	s.show(i.V)
	if i.V.everRan() {
		return i, nil
	}
	var broke error
	for now, err := range c.watchInstance(ctx, i.V.ID) {
		if broke = err; err != nil {
			break
		}
		i = now
		s.show(i.V)
		if i.V.everRan() || i.V.over() {
			break
		}
	}
	switch {
	case broke != nil:
		s.done()
		fmt.Fprintf(s.w, "%v goes on: see `ecolink instance show %s`\n", i.V, i.V.Name)
		return i, fmt.Errorf("wait for %v: %w", i.V, broke)
	case i.V.everRan():
		return i, nil
	case i.V.State == scheduler.Failed:
		return i, fmt.Errorf("%v failed: %s; nothing was charged", i.V, i.V.remark())
	default:
		return i, fmt.Errorf("%v was ended before it ran: %s", i.V, i.V.remark())
	}
}

// commandGrace is how long a start command has to fail while its launch still looks,
// from when the box answers, which may take commandWait. EcoLink mostly tells within
// it of one that could not start.
const (
	commandGrace = 300 * time.Millisecond
	commandWait  = 3 * time.Second
)

// awaitCommand gives the start command of a running instance a moment to fail. What
// can't be learned meanwhile is not known: the launch itself went well.
func (c *client) awaitCommand(ctx context.Context, i record[instance]) record[instance] {
	limit, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	answered := false
	for now, err := range c.watchInstance(limit, i.V.ID) {
		if err != nil {
			break
		}
		if i = now; i.V.CommandFailed {
			break
		}
		if !answered {
			answered = true
			defer time.AfterFunc(commandGrace, cancel).Stop()
		}
	}
	return i
}
