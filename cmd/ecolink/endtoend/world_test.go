package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ecolink/packaging/sample"
)

const (
	operator = "operator@example.org"
	password = "correct horse battery"
)

// buildFlags are go build's, beyond the usual.
var buildFlags []string

var binary string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ecoe2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "ecolink")
	build := exec.Command("go", append(append([]string{"build", "-o", binary}, buildFlags...), "ecolink/cmd/ecolink")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build ecolink: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

var boxes atomic.Int32

// box is a server with an operator who has $100, and H100s at $3.60 an hour: a
// tenth of a cent each second.
type box struct {
	t        testing.TB
	dir      string
	number   int
	gpus     int
	url      string
	key      string
	registry *sample.Registry
	image    string
	serve    *exec.Cmd
	flags    []string // of serve, beyond the usual
	wrap     []string // a command in front of it
	// unmountAtEnd is a disk of its own, which goes when the server has ended.
	unmountAtEnd string
}

func newBox(t testing.TB, gpus int) *box {
	t.Helper()
	return newBoxWith(t, gpus, func(*box) {})
}

// newBoxWith lets prepare change the box before its server starts for the first time.
func newBoxWith(t testing.TB, gpus int, prepare func(*box)) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "ecobox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { // for root in a user namespace, who is nobody here
		t.Fatal(err)
	}
	address := freeAddress(t)
	// Two runs at once on one machine have networks of their own.
	number := os.Getpid()%200 + int(boxes.Add(1))
	b := &box{t: t, dir: dir, number: number, gpus: gpus, url: "http://" + address}
	if b.registry, err = sample.Serve(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.registry.Close() })
	busybox, err := sample.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	if b.image, err = b.registry.Push("demo/busybox:1", busybox); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.sweep)
	prepare(b)
	b.start()
	t.Cleanup(b.end)
	b.bootstrap()
	return b
}

// freeAddress finds a port below those that the kernel gives to outgoing
// connections: while a server is down between two starts, none of them may take it.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (b *box) place() []string {
	return []string{"--data-dir", filepath.Join(b.dir, "data"), "--run-dir", filepath.Join(b.dir, "run")}
}

