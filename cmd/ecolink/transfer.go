package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// stallTime is how long a transfer may bring nothing before its connection counts
// as lost.
const stallTime = 45 * time.Second

// exchange sends a request that is no JSON. The caller closes the answer. It ends
// when alive is not called for stallTime.
func (c *client) exchange(ctx context.Context, method, path string, body io.Reader, size int64, header ...string) (resp *http.Response, alive func(), err error) {
	ctx, hangUp := context.WithCancel(ctx)
	stalled := time.AfterFunc(stallTime, hangUp)
	alive = func() { stalled.Reset(stallTime) }
	if body != nil {
		body = &noticing{body, alive}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		hangUp()
		return nil, nil, err
	}
	req.ContentLength = size
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err = c.http.Do(req)
	if err != nil {
		hangUp()
		return nil, nil, &lostError{c.base, err}
	}
	resp.Body = &closing{resp.Body, func() { stalled.Stop(); hangUp() }}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, nil, readError(resp)
	}
	return resp, alive, nil
}

// noticing tells of each piece that is read.
type noticing struct {
	io.Reader
	read func()
}

func (n *noticing) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	n.read()
	return k, err
}

// closing does something more when it is closed.
type closing struct {
	io.ReadCloser
	then func()
}

func (c *closing) Close() error {
	defer c.then()
	return c.ReadCloser.Close()
}

// passes tells whether what went wrong passes by itself: a lost connection, or a
// server that is restarting. A volume that is full does not.
func passes(err error) bool {
	if errors.As(err, new(*lostError)) { // also for what the server said, where that passes
		return true
	}
	var refused *apiError
	if errors.As(err, &refused) && refused.Status == http.StatusInsufficientStorage {
		return false
	}
	return transient(err)
}

// meter shows how far a transfer is: on a terminal as a line that changes,
// elsewhere one line when it is done.
type meter struct {
	w     io.Writer
	width func() int // 0 where w is no terminal
	last  time.Time
}

func newMeter(w io.Writer) *meter { return &meter{w: w, width: newScreen(w).width} }

// show draws; unless it is the end, not more often than anybody can read.
func (m *meter) show(name string, done, size int64) {
	width := m.width()
	if width == 0 || time.Since(m.last) < 100*time.Millisecond {
		return
	}
	m.last = time.Now()
	percent := 100
	if size > 0 {
		percent = int(100 * done / size)
	}
	line := []rune(fmt.Sprintf("%3d%%  %s of %s  %s", percent, byteSize(done), byteSize(size), printable(name)))
	fmt.Fprintf(m.w, "\r\x1b[K%s", string(line[:min(len(line), width-1)]))
}

// say writes a line that stays.
func (m *meter) say(format string, args ...any) {
	if m.width() > 0 {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
	fmt.Fprintln(m.w, printable(fmt.Sprintf(format, args...)))
}

// counted counts what is read for a meter.
type counted struct {
	io.Reader
	n     int64
	count func(n int64)
}

func (c *counted) Read(p []byte) (int, error) {
	k, err := c.Reader.Read(p)
	c.n += int64(k)
	c.count(c.n)
	return k, err
}
