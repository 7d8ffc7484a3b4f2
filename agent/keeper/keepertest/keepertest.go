package keepertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	buildTimeout = 2 * time.Minute
	readyTimeout = 20 * time.Second
)

// builder makes the binary once for a test program.
type builder struct {
	once sync.Once
	dir  string
	path string
	err  error
}

var built builder // a test program has one; TestMain removes it

// Main runs a package's tests and removes what Binary made. Every package that
// calls Binary needs it as its TestMain: os.Exit(keepertest.Main(m)).
func Main(m *testing.M) int {
	defer func() {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
	}()
	return m.Run()
}

// Binary returns the path of an ecolink-keeper that was built from this working
// tree just now, with the Makefile's flags.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(built.build)
	if built.err != nil {
		t.Fatalf("build ecolink-keeper: %v", built.err)
	}
	return built.path
}

func (b *builder) build() {
	if b.dir, b.err = os.MkdirTemp("", "keepertest-*"); b.err != nil {
		return
	}
	if b.err = os.Chmod(b.dir, 0o755); b.err != nil { // for tests that run it as another user
		return
	}
	b.path = filepath.Join(b.dir, "ecolink-keeper")
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.path, "ecolink/cmd/ecolink-keeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		b.err = fmt.Errorf("%w\n%s", err, output)
	}
}

// NeedRoot skips a test that needs root when there is none; in CI it fails.
func NeedRoot(t testing.TB) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("needs root")
	default:
		t.Skip("needs root")
	}
}

// Process is a role of ecolink-keeper with the test as its shim.
type Process struct {
	// Stdout and Stderr are the container's ends of the pipes.
	Stdout, Stderr *os.File

	cmd    *exec.Cmd
	output bytes.Buffer // what the process said itself; read it after done
	done   chan struct{}
}

// Start runs the role that args (a Config's Args) describe, and returns when it
// has said that it is ready. The end of the test kills it.
func Start(t testing.TB, args map[string]string) *Process {
	t.Helper()
	p, ready := launch(t, args)
	_ = ready.SetReadDeadline(time.Now().Add(readyTimeout))
	if got, err := io.ReadAll(ready); err != nil || len(got) != 1 {
		p.Kill()
		t.Fatalf("ecolink-keeper was not ready: %d bytes, %v: %s", len(got), err, p.output.String())
	}
	return p
}

func launch(t testing.TB, args map[string]string) (p *Process, ready *os.File) {
	t.Helper()
	p = &Process{done: make(chan struct{})}
	p.cmd = exec.Command(Binary(t))
	for key, value := range args { // in random order, as the shim does
		p.cmd.Args = append(p.cmd.Args, key, value)
	}
	p.cmd.Env = []string{"CONTAINER_ID=test", "CONTAINER_NAMESPACE=test"}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	var ends [3]*os.File // ours
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		theirs := r
		ends[i] = w
		if i == 2 {
			theirs, ends[i] = w, r
		}
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, theirs)
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, theirs := range p.cmd.ExtraFiles {
		_ = theirs.Close()
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(p.Kill)
	p.Stdout, p.Stderr = ends[0], ends[1]
	return p, ends[2]
}

// Kill ends the process as the OOM killer would and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Signal sends a signal.
func (p *Process) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Wait waits for the process to end by itself, and returns its exit code and
// what it said.
func (p *Process) Wait(t testing.TB, limit time.Duration) (code int, said string) {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), p.output.String()
	case <-time.After(limit):
		t.Fatalf("ecolink-keeper %s still runs after %v", p.cmd.Args[1:], limit)
		return 0, ""
	}
}

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ResidentBytes returns how much memory the process takes: all of it, and the
// part that is not shared with others that run the same binary.
func (p *Process) ResidentBytes(t testing.TB) (all, own int64) {
	t.Helper()
	return ResidentBytes(t, p.cmd.Process.Pid)
}

// ResidentBytes reads VmRSS and RssAnon of /proc/PID/status (proc(5)).
func ResidentBytes(t testing.TB, pid int) (all, own int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			all = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			own = kib << 10
		}
	}
	if all == 0 || own == 0 {
		t.Fatalf("no memory in the status of process %d", pid)
	}
	return all, own
}
