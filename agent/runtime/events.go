package runtime

import (
	"context"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/typeurl/v2"
)

const (
	resubscribeMin = 100 * time.Millisecond
	resubscribeMax = 5 * time.Second
)

// Changes gives a container's name when it may have ended, and "" when anything
// may have happened to any: containerd was out of reach for a while. It is
// closed by Close.
func (r *Runtime) Changes() <-chan string { return r.changes }

// follow reads containerd's events until ctx ends, over containerd's restarts.
func (r *Runtime) follow(ctx context.Context) {
	wait := resubscribeMin
	for first := true; ctx.Err() == nil; first = false {
		began := time.Now()
		r.listen(ctx, !first)
		if time.Since(began) > resubscribeMax {
			wait = resubscribeMin
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, resubscribeMax)
	}
}

// listen returns when the stream of events breaks.
func (r *Runtime) listen(ctx context.Context, missed bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, errs := r.client.Subscribe(ctx, `topic~="^/tasks/(exit|oom|delete)$",namespace==`+r.cfg.Namespace)
	if missed {
		r.tell(ctx, "")
	}
	for {
		select {
		case <-errs:
			return
		case e := <-events:
			if e == nil {
				return
			}
			if id, ok := endOf(e.Event); ok {
				r.tell(ctx, id)
			}
		}
	}
}

// endOf gives the container whose process 1 an event is about.
func endOf(packed typeurl.Any) (id string, ok bool) {
	v, err := typeurl.UnmarshalAny(packed)
	if err != nil {
		return "", false
	}
	switch e := v.(type) {
	case *apievents.TaskExit:
		return e.ContainerID, e.ID == e.ContainerID // else it is a terminal's end
	case *apievents.TaskOOM:
		return e.ContainerID, true
	case *apievents.TaskDelete:
		return e.ContainerID, e.ID == e.ContainerID || e.ID == ""
	}
	return "", false
}

func (r *Runtime) tell(ctx context.Context, id string) {
	select {
	case r.changes <- id:
	case <-ctx.Done():
	}
}

// tellSoon is tell for callers that may not wait: if nobody listens, the next look
// finds out.
func (r *Runtime) tellSoon(id string) {
	select {
	case r.changes <- id:
	default:
	}
}
