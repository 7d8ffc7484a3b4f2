package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of what a registry may ask of us.
const (
	busyDefault = time.Second      // wait after a 429 that does not say how long
	busyMost    = 60 * time.Second // a registry that asks for more gets its requests then
	maxShort    = 8 << 20          // bytes of an answer that is no blob: a manifest, a token
	maxBusy     = 256              // hosts whose wishes are remembered
)

// patient is the transport of all requests: it bounds every wait, and heeds a
// registry that wants fewer requests.
type patient struct {
	next  *http.Transport
	stall time.Duration

	mu   sync.Mutex
	busy map[string]time.Time // until when a host wants none
}

func newPatient(cfg Config, g guard) *patient {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = g.dial(proxies())
	t.ResponseHeaderTimeout = cfg.HeaderTimeout
	t.TLSClientConfig = cfg.TLS.Clone()
	t.MaxResponseHeaderBytes = 64 << 10
	return &patient{next: t, stall: cfg.StallTimeout, busy: map[string]time.Time{}}
}

// proxies are the hosts that the operator's environment (HTTPS_PROXY) has requests
// go through, wherever they are.
func proxies() map[string]bool {
	out := map[string]bool{}
	for _, scheme := range []string{"http", "https"} {
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "registry.invalid"}})
		if err != nil || proxy == nil {
			continue
		}
		host := proxy.Host
		if proxy.Port() == "" {
			host = net.JoinHostPort(proxy.Hostname(), map[string]string{"http": "80", "https": "443"}[proxy.Scheme])
		}
		out[host] = true
	}
	return out
}

// RoundTrip implements http.RoundTripper.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := p.await(r.Context(), r.URL.Host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	resp, err := p.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel(err)
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		p.note(r.URL.Host, resp.Header.Get("Retry-After"))
	}
	b := &body{ReadCloser: resp.Body, cancel: cancel, left: maxShort}
	if blob(r) {
		b.left = -1
	}
	b.timer = time.AfterFunc(p.stall, func() { cancel(ErrStalled) })
	b.timer.Stop() // it runs while somebody reads
	b.ctx, b.stall = ctx, p.stall
	resp.Body = b
	return resp, nil
}

// blob tells whether the answer may have any length: a blob's, also where a
// registry has sent us to its store for it.
func blob(r *http.Request) bool {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return strings.Contains(r.URL.Path, "/blobs/")
}

// await waits until the host takes requests again.
func (p *patient) await(ctx context.Context, host string) error {
	p.mu.Lock()
	until := p.busy[host]
	p.mu.Unlock()
	wait := time.Until(until)
	if wait <= 0 {
		return nil
	}
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		return &BusyError{host, until}
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// note remembers for how long a host wants no requests: RFC 9110 section 10.2.3.
func (p *patient) note(host, retryAfter string) {
	wait := busyDefault
	if n, err := strconv.Atoi(retryAfter); err == nil {
		wait = time.Duration(min(max(n, 0), int(busyMost/time.Second))) * time.Second
	} else if at, err := http.ParseTime(retryAfter); err == nil {
		wait = time.Until(at)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.busy) >= maxBusy {
		clear(p.busy)
	}
	p.busy[host] = time.Now().Add(min(max(wait, 0), busyMost))
}

// body is an answer's body that must not stall, nor go on for ever.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	left   int64 // bytes that it may still have; below zero any
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	// Not the time that the reader takes for what it has got.
	b.timer.Stop()
	if b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			return 0, ErrTooLong
		}
	}
	if err != nil && err != io.EOF && errors.Is(context.Cause(b.ctx), ErrStalled) {
		err = ErrStalled
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
