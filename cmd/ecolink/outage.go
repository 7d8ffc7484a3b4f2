package main

import (
	"context"
	"errors"
	"time"
)

// Times of a lost connection.
const (
	// patience is how long a connection may stay lost: longer than a restart of
	// EcoLink or a change of network takes.
	patience = time.Minute
	// longestDelay is the most time between two tries to come back.
	longestDelay = 5 * time.Second
)

var errGaveUp = errors.New("the connection did not come back")

// outage waits between tries to come back: not at all before the first, then
// longer and longer, until patience ends. The zero value has seen no outage.
type outage struct {
	patience time.Duration // 0 means the constant
	since    time.Time
	tries    int
}

// wait gives errGaveUp when it is time to, and ctx's error when that ends.
func (o *outage) wait(ctx context.Context) error {
	now, delay := time.Now(), time.Duration(0)
	if o.tries == 0 {
		o.since = now
	} else {
		delay = min(longestDelay, 250*time.Millisecond<<min(o.tries-1, 10))
	}
	limit := o.patience
	if limit == 0 {
		limit = patience
	}
	if now.Add(delay).Sub(o.since) > limit {
		return errGaveUp
	}
	o.tries++
	return pause(ctx, delay)
}

// over says that the connection is back and works.
func (o *outage) over() { o.tries = 0 }