// start starts the server and waits until it answers.
func (b *box) start() {
	b.t.Helper()
	bridge := fmt.Sprintf("ecoe2e%d", b.number)
	args := append([]string{binary, "serve", "--config", os.DevNull, "--listen", strings.TrimPrefix(b.url, "http://"),
		"--containerd", "embedded", "--gpus", fmt.Sprintf("simulated:h100x%d", b.gpus), "--warm-networks", "1",
		"--ssh-listen", "127.0.0.1:0",
		"--bridge", bridge, "--subnet", fmt.Sprintf("10.116.%d.0/24", b.number)}, b.place()...)
	args = append(append(slices.Clone(b.wrap), args...), b.flags...)
	b.serve = exec.Command(args[0], args[1:]...)
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.serve.Stdout, b.serve.Stderr = log, log
	b.serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.serve.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.eventually("the server answers", func() bool {
		resp, err := http.Get(b.url + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// stop ends the server in order; containers go on.
func (b *box) stop() {
	b.t.Helper()
	b.serve.Process.Signal(syscall.SIGTERM)
	if err := b.serve.Wait(); err != nil {
		b.t.Errorf("the server ended with %v", err)
	}
}

// kill is what the OOM killer or a bug does to the server.
func (b *box) kill() {
	b.t.Helper()
	if err := b.serve.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	b.serve.Wait()
}

// end terminates what is left, checks the books and that nothing stays behind.
func (b *box) end() {
	for _, i := range b.list() {
		b.api(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", i.ID), nil, nil)
	}
	b.eventually("all instances are gone", func() bool {
		for _, i := range b.list() {
			if i.State != "terminated" && i.State != "failed" || len(i.GPUs) > 0 {
				return false
			}
		}
		return true
	})
	if out := b.cli(append([]string{"ledger", "verify"}, b.place()...)...); !strings.Contains(out, "the books agree") {
		b.t.Errorf("ledger verify: %s", out)
	}
	b.stop()
	if b.unmountAtEnd != "" {
		if err := syscall.Unmount(b.unmountAtEnd, 0); err != nil {
			b.t.Error(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), b.dir) {
		b.t.Errorf("mounts are left: %v", err)
	}
	if _, err := net.InterfaceByName(fmt.Sprintf("ecoe2e%d", b.number)); err == nil {
		b.t.Error("the bridge is left")
	}
	if b.t.Failed() || strings.Contains(b.log(), "DATA RACE") {
		b.t.Errorf("the server's log:\n%s", b.log())
	}
}

func (b *box) log() string {
	raw, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		b.t.Error(err)
	}
	return string(raw)
}

func (b *box) bootstrap() {
	b.t.Helper()
	file := filepath.Join(b.dir, "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		b.t.Fatal(err)
	}
	var made struct {
		APIKey string `json:"api_key"`
	}
	out := b.cli(append([]string{"admin", "bootstrap", "--email", operator, "--password-file", file}, b.place()...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.APIKey == "" {
		b.t.Fatalf("bootstrap: %v: %s", err, out)
	}
	b.key = made.APIKey
	b.cli(append([]string{"admin", "rate", "h100", "3.60"}, b.place()...)...)
	b.cli(append([]string{"admin", "topup", operator, "100"}, b.place()...)...)
}

// cli runs an ecolink command that must succeed.
func (b *box) cli(args ...string) string {
	b.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "ECOLINK_URL="+b.url, "ECOLINK_API_KEY="+b.key)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("ecolink %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// instance is what the tests read of the API's.
type instance struct {
	ID           int64     `json:"id"`
	Name         string    `json:"name"`
	State        string    `json:"state"`
	Reason       string    `json:"reason"`
	Problem      string    `json:"problem"`
	GPUs         []string  `json:"gpus"`
	RunningSince time.Time `json:"running_since"`
	RanSeconds   float64   `json:"ran_seconds"`
	Notices      []string  `json:"notices"`
	Preemptions  int       `json:"preemptions"`
}

// failure is an answer of the API that is none of the successes.
type failure struct {
	Status                       int
	Code, Message, Param, Answer string
}

// api makes a request; nil means that it succeeded.
func (b *box) api(method, path string, in, out any) *failure {
	b.t.Helper()
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			b.t.Fatal(err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, b.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		var said struct{ Error failure }
		if err := json.Unmarshal(raw, &said); err != nil {
			b.t.Fatalf("%s %s: %s: %s", method, path, resp.Status, raw)
		}
		said.Error.Status, said.Error.Answer = resp.StatusCode, string(raw)
		return &said.Error
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			b.t.Fatalf("%s %s: %v: %s", method, path, err, raw)
		}
	}
	return nil
}

func (b *box) list() []instance {
	b.t.Helper()
	var l struct{ Data []instance }
	if f := b.api(http.MethodGet, "/v1/gpu-instances?limit=100", nil, &l); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return l.Data
}

func (b *box) get(id int64) (i instance) {
	b.t.Helper()
	if f := b.api(http.MethodGet, fmt.Sprintf("/v1/gpu-instances/%d", id), nil, &i); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return i
}

func (b *box) request(name string) map[string]any {
	return map[string]any{"name": name, "gpu_type": "h100", "gpu_count": 1, "image": b.image, "estimated_duration_hours": 1}
}

// launch launches an instance of one GPU for an hour.
func (b *box) launch(name string) (i instance) {
	b.t.Helper()
	if f := b.api(http.MethodPost, "/v1/gpu-instances", b.request(name), &i); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return i
}

func (b *box) await(id int64, state string) (i instance) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("instance %d is %s", id, state), func() bool {
		i = b.get(id)
		if i.State == "failed" && state != "failed" {
			b.t.Fatalf("instance %d failed: %s", id, i.Problem)
		}
		return i.State == state
	})
	return i
}

func (b *box) balance() (available, held string) {
	b.t.Helper()
	var w struct{ Available, Held string }
	if f := b.api(http.MethodGet, "/v1/billing/balance", nil, &w); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return w.Available, w.Held
}

// eventually waits for something that takes its time on a busy machine.
func (b *box) eventually(what string, is func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			b.t.Fatalf("not within a minute: %s; the server's log:\n%s", what, b.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
