package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const readyTimeout = 60 * time.Second

// ecolink is the contender: a server with simulated GPUs and a watcher who sees
// every instance's state as a user would.
type ecolink struct {
	dir, url, key, image string
	http                 *http.Client
	binary               string
	log                  *os.File
	server               *exec.Cmd
	watching             context.Context // of the watcher, which restart starts again

	mu      sync.Mutex
	news    *sync.Cond
	states  map[string]string // by instance name
	numbers map[string]int64
	broken  error
}

// newEcoLink builds and starts EcoLink, and pulls the image by a first launch's doing.
func newEcoLink(ctx context.Context, opts options, dir, image string, clean *cleanup) (*ecolink, error) {
	binary := opts.binary
	if binary == "" {
		binary = filepath.Join(dir, "ecolink")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/ecolink")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build ecolink: %w: %s", err, out)
		}
	}
	e := &ecolink{
		dir: dir, image: image, url: "http://127.0.0.1:7070", http: &http.Client{},
		states: map[string]string{}, numbers: map[string]int64{},
	}
	e.news = sync.NewCond(&e.mu)
	log, err := os.Create(filepath.Join(dir, "ecolink.log"))
	if err != nil {
		return nil, err
	}
	e.binary, e.log = binary, log
	if err := e.serve(); err != nil {
		return nil, err
	}
	clean.add(func() error {
		defer log.Close()
		if err := e.server.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return e.server.Wait()
	})
	if err := e.setUp(ctx, binary); err != nil {
		tail, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("start ecolink: %w\n%s", err, tail)
	}
	var stop context.CancelFunc
	e.watching, stop = context.WithCancel(ctx)
	clean.add(func() error { stop(); return nil })
	ready := make(chan error, 1)
	go e.watch(e.watching, ready)
	return e, <-ready
}

// serve starts the server.
func (e *ecolink) serve() error {
	e.server = exec.Command(e.binary, append([]string{"serve", "--containerd", "embedded", "--gpus", "simulated:h100x16",
		"--warm-networks", "12", "--warm-scratch", "12", "--config", os.DevNull}, e.place()...)...)
	e.server.Stdout, e.server.Stderr = e.log, e.log
	e.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return e.server.Start()
}

// restart kills the server as a bug would, and starts it again.
func (e *ecolink) restart(ctx context.Context) error {
	if err := e.server.Process.Kill(); err != nil {
		return err
	}
	_ = e.server.Wait() // killed: that is no news
	e.mu.Lock()
	for e.broken == nil { // the watcher notices too
		e.news.Wait()
	}
	e.broken = nil
	e.mu.Unlock()
	if err := e.serve(); err != nil {
		return err
	}
	if err := e.answers(ctx); err != nil {
		return err
	}
	ready := make(chan error, 1)
	go e.watch(e.watching, ready)
	return <-ready
}

func (e *ecolink) place() []string {
	return []string{"--data-dir", filepath.Join(e.dir, "data"), "--run-dir", filepath.Join(e.dir, "run")}
}

func (e *ecolink) containerdSocket() string {
	return filepath.Join(e.dir, "run", "containerd", "containerd.sock")
}

// answers waits until the server does.
func (e *ecolink) answers(ctx context.Context) error {
	for deadline := time.Now().Add(readyTimeout); ; time.Sleep(50 * time.Millisecond) {
		resp, err := e.http.Get(e.url + "/healthz")
		if err == nil {
			return resp.Body.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
	}
}

// setUp waits for the server, makes an operator, a price and credit.
func (e *ecolink) setUp(ctx context.Context, binary string) error {
	if err := e.answers(ctx); err != nil {
		return err
	}
	password := filepath.Join(e.dir, "password")
	if err := os.WriteFile(password, []byte("only for this benchmark"), 0o600); err != nil {
		return err
	}
	admin := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, binary, append(append([]string{"admin"}, args...), e.place()...)...)
		cmd.Stderr = os.Stderr
		return cmd.Output()
	}
	raw, err := admin("bootstrap", "--email", "bench@localhost", "--password-file", password)
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	var made struct {
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal(raw, &made); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	e.key = made.APIKey
	if _, err := admin("rate", "h100", "1.00"); err != nil {
		return fmt.Errorf("rate: %w", err)
	}
	if _, err := admin("topup", "bench@localhost", "100000"); err != nil {
		return fmt.Errorf("top-up: %w", err)
	}
	return nil
}

func (e *ecolink) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, e.url+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+e.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return resp, nil
}

// watch follows the list of instances, as the console does.
func (e *ecolink) watch(ctx context.Context, ready chan<- error) {
	resp, err := e.request(ctx, http.MethodGet, "/v1/gpu-instances?watch=true&limit=20", nil)
	ready <- err
	if err != nil {
		return
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var list struct {
			Data []struct {
				Name, State string
			}
		}
		err := json.Unmarshal([]byte(data), &list)
		e.mu.Lock()
		for _, i := range list.Data {
			e.states[i.Name] = i.State
		}
		e.broken = err
		e.news.Broadcast()
		e.mu.Unlock()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken = lines.Err(); e.broken == nil {
		e.broken = io.ErrUnexpectedEOF
	}
	e.news.Broadcast()
}

func (e *ecolink) await(name, state string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.states[name] != state {
		if e.broken != nil {
			return fmt.Errorf("watch: %w", e.broken)
		}
		if e.states[name] == "failed" {
			return fmt.Errorf("instance %s failed", name)
		}
		e.news.Wait()
	}
	return nil
}

func (e *ecolink) name() string { return "ecolink" }

// start is from the POST to the news that the instance is running, network,
// ledger and GPUs included.
func (e *ecolink) start(ctx context.Context, id string) error {
	resp, err := e.request(ctx, http.MethodPost, "/v1/gpu-instances", map[string]any{
		"name": id, "gpu_type": "h100", "gpu_count": 1, "image": e.image, "estimated_duration_hours": 1, "command": keepAlive,
	})
	if err != nil {
		return err
	}
	var made struct{ ID int64 }
	err = json.NewDecoder(resp.Body).Decode(&made)
	resp.Body.Close()
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.numbers[id] = made.ID
	e.mu.Unlock()
	return e.await(id, "running")
}

func (e *ecolink) remove(ctx context.Context, id string) error {
	e.mu.Lock()
	number := e.numbers[id]
	e.mu.Unlock()
	resp, err := e.request(ctx, http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", number), struct{}{})
	if err != nil {
		return err
	}
	resp.Body.Close()
	return e.await(id, "terminated")
}
