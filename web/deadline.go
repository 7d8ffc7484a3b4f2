package web

import (
	"io"
	"net/http"
	"time"
)

// patience is how long a peer may keep a request waiting. The server itself has
// no such limits: net/http's are for a whole request and its answer, and answers
// may stream for days.
type patience struct {
	body  time.Duration // for a request's body to arrive
	write time.Duration // for each piece of the answer to be taken
}

// Before an answer leaves, net/http reads what its handler has left of the body:
// the answer's time is the longer one.
var usualPatience = patience{body: 30 * time.Second, write: time.Minute}

// timedBody is a request's body, of a connection whose read deadline is set.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

// timeBody gives a request's body its time. Who does not read the body has
// net/http read the rest of it, within the same time.
func (p patience) timeBody(rc *http.ResponseController, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	// Where there is no connection, as in a test, there is no deadline to set.
	_ = rc.SetReadDeadline(time.Now().Add(p.body))
	r.Body = &timedBody{r.Body, rc}
}

// Read implements io.Reader. The deadline must not outlast the body: net/http
// takes its passing for the client's leaving and cancels the request.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
