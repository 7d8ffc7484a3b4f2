package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecolink/agent/keeper/session"
)

// parent is the process that started a process: of a container's process 1, its shim.
func parent(t testing.TB, pid uint32) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ppid int
	var state string
	if _, err := fmt.Sscan(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), &state, &ppid); err != nil {
		t.Fatal(err)
	}
	return ppid
}

// A shim may be slow: the machine swaps, its disk hangs. containerd then gives
// no error but a status that says nothing, and the container lives.
func TestContainerWhoseShimDoesNotAnswerIsNotTakenForOneThatEnded(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box"}
	m.run(w)
	st, err := m.runtime.Status(background, w.ID)
	if err != nil {
		t.Fatal(err)
	}
	shim := parent(t, st.PID)
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(shim, syscall.SIGCONT)
	if o, err := m.Observe(background, w.ID); err == nil {
		t.Errorf("it is seen as %+v", o)
	}
	if o, err := m.Run(background, w); err == nil {
		t.Errorf("it was started again: %+v", o)
	}
	m.close()
	began := time.Now()
	m.open(slog.New(slog.DiscardHandler)) // and other workloads are looked after
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("EcoLink starts after %s", took)
	}
	if err := syscall.Kill(shim, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	again, err := m.runtime.Status(background, w.ID)
	if err != nil || again.PID != st.PID {
		t.Fatalf("%+v, %v", again, err)
	}
}

// leftovers lists what may not outlive the workloads.
func (m *machine) leftovers() (out []string) {
	m.t.Helper()
	for _, pattern := range []string{"run/fifo/*", "run/etc/*", "data/containers/*", "t/*", "r/state/io.containerd.runtime.v2.task/*/*", "cdi/simulated/*"} {
		found, err := filepath.Glob(filepath.Join(m.dir, pattern))
		if err != nil {
			m.t.Fatal(err)
		}
		out = append(out, found...)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, p := range processes {
		raw, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		line := strings.ReplaceAll(string(raw), "\x00", " ")
		if strings.Contains(line, "shim") && strings.Contains(line, m.dir) || strings.Contains(line, "ecolink-keeper") && strings.Contains(line, m.dir) {
			out = append(out, p+" "+line)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, m.dir) && !strings.Contains(line, filepath.Join(m.dir, "n")) && !strings.Contains(line, filepath.Join(m.dir, "s", "warm-")) {
			out = append(out, line)
		}
	}
	return out
}

func (m *machine) wantNothingLeft() {
	m.t.Helper()
	var left []string
	for range 100 {
		if left = m.leftovers(); len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.t.Errorf("left:\n%s", strings.Join(left, "\n"))
}

// Who terminates an instance that is being started interrupts Run and has it removed at once.
func TestStartThatIsInterruptedAtAnyMomentIsRemovedWhole(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	m.run(Workload{ID: "first", Image: image, Hostname: "box"})
	if err := m.Remove(background, "first", 0); err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		id := fmt.Sprint("instance-", n)
		ctx, cancel := context.WithTimeout(background, rand.N(150*time.Millisecond))
		_, err := m.Run(ctx, Workload{ID: id, Image: image, Hostname: "box", GPUs: []string{m.gpus.GPUs[0].UUID}})
		cancel()
		if removed := m.Remove(background, id, 0); removed != nil {
			t.Errorf("%d: run: %v; remove: %v", n, err, removed)
		}
	}
	m.wantNothingLeft()
}

func TestCommandThatIsCutOffLeavesNothing(t *testing.T) {
	m := newMachine(t)
	m.run(Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box"})
	ctx, cancel := context.WithTimeout(background, 300*time.Millisecond)
	defer cancel()
	in, _ := io.Pipe() // never closes
	if _, err := m.Exec(ctx, "instance-1", []string{"sleep", "1000"}, Stdio{Stdin: in, Stdout: io.Discard, Stderr: io.Discard}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(m.dir, "run/fifo/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A session that has come up stays for who comes back, as any other does. What
// must not be is a shell that belongs to no session.
func TestTerminalThatIsGivenUpWhileItOpensLeavesNoShellOutsideASession(t *testing.T) {
	m := newMachine(t)
	m.run(Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box"})
	for n := range 20 {
		ctx, cancel := context.WithTimeout(background, rand.N(120*time.Millisecond))
		term, err := m.Terminal(ctx, "instance-1", fmt.Sprint("s", n), -1, 80, 24)
		cancel()
		if err == nil {
			io.WriteString(term, "exit\n")
			io.ReadAll(term)
			term.Close()
		}
	}
	for n := range 20 {
		dir := filepath.Join(m.dir, "t", "instance-1", fmt.Sprint("s", n))
		if conn, err := session.Dial(background, dir, session.FromNow, session.Window{}); err == nil {
			io.WriteString(conn, "exit\n")
			io.ReadAll(conn)
			conn.Close()
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		ps := m.output("instance-1", "ps")
		if !strings.Contains(ps, "sh -l") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(ps)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// A demonstration beside the real thing, or two tests at once.
func TestTwoBoxesOnOneMachineDoNotTouchEachOthersWorkloads(t *testing.T) {
	first, second := newMachine(t), newMachine(t)
	first.run(Workload{ID: "instance-1", Image: first.push("demo/box:1"), Hostname: "first"})
	second.run(Workload{ID: "instance-1", Image: second.push("demo/box:1"), Hostname: "second"})
	if err := second.Remove(background, "instance-1", 0); err != nil {
		t.Fatal(err)
	}
	if o, err := first.Observe(background, "instance-1"); err != nil || o.Presence != Running {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := first.output("instance-1", "hostname"); got != "first\n" {
		t.Fatalf("got %q", got)
	}
}
