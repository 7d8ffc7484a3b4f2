package initproc_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/keeper/keepertest"
)

func TestMain(m *testing.M) { os.Exit(keepertest.Main(m)) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// box is a PID and mount namespace with the real ecolink-keeper as process 1.
type box struct {
	t    *testing.T
	pid  int // of process 1, as seen from here
	done chan struct{}
	cmd  *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer
}

// newBox starts `ecolink-keeper init args`. Whatever runs in the box ends with
// the test.
func newBox(t *testing.T, args ...string) *box {
	t.Helper()
	return newBoxWith(t, boxOptions{}, args...)
}

type boxOptions struct {
	prefix string   // of the keeper's command line, such as "env -u PATH"
	stderr *os.File // in place of what said returns
}

func newBoxWith(t *testing.T, opts boxOptions, args ...string) *box {
	t.Helper()
	keepertest.NeedRoot(t)
	const mountProc = "mount --make-rprivate / && mount -t proc proc /proc && "
	b := &box{t: t, done: make(chan struct{})}
	b.cmd = exec.Command("/bin/sh", append([]string{
		"-c", mountProc + "exec " + opts.prefix + ` "$0" init "$@"`, keepertest.Binary(t)}, args...)...)
	b.cmd.Stdout, b.cmd.Stderr = b, b
	if opts.stderr != nil {
		b.cmd.Stderr = opts.stderr
	}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.pid = b.cmd.Process.Pid
	go func() {
		defer close(b.done)
		_ = b.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill() // process 1 takes all others with it
		<-b.done
		if t.Failed() {
			t.Logf("the box said:\n%s", b.said())
		}
	})
	b.eventually("process 1 is ecolink-keeper", func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", b.pid))
		return strings.TrimSpace(string(name)) == "ecolink-keeper"
	})
	// The threads in reserve are the last step before it starts its command;
	// the Go runtime catches signals, and dies by them, long before.
	b.eventually("process 1 is ready for signals", func() bool {
		threads, _ := strconv.Atoi(b.status("Threads"))
		return threads > 8
	})
	return b
}

// Write takes what the box prints.
func (b *box) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *box) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

func (b *box) eventually(what string, check func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("not after %v: %s; the box said: %s", patience, what, b.said())
		}
	}
}

func (b *box) waitFor(text string) {
	b.t.Helper()
	b.eventually("the box says "+text, func() bool { return strings.Contains(b.said(), text) })
}

func (b *box) signal(s syscall.Signal) {
	b.t.Helper()
	if err := syscall.Kill(b.pid, s); err != nil {
		b.t.Fatalf("signal %v: %v", s, err)
	}
}

// ends waits for the end of process 1 with code 0 and returns how long it took.
func (b *box) ends() time.Duration {
	b.t.Helper()
	began := time.Now()
	select {
	case <-b.done:
	case <-time.After(patience):
		b.t.Fatalf("the box has not ended after %v; %d processes: %s", patience, len(b.processes()), b.said())
	}
	if state := b.cmd.ProcessState; state.ExitCode() != 0 {
		b.t.Fatalf("process 1: %v, want exit status 0; the box said: %s", state, b.said())
	}
	return time.Since(began)
}

func (b *box) mustBeAlive() {
	b.t.Helper()
	select {
	case <-b.done:
		b.t.Fatalf("the box has ended: %v; it said: %s", b.cmd.ProcessState, b.said())
	default:
	}
}

// enter runs a line of shell in the box as an exec does: its parent is outside.
func (b *box) enter(script string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(b.pid), "-p", "-m", "--", "/bin/sh", "-c", script)
	cmd.Stdout, cmd.Stderr = b, b
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// process is one of the box's processes but process 1.
type process struct {
	name   string
	parent int
	zombie bool
}

// processes lists what is in the box's PID namespace, but for process 1.
func (b *box) processes() []process {
	b.t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", b.pid))
	if err != nil {
		return nil // it has ended
	}
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.t.Fatal(err)
	}
	var found []process
	for _, folder := range folders {
		if ns, err := os.Readlink(folder + "/ns/pid"); folder == fmt.Sprintf("/proc/%d", b.pid) ||
			err == nil && ns != own {
			continue
		}
		stat, err := os.ReadFile(folder + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			b.t.Fatal(err)
		}
		p := process{name: string(stat[begin+1 : end]), parent: parent, zombie: fields[0] == "Z"}
		if _, err := os.Readlink(folder + "/ns/pid"); err != nil && p.parent != b.pid {
			continue // a zombie has no namespaces any more: tell it by its parent
		}
		found = append(found, p)
	}
	return found
}

// status reads a line of process 1's /proc/PID/status (proc(5)).
func (b *box) status(key string) string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid))
	for line := range strings.Lines(string(status)) {
		if k, value, _ := strings.Cut(line, ":"); k == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
