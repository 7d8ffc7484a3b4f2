package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// shellInABox is Debian's terminal in the browser, on a local shell. Its clients
// poll: output is the answer to a request that waits for it, and keys are
// requests of their own.
type shellInABox struct {
	url  string
	http *http.Client
}

func newShellInABox(ctx context.Context, dir string, clean *cleanup) (*shellInABox, error) {
	binary, err := exec.LookPath("shellinaboxd")
	if err != nil {
		return nil, errPeer("shellinabox", "shellinabox", err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(dir, "shellinabox")
	if err != nil {
		return nil, err
	}
	name, args := localShell()
	serve := exec.Command(binary, "--disable-ssl", "--localhost-only", "--port", strconv.Itoa(port),
		"--service", "/:root:root:/:"+strings.Join(append([]string{name}, args...), " "))
	serve.Stdout, serve.Stderr = log, log
	serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := serve.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	clean.add(func() error {
		defer log.Close()
		// Its launcher is a process of its own.
		_ = syscall.Kill(-serve.Process.Pid, syscall.SIGTERM)
		_ = serve.Wait() // ended by the signal
		return nil
	})
	s := &shellInABox{url: fmt.Sprintf("http://127.0.0.1:%d/", port), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(50 * time.Millisecond) {
		resp, err := s.http.Get(s.url)
		if err == nil {
			return s, resp.Body.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("start shellinabox: %w", err)
		}
	}
}

func (s *shellInABox) name() string         { return "shellinabox" }
func (s *shellInABox) place() terminalPlace { return terminalPlace{URL: s.url} }

func (s *shellInABox) open(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &boxShell{box: s, ctx: ctx, cancel: cancel}
	if _, err := c.poll(); err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

// boxShell is one shell. One goroutine reads while another writes.
type boxShell struct {
	box     *shellInABox
	ctx     context.Context // of Read and Write, which have none of their own
	cancel  context.CancelFunc
	session string
	rest    string // of what was read
}

func (c *boxShell) post(keys string) (*http.Response, error) {
	form := url.Values{"width": {strconv.Itoa(windowCols)}, "height": {strconv.Itoa(windowRows)}, "rooturl": {c.box.url}}
	if c.session != "" {
		form.Set("session", c.session)
	}
	if keys != "" {
		form.Set("keys", keys)
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.box.url+"?", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	resp, err := c.box.http.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("shellinabox answers %s", resp.Status), resp.Body.Close())
	}
	return resp, err
}

func (c *boxShell) poll() (string, error) {
	resp, err := c.post("")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var news struct{ Session, Data string }
	if err := json.NewDecoder(resp.Body).Decode(&news); err != nil {
		return "", fmt.Errorf("shellinabox: %w", err)
	}
	c.session = news.Session
	return news.Data, nil
}

func (c *boxShell) Read(p []byte) (n int, err error) {
	for c.rest == "" {
		if c.rest, err = c.poll(); err != nil {
			return 0, err
		}
	}
	n = copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *boxShell) Write(p []byte) (int, error) {
	resp, err := c.post(strings.ToUpper(hex.EncodeToString(p)))
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return len(p), errors.Join(err, resp.Body.Close())
}

func (c *boxShell) Close() error {
	c.cancel()
	return nil
}
