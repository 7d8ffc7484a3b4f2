package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ecolink/web"
)

// stream is an answer that is written by its own function: JSON, or events.
type stream struct {
	Body func(huma.Context)
}

// orEvents documents that an answer may also be a stream of server-sent events.
func orEvents(r *huma.Response) *huma.Response {
	r.Content["text/event-stream"] = &huma.MediaType{Schema: &huma.Schema{
		Type: huma.TypeString, Description: "Server-sent events. The data of each is the JSON of the other content type; for logs, of one line.",
	}}
	return r
}

// view is what a watcher sees at one moment.
type view struct {
	data     any
	compared any  // data without what changes only because time passes
	last     bool // nothing will follow
}

// watchOrShow reads once, so that an error is an ordinary answer, and then
// either shows that or watches.
func (a *api) watchOrShow(watch bool, event string, read func() (view, error)) (*stream, error) {
	now, err := read()
	if err != nil {
		return nil, err
	}
	if watch {
		return &stream{func(ctx huma.Context) { a.watch(ctx, event, read) }}, nil
	}
	return &stream{func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		ctx.SetStatus(http.StatusOK)
		// A client who has hung up does not get it: nobody is left to tell.
		_ = huma.DefaultJSONFormat.Marshal(ctx.BodyWriter(), now.data)
	}}, nil
}

// watch sends what read gives, at once and then whenever it differs from what was
// sent, until read says that it was the last or the client has left.
func (a *api) watch(hc huma.Context, event string, read func() (view, error)) {
	ctx := hc.Context()
	changed, stop := a.Scheduler.Subscribe() // before the first read, so that no change is missed
	defer stop()
	s := openEvents(hc)
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	var sent [sha256.Size]byte // of what was compared last, which may be megabytes
	for {
		began := time.Now()
		v, err := read()
		if err != nil {
			// Too late for an answer; whoever watches will ask again.
			web.Explain(ctx, a.Log, err)
			return
		}
		compared, err := json.Marshal(v.compared)
		if err != nil {
			web.Explain(ctx, a.Log, err)
			return
		}
		if sum := sha256.Sum256(compared); sum != sent {
			s.event(event, v.data)
			if s.flush() != nil {
				return
			}
			sent = sum
		}
		if v.last {
			return
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				waiting = false
				// A burst of changes is few readings: the first news goes out at
				// once, what follows on its heels together.
				time.Sleep(gatherTime - time.Since(began))
			case <-alive.C:
				s.comment()
				if s.flush() != nil {
					return
				}
			}
		}
	}
}

// events writes server-sent events: the HTML standard, section 9.2.
type events struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	next bytes.Buffer // what the next flush sends
}

// openEvents begins the answer. The client has its header before the first event.
func openEvents(ctx huma.Context) *events {
	_, w := humago.Unwrap(ctx)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events until it has a page full
	w.WriteHeader(http.StatusOK)
	s := &events{w: w, rc: http.NewResponseController(w)}
	s.comment()
	_ = s.flush() // a client who has left already is found by the next one
	return s
}

func (s *events) event(name string, data any) {
	s.next.WriteString("event: " + name + "\ndata: ")
	// It ends the line itself. All that is sent here is made of plain types.
	if err := huma.DefaultJSONFormat.Marshal(&s.next, data); err != nil {
		panic(err)
	}
	s.next.WriteString("\n")
}

func (s *events) comment() { s.next.WriteString(": alive\n\n") }

// flush sends what there is. An error means that the client has left, or has not
// read for so long that it might as well have: web.Identify gives each write its
// time.
func (s *events) flush() error {
	if _, err := s.w.Write(s.next.Bytes()); err != nil {
		return err
	}
	if s.next.Reset(); s.next.Cap() > maxKept {
		s.next = bytes.Buffer{}
	}
	return s.rc.Flush()
}
