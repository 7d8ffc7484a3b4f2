package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"ecolink/scheduler"
	"ecolink/web"
)

// forward is a request that is let through.
type forward struct {
	target   target
	instance scheduler.Instance
	path     string // in its encoding
	prefix   string // that was taken off it, without a slash at its end
	shared   bool   // the answer leaves on the console's origin
	scripts  bool   // and is a page for a browser, which may run its scripts
	private  bool   // only members see it
}

func (f forward) port() int {
	if f.target.kind == Jupyter {
		return scheduler.JupyterPort
	}
	return f.instance.ServicePort
}

// check refuses what has nothing to forward to.
func (f forward) check() error {
	i := f.instance
	switch {
	case f.target.kind == Jupyter && i.JupyterToken == "":
		return web.Fail(http.StatusNotFound, "not_found", "", fmt.Sprintf("instance %d has no Jupyter: launch an image whose name contains jupyter", i.ID))
	case f.target.kind == Service && i.ServicePort == 0:
		return web.Fail(http.StatusNotFound, "not_found", "", fmt.Sprintf("instance %d has no service port: set one on its page, or with `ecolink instance service %s --port 8000`", i.ID, i.Name))
	case i.State != scheduler.Running:
		return web.Fail(http.StatusConflict, "conflict", "", fmt.Sprintf("instance %d is %s: it answers while it is running", i.ID, i.State))
	}
	return nil
}

// forward passes a request on and its answer back. good is asked from time to time
// whether it may go on.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request, f forward, good func() bool) {
	if err := f.check(); err != nil {
		p.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := p.watch(cancel, good)
	defer stop()
	r = r.WithContext(ctx)
	// A service may answer while it still reads, and net/http would else take what has
	// not come yet of the body away from it. Where there is no connection, as in a
	// test, there is nothing to do.
	_ = http.NewResponseController(w).EnableFullDuplex()
	patientBody(w, r)
	outer, scheme := r.Host, p.Origins.scheme
	if f.shared {
		scheme = p.Origins.console.Scheme
	}
	(&httputil.ReverseProxy{
		Transport: p.transport, FlushInterval: -1, BufferPool: &p.buffers,
		Rewrite: func(pr *httputil.ProxyRequest) { f.rewrite(pr, scheme) },
		ModifyResponse: func(res *http.Response) error {
			f.answer(res, outer)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { p.failed(w, r, f, err) },
	}).ServeHTTP(&final{w, w.Header().Clone()}, r)
}

// final passes on no answer but the last one. What a container says before it, as
// 103, goes past our corrections of headers, and ReverseProxy then forgets those
// that were set before it.
type final struct {
	http.ResponseWriter
	before http.Header // what was set when the request came here
}

// WriteHeader implements http.ResponseWriter.
func (f *final) WriteHeader(status int) {
	if status < http.StatusOK {
		return
	}
	h := f.Header()
	for name, values := range f.before {
		if len(h[name]) == 0 {
			h[name] = values
		}
	}
	f.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what the server offers.
func (f *final) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// watch cancels a request once it would not be let in any more.
func (p *proxy) watch(cancel context.CancelFunc, good func() bool) (stop func()) {
	var mu sync.Mutex
	var over bool
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(p.recheck, func() {
		if !good() {
			cancel()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !over {
			timer.Reset(p.recheck)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// rewrite makes the request that the container gets.
func (f forward) rewrite(pr *httputil.ProxyRequest, scheme string) {
	in, out := pr.In, pr.Out
	stripRequest(out.Header)
	if f.shared {
		out.Header.Del("Cookie") // the console's origin has none but ours
	}
	path, err := url.PathUnescape(f.path)
	if err != nil { // net/http has parsed it before
		path = f.path
	}
	out.URL = &url.URL{
		// The name stands for the connections: they are shared by what has the same.
		Scheme: "http", Host: net.JoinHostPort(f.instance.Workload(), strconv.Itoa(f.port())),
		Path: path, RawPath: f.path, RawQuery: in.URL.RawQuery, ForceQuery: in.URL.ForceQuery,
	}
	out.Host = in.Host
	out.Header.Set("X-Forwarded-For", web.From(in))
	out.Header.Set("X-Forwarded-Host", in.Host)
	out.Header.Set("X-Forwarded-Proto", scheme)
	if f.prefix != "" {
		out.Header.Set("X-Forwarded-Prefix", f.prefix)
	}
	if f.target.kind == Jupyter {
		out.Header.Set("Authorization", "token "+f.instance.JupyterToken)
	}
}

// answer corrects the answer that a caller gets.
func (f forward) answer(res *http.Response, outer string) {
	h := res.Header
	stripResponse(h, f.shared)
	for _, name := range []string{"Location", "Content-Location"} {
		if v := h.Get(name); v != "" {
			h.Set(name, relocate(v, outer, f.prefix, f.port()))
		}
	}
	switch {
	case f.shared && f.scripts:
		// Without allow-same-origin the page has an origin of its own, equal to none.
		h.Add("Content-Security-Policy", "sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts")
	case f.shared:
		h.Add("Content-Security-Policy", "sandbox")
	case f.private:
		h.Add("Content-Security-Policy", "frame-ancestors 'self'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	}
	if f.shared {
		h.Set("X-Content-Type-Options", "nosniff")
	}
}

// dial connects to the port of the instance that an address names.
func (p *proxy) dial(ctx context.Context, _, address string) (net.Conn, error) {
	name, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	id, ok := number(strings.TrimPrefix(name, "instance-"))
	port, err := strconv.Atoi(service)
	if !ok || err != nil {
		return nil, fmt.Errorf("%s is no port of an instance", address)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.Instances.DialPort(ctx, id, port)
	if err != nil { // whatever it is, no request has left
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return conn, nil
}

// failed answers for a container that did not.
func (p *proxy) failed(w http.ResponseWriter, r *http.Request, f forward, err error) {
	if r.Context().Err() != nil && !errors.Is(err, context.DeadlineExceeded) {
		p.refuse(w, r, context.Canceled) // nobody is left to read it
		return
	}
	i := f.instance
	p.Log.DebugContext(r.Context(), "a request could not be forwarded", "request_id", web.RequestID(r.Context()), "instance", i.ID, "port", f.port(), "err", err)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		p.refuse(w, r, web.Fail(http.StatusBadGateway, "bad_gateway", "", fmt.Sprintf("instance %d broke off its answer on port %d: try again, and look at its log if it stays", i.ID, f.port())))
		return
	}
	message := fmt.Sprintf("nothing listens on port %d of instance %d: start the service in its terminal, or change its service port", f.port(), i.ID)
	if f.target.kind == Jupyter {
		message = fmt.Sprintf("Jupyter does not answer in instance %d: it takes a moment to start. "+
			"If the image or the start command does not start it, run `jupyter lab` in the terminal; its port has to be %d", i.ID, f.port())
	}
	p.refuse(w, r, web.Fail(http.StatusBadGateway, "bad_gateway", "", message))
}

// patientBody gives each piece of a request's body its time, in place of the whole
// one's: an upload may take as long as it goes on.
func patientBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	r.Body = &body{r.Body, http.NewResponseController(w)}
}

type body struct {
	io.ReadCloser
	rc *http.ResponseController
}

// Read implements io.Reader. The deadline must not outlast the body: net/http
// takes its passing for the client's leaving.
func (b *body) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(bodyPatience))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// pool lends buffers for copying.
type pool struct{ sync.Pool }

// Get implements httputil.BufferPool.
func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, copyBufferBytes)
}

// Put implements httputil.BufferPool.
func (p *pool) Put(b []byte) { p.Pool.Put(&b) }
