package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// client talks to an EcoLink API.
type client struct {
	base string // "http://127.0.0.1:7070"
	key  string
	http *http.Client
}

// apiError is what the API answered instead of a result.
type apiError struct {
	Status    int    `json:"-"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	Param     string `json:"param"`
	RequestID string `json:"request_id"`
}

func (e *apiError) Error() string {
	text := e.Message
	if e.Param != "" && !strings.HasPrefix(text, e.Param+" ") { // it may begin with that already
		text = e.Param + ": " + text
	}
	if e.Status >= 500 && e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// exitCode lets scripts tell refusals apart without reading messages.
func (e *apiError) exitCode() int {
	switch {
	case e.Status == http.StatusPaymentRequired:
		return 3
	case e.Status == http.StatusNotFound:
		return 4
	case e.Status == http.StatusConflict:
		return 5
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return 6
	case e.Status < 500:
		return 2
	default:
		return 1
	}
}

// request is one call of the API.
type request struct {
	method, path string
	in           any    // JSON, or nil
	key          string // Idempotency-Key: sent again, it does what it does once
	repeatable   bool   // sending it again does no more than sending it once
}

// retryPause is how long a call that got no answer waits for its second try.
const retryPause = 300 * time.Millisecond

// lostError is a call that got no answer: it may have been carried out or not.
type lostError struct {
	base string
	err  error
}

func (e *lostError) Error() string {
	var u *url.Error
	if errors.As(e.err, &u) { // without its URL: the base says enough
		return fmt.Sprintf("%s does not answer (%v): is EcoLink running there?", e.base, u.Err)
	}
	return fmt.Sprintf("the answer of %s broke off (%v): try again", e.base, e.err)
}

func (e *lostError) Unwrap() error { return e.err }

// do sends a request; in and out are JSON, or nil.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	return c.call(ctx, request{method: method, path: path, in: in}, out)
}

// call sends a request and reads its answer into out, which may be nil. One that
// is safe to repeat and got no answer is sent once more.
func (c *client) call(ctx context.Context, r request, out any) error {
	raw, err := c.fetch(ctx, r)
	var lost *lostError
	if errors.As(err, &lost) && r.mayRepeat() && pause(ctx, retryPause) == nil {
		raw, err = c.fetch(ctx, r)
	}
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: the answer can't be read (%w): is it an EcoLink of this version?", r.method, r.path, err)
	}
	return nil
}

func (r request) mayRepeat() bool {
	return r.repeatable || r.key != "" || r.method == http.MethodGet || r.method == http.MethodDelete
}

// pause waits, or gives ctx's error when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// callTime bounds one attempt. A launch asks the image's registry.
const callTime = 2 * time.Minute

func (c *client) fetch(ctx context.Context, r request) ([]byte, error) {
	attempt, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := c.send(attempt, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	return raw, nil
}

// broken makes a connection's error one to tell; that of a user who has pressed
// ctrl-C stays what it is.
func (c *client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &lostError{c.base, err}
}

// send gives the answer, which the caller closes, or what the API refused.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.in != nil {
		raw, err := json.Marshal(r.in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, err
	}
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// newIdempotencyKey names one intention of the user's, however often it is sent.
func newIdempotencyKey() string { return "cli-" + rand.Text() }

func readError(resp *http.Response) error {
	var body struct{ Error apiError }
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(raw, &body) != nil || body.Error.Message == "" {
		body.Error.Message = fmt.Sprintf("%s answered %s", resp.Request.URL.Host, resp.Status)
	}
	body.Error.Status = resp.StatusCode
	return &body.Error
}

// Limits of an event stream.
const (
	// maxEventBytes is the longest event that is read: a list of many instances.
	maxEventBytes = 16 << 20
	// streamSilence is how long a stream may say nothing before it counts as
	// lost. The API says something every 15 seconds.
	streamSilence = 45 * time.Second
)

// events yields the data of a server-sent event stream until it ends. An error is
// the last thing that it yields; a stream that the server ended has none. Only the
// empty line behind an event says that all of it is here: what a lost connection
// cut short is not yielded.
func (c *client) events(ctx context.Context, path string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		connection, hangUp := context.WithCancel(ctx)
		defer hangUp()
		resp, err := c.send(connection, request{method: http.MethodGet, path: path})
		if err != nil {
			yield(nil, err)
			return
		}
		defer resp.Body.Close()
		silence := time.AfterFunc(streamSilence, hangUp)
		defer silence.Stop()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxEventBytes)
		var event []byte // of one line of data, as the API sends them
		for lines.Scan() {
			line := lines.Bytes()
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
				event = append(event[:0], bytes.TrimPrefix(data, []byte(" "))...)
			}
			if len(line) > 0 || len(event) == 0 {
				silence.Reset(streamSilence)
				continue
			}
			silence.Stop() // while the event is worked on, it is us who are slow
			if !yield(event, nil) {
				return
			}
			event = event[:0]
			silence.Reset(streamSilence)
		}
		if err := lines.Err(); err != nil {
			yield(nil, c.broken(ctx, err))
		}
	}
}

// profile is what `ecolink login` remembers.
type profile struct {
	URL string `json:"url"`
	Key string `json:"key"`
}

func profilePath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("where to keep the log-in: %w", err)
	}
	return filepath.Join(dir, "ecolink", "login.json"), nil
}

func (p profile) save() error {
	path, err := profilePath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// newClient makes a client from ECOLINK_URL and ECOLINK_API_KEY, or else from the
// saved log-in. The two are never mixed: a saved key goes to no other address than
// the one that it was saved for.
func newClient() (*client, error) {
	p := profile{URL: os.Getenv("ECOLINK_URL"), Key: os.Getenv("ECOLINK_API_KEY")}
	switch {
	case p.URL == "" && p.Key != "":
		return nil, errors.New("ECOLINK_API_KEY is set and ECOLINK_URL is not: set both, or neither to use the saved log-in")
	case p.Key == "":
		saved, err := readProfile()
		if err != nil {
			return nil, err
		}
		if p.URL != "" && strings.TrimSuffix(p.URL, "/") != saved.URL {
			return nil, fmt.Errorf("ECOLINK_URL is %s and the saved log-in is for %s: set ECOLINK_API_KEY too, or run `ecolink login %s`", p.URL, saved.URL, p.URL)
		}
		p = saved
	}
	base, err := baseURL(p.URL)
	if err != nil {
		return nil, err
	}
	return &client{base: base, key: p.Key, http: &http.Client{}}, nil
}

func readProfile() (saved profile, err error) {
	path, err := profilePath()
	if err != nil {
		return saved, err
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return saved, &apiError{Status: http.StatusUnauthorized, Code: "unauthorized", Message: "not logged in: run `ecolink login URL`, or set ECOLINK_URL and ECOLINK_API_KEY"}
	}
	if err == nil {
		err = json.Unmarshal(raw, &saved)
	}
	if err != nil {
		return saved, fmt.Errorf("the saved log-in %s: %w", path, err)
	}
	return saved, nil
}

func baseURL(s string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(s, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", misuse("%q is not the address of an EcoLink: write it like https://gpu.example.org", s)
	}
	return u.String(), nil
}

// onSocket makes a client for the administration socket of the box.
func onSocket(path string) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &client{base: "http://ecolink", http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}
