package files

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"ecolink/web"
)

// translator makes the API's answers of tusd's: addresses below the volume's, and
// errors in the one shape.
type translator struct {
	http.ResponseWriter
	base   string
	status int // of an error that is held back; 0 for none
	body   bytes.Buffer

	mu       sync.Mutex
	read     bool // all of the request is
	cut      bool // the request was not to be read on
	answered bool // or being so
}

// Unwrap lets tusd set the connection's deadlines.
func (t *translator) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// SetReadDeadline is how a request that another one interrupts stops reading. tusd
// and our store do that from goroutines of their own, which may come late. A
// deadline that passes when nothing is being read ends the contexts of all requests
// that follow on the connection: so it is set only while the body is, and the
// connection closed behind one that may have passed.
func (t *translator) SetReadDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.answered:
		return nil
	case t.read:
		at = time.Time{}
	case !at.After(time.Now()):
		t.cut = true
	}
	return http.NewResponseController(t.ResponseWriter).SetReadDeadline(at)
}

// answer comes before the first byte of the answer.
func (t *translator) answer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answered = true; t.cut {
		t.Header().Set("Connection", "close")
	}
}

// body is the request's, watched for its end.
type body struct {
	io.ReadCloser
	out *translator
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.out.mu.Lock()
		defer b.out.mu.Unlock()
		b.out.read = true
	}
	return n, err
}

// WriteHeader implements http.ResponseWriter.
func (t *translator) WriteHeader(status int) {
	h := t.Header()
	if at := h.Get("Location"); at != "" {
		h.Set("Location", t.base+at[strings.LastIndexByte(at, '/'):])
	}
	if status >= 400 {
		t.status = status
		return
	}
	t.answer()
	t.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (t *translator) Write(p []byte) (int, error) {
	if t.status != 0 {
		return t.body.Write(p)
	}
	return t.ResponseWriter.Write(p)
}

// finish sends an error that was held back. failed is our own store's, which knows
// more than what tusd made of it.
func (t *translator) finish(r *http.Request, log *slog.Logger, failed error) {
	if t.status == 0 {
		return
	}
	if failed == nil {
		failed = protocolFailure(t.status, t.body.String())
	}
	f := web.Explain(r.Context(), log, failed)
	t.answer()
	t.Header().Del("Content-Length")
	web.WriteFailure(t.ResponseWriter, f)
}

// next is what to do about errors of the protocol, by tusd's names for them.
var next = map[string]string{
	"ERR_UNSUPPORTED_VERSION":     `send "Tus-Resumable: 1.0.0"`,
	"ERR_INVALID_CONTENT_TYPE":    `send the bytes as "Content-Type: application/offset+octet-stream"`,
	"ERR_INVALID_UPLOAD_LENGTH":   "send the file's length in bytes as Upload-Length",
	"ERR_INVALID_OFFSET":          "send the position of the first byte as Upload-Offset",
	"ERR_MISMATCHED_OFFSET":       "ask with HEAD how far the upload is, and go on from there",
	"ERR_UPLOAD_SIZE_EXCEEDED":    "send no more than Upload-Length has said",
	"ERR_NOT_IMPLEMENTED":         "send Upload-Length with the request that begins the upload",
	"ERR_LOCK_TIMEOUT":            "another request is writing this upload: try again in a moment",
	"ERR_UPLOAD_INTERRUPTED":      "another request goes on with this upload",
	"ERR_UNEXPECTED_EOF":          "ask with HEAD how far the upload is, and go on from there",
	"ERR_READ_TIMEOUT":            "ask with HEAD how far the upload is, and go on from there",
	"ERR_CONNECTION_RESET":        "ask with HEAD how far the upload is, and go on from there",
	"ERR_SERVER_SHUTDOWN":         "try again in a moment, from where HEAD says the upload is",
	"ERR_INTERNAL_SERVER_ERROR":   "",
	"ERR_AMBIGUOUS_UPLOAD_LENGTH": "send Upload-Length alone",
}

// protocolFailure makes a failure of what tusd has refused, "ERR_NAME: message".
func protocolFailure(status int, said string) error {
	name, message, _ := strings.Cut(strings.TrimSpace(said), ": ")
	if advice := next[name]; advice != "" {
		message += ": " + advice
	}
	if status == http.StatusInternalServerError { // only of what passes: our store's errors are not here
		status = http.StatusServiceUnavailable
	}
	if message == "" { // as of every HEAD
		message = "the tus protocol has no such request here: see /docs"
	}
	codes := map[int]string{
		http.StatusNotFound: "not_found", http.StatusMethodNotAllowed: "method_not_allowed", http.StatusConflict: "conflict",
		http.StatusPreconditionFailed: "unsupported_version", http.StatusRequestEntityTooLarge: "request_too_large",
		http.StatusLocked: "conflict", http.StatusServiceUnavailable: "unavailable", http.StatusNotImplemented: "not_implemented",
	}
	code := codes[status]
	if code == "" {
		code = "invalid_request"
	}
	return web.Fail(status, code, "", message)
}
