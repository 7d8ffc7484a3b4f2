package console

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"
)

// events is an answer that is a stream of server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type events struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newEvents(w http.ResponseWriter) *events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would wait for more
	return &events{w: w, rc: http.NewResponseController(w)}
}

// send sends one event. A client that does not take it in the time that
// web.Identify gives is given up.
func (e *events) send(name string, data []byte) error {
	var buf bytes.Buffer
	if name == "" {
		buf.WriteString(": still here\n") // a comment
	} else {
		buf.WriteString("event: " + name + "\n")
		for line := range strings.Lines(string(data)) {
			// A carriage return would end the line as well.
			buf.WriteString("data: " + strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\r", "&#13;") + "\n")
		}
		if len(data) == 0 {
			buf.WriteString("data:\n")
		}
	}
	buf.WriteByte('\n')
	if _, err := e.w.Write(buf.Bytes()); err != nil {
		return err
	}
	return e.rc.Flush()
}

// follow sends a part of a page at once and again whenever it looks different,
// until the client leaves, its session ends, or the part is final. Errors before
// the first byte are answered as usual.
func (c *console) follow(w http.ResponseWriter, r *http.Request, v *visit, look func() (part templ.Component, final bool, err error)) error {
	changed, stop := c.Scheduler.Subscribe()
	defer stop()
	tick := time.NewTicker(refreshEvery) // what it cost so far changes by itself
	defer tick.Stop()
	var stream *events
	var last [sha256.Size]byte // of what was sent, which need not be kept
	for {
		part, final, err := look()
		if err == nil {
			var buf bytes.Buffer
			err = part.Render(r.Context(), &buf)
			if stream == nil && err == nil {
				stream = newEvents(w)
			}
			if sum := sha256.Sum256(buf.Bytes()); err == nil && sum != last {
				last = sum
				err = stream.send("content", buf.Bytes())
			} else if err == nil {
				err = stream.send("", nil)
			}
		}
		if err != nil {
			if stream == nil {
				return err
			}
			return nil // the client comes back, and is told then
		}
		if final {
			_ = stream.send("end", nil)
			return nil
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
			if !c.stillIn(v) {
				_ = stream.send("signed-out", nil)
				return nil
			}
		case <-changed:
			time.Sleep(gather)
		}
	}
}

// gather is how long changes are collected for one event: a pull reports its
// progress more often than anybody can see.
const gather = 100 * time.Millisecond
