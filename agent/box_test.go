package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ecolink/agent/device"
	"ecolink/agent/network"
	"ecolink/agent/runtime"
	"ecolink/agent/runtime/daemon"
	"ecolink/agent/volume"
	"ecolink/nvml"
	"ecolink/packaging/sample"
)

var background = context.Background()

// machine is a real containerd, network and registry of one test.
type machine struct {
	t        testing.TB
	dir      string
	gpus     nvml.Inventory
	places   places
	registry *sample.Registry
	daemon   *daemon.Daemon
	network  *network.Network
	runtime  *runtime.Runtime
	volumes  *volume.Pool
	scratch  *volume.Scratch

	userNamespaces bool
	*Box
}

var machines atomic.Int32

// newMachine starts everything; what a test leaves running is removed with it.
func newMachine(t testing.TB) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "eco") // short: sockets have 107 bytes for their path
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // for root in a user namespace, who is nobody here
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, userNamespaces: true}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	lib, err := nvml.Open("simulated:h100x4")
	if err != nil {
		t.Fatal(err)
	}
	if m.gpus, err = lib.Inventory(); err != nil {
		t.Fatal(err)
	}
	if m.registry, err = sample.Serve(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.registry.Close() })
	m.start(int(machines.Add(1)))
	t.Cleanup(m.clear)
	return m
}

// start is what happens when EcoLink starts.
func (m *machine) start(number int) {
	m.t.Helper()
	log := slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := daemon.Config{Binary: "containerd", DataDir: filepath.Join(m.dir, "d"), RunDir: filepath.Join(m.dir, "r")}
	var err error
	if m.daemon, err = daemon.Start(background, cfg, log); err != nil {
		m.t.Fatal(err)
	}
	m.places = places{
		Network: network.DefaultConfig(), CDI: filepath.Join(m.dir, "cdi"), Terminals: filepath.Join(m.dir, "t"),
		Runtime: runtime.Config{Socket: cfg.Socket(), Namespace: "ecolink-" + filepath.Base(m.dir), DataDir: filepath.Join(m.dir, "data"), RunDir: filepath.Join(m.dir, "run")},
	}
	m.places.Volumes = volume.Config{Dir: filepath.Join(m.dir, "volumes"), RunDir: filepath.Join(m.dir, "v")}
	m.places.Scratch = volume.ScratchConfig{
		Config: volume.Config{Dir: filepath.Join(m.dir, "scratch"), RunDir: filepath.Join(m.dir, "s")}, Warm: 1, WarmBytes: 64 << 20,
	}
	net := &m.places.Network
	net.Name, net.Bridge = fmt.Sprintf("ecotest%d", number), fmt.Sprintf("ecotest%d", number)
	net.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 118, byte(number), 0}), 24)
	net.RunDir, net.Warm, net.UserNamespaces = filepath.Join(m.dir, "n"), 1, m.userNamespaces
	m.open(log)
}

// places says where the parts of a box keep what they have.
type places struct {
	Network        network.Config
	Runtime        runtime.Config
	Volumes        volume.Config
	Scratch        volume.ScratchConfig
	CDI, Terminals string
}

// open opens the box; whoever has opened it before must have closed it or died.
func (m *machine) open(log *slog.Logger) {
	m.t.Helper()
	var err error
	if m.network, err = network.New(background, m.places.Network, log); err != nil {
		m.t.Fatal(err)
	}
	if m.runtime, err = runtime.Connect(background, m.places.Runtime, log); err != nil {
		m.t.Fatal(err)
	}
	devices, err := device.New(m.gpus, m.places.CDI)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.volumes, err = volume.Open(m.places.Volumes, log); err != nil {
		m.t.Fatal(err)
	}
	m.Box = NewBox(m.runtime, m.network, devices, m.volumes, m.places.Terminals)
	if m.scratch, err = volume.OpenScratch(background, m.places.Scratch, log); err != nil {
		m.t.Fatal(err)
	}
	m.UseScratch(m.scratch)
}

// close closes the box and leaves containerd running.
func (m *machine) close() {
	m.t.Helper()
	if err := errors.Join(m.Box.Close(), m.scratch.Close(), m.runtime.Close(), m.network.Close(background), m.volumes.Close()); err != nil {
		m.t.Error(err)
	}
}

// stop is what happens when EcoLink stops in order.
func (m *machine) stop() {
	m.t.Helper()
	m.close()
	m.daemon.Stop()
}

// clear removes every workload, and checks that nothing of them is left.
func (m *machine) clear() {
	ids, err := m.List(background)
	if err != nil {
		m.t.Error(err)
	}
	for _, id := range ids {
		if err := m.Remove(background, id, 0); err != nil {
			m.t.Error(err)
		}
	}
	if left, err := m.List(background); err != nil || len(left) > 0 {
		m.t.Errorf("left behind: %v, %v", left, err)
	}
	m.stop()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), m.dir) {
		m.t.Errorf("mounts are left behind: %v", err)
	}
}

func (m *machine) push(short string, files ...sample.File) string {
	m.t.Helper()
	image, err := sample.Busybox(files...)
	if err != nil {
		m.t.Fatal(err)
	}
	full, err := m.registry.Push(short, image)
	if err != nil {
		m.t.Fatal(err)
	}
	return full
}

func (m *machine) run(w Workload) Observation {
	m.t.Helper()
	if err := m.Pull(background, w.Image, func(PullProgress) {}); err != nil {
		m.t.Fatal(err)
	}
	o, err := m.Run(background, w)
	if err != nil {
		m.t.Fatal(err)
	}
	if o.Presence != Running || time.Since(o.StartedAt) > time.Minute {
		m.t.Fatalf("%+v", o)
	}
	return o
}

// output runs a command in a workload and gives what it prints.
func (m *machine) output(id string, argv ...string) string {
	m.t.Helper()
	var out, errs bytes.Buffer
	code, err := m.Exec(background, id, argv, Stdio{Stdout: &out, Stderr: &errs})
	if err != nil || code != 0 {
		m.t.Fatalf("%v: exit %d, %v: %s", argv, code, err, errs.String())
	}
	return out.String()
}

func TestWorkloadRunsAsRootWithItsGPUsNetworkAndNameAndNothingIsLeft(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	if err := m.CheckImage(background, image); err != nil {
		t.Fatal(err)
	}
	gpus := []string{m.gpus.GPUs[1].UUID, m.gpus.GPUs[2].UUID}
	m.run(Workload{ID: "instance-1", Image: image, Hostname: "trainer", GPUs: gpus, Env: map[string]string{"GREETING": "hello"},
		Command: []string{"sh", "-c", "echo to-stdout; echo to-stderr >&2; sleep 1000"}})

	for command, want := range map[string]string{
		"id -u":                              "0\n",
		"hostname":                           "trainer\n",
		"echo $GREETING":                     "hello\n",
		"echo $NVIDIA_VISIBLE_DEVICES":       strings.Join(gpus, ",") + "\n",
		"grep -c UUID /run/ecolink/gpus.txt": "2\n",
		"cat /proc/1/comm":                   "init\n",
	} {
		if got := m.output("instance-1", "sh", "-c", command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
	gateway := strings.Fields(m.output("instance-1", "ip", "route", "show", "default"))[2]
	m.output("instance-1", "ping", "-c", "1", "-W", "2", gateway)

	deadline := time.Now().Add(5 * time.Second)
	for {
		var lines []string
		for l, err := range m.Logs(background, "instance-1", 0, false) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l.Stream+" "+l.Text)
		}
		if len(lines) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log has %q", lines)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestCommandGivesItsExitCodeAndReadsItsInput(t *testing.T) {
	m := newMachine(t)
	m.run(Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box"})
	var out bytes.Buffer
	code, err := m.Exec(background, "instance-1", []string{"sh", "-c", "cat; exit 7"}, Stdio{Stdin: strings.NewReader("typed"), Stdout: &out, Stderr: io.Discard})
	if err != nil || code != 7 || out.String() != "typed" {
		t.Fatalf("%d, %v, %q", code, err, out.String())
	}
	for n := range 30 { // over before anybody has looked
		out.Reset()
		if code, err := m.Exec(background, "instance-1", []string{"echo", "short"}, Stdio{Stdout: &out, Stderr: io.Discard}); err != nil || code != 0 || out.String() != "short\n" {
			t.Fatalf("run %d: %d, %v, %q", n, code, err, out.String())
		}
	}
	_, err = m.Exec(background, "instance-1", []string{"no-such-command"}, Stdio{Stdout: io.Discard, Stderr: io.Discard})
	var refused interface{ Permanent() bool }
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "no-such-command") {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(background, 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := m.Exec(ctx, "instance-1", []string{"sleep", "1000"}, Stdio{Stdout: io.Discard, Stderr: io.Discard}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if time.Since(began) > 10*time.Second || strings.Contains(m.output("instance-1", "ps"), "sleep 1000") {
		t.Fatal("the command was not killed")
	}
}

// read reads a terminal until it has printed the text.
func readUntil(t testing.TB, term Terminal, text string) string {
	t.Helper()
	var all strings.Builder
	found := make(chan error, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := term.Read(buf)
			all.Write(buf[:n])
			if strings.Contains(all.String(), text) || err != nil {
				found <- err
				return
			}
		}
	}()
	select {
	case err := <-found:
		if err != nil {
			t.Fatalf("terminal: %v after %q", err, all.String())
		}
	case <-time.After(10 * time.Second):
		term.Close()
		<-found
		t.Fatalf("no %q in %q", text, all.String())
	}
	return all.String()
}

func TestTerminalOutlivesRestartsOfEcoLinkAndOfContainerdWithItsShellAndBytes(t *testing.T) {
	m := newMachine(t)
	number := int(machines.Load())
	o := m.run(Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box", GPUs: []string{m.gpus.GPUs[0].UUID}})
	term, err := m.Terminal(background, "instance-1", "main", -1, 100, 30)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(term, "stty size; here=kept; echo answer=$((6*7))\n")
	seen := readUntil(t, term, "answer=42\r\n")
	if !strings.Contains(seen, "30 100") {
		t.Errorf("the window is not 30 by 100: %q", seen)
	}
	offset := term.Start() + int64(len(seen))
	term.Close()
	m.stop()
	m.start(number)
	again, err := m.Observe(background, "instance-1")
	if err != nil || again.Presence != Running {
		t.Fatalf("%+v, %v", again, err)
	}
	if d := again.StartedAt.Sub(o.StartedAt).Abs(); d > time.Second {
		t.Errorf("after the restart it seems to have started %s from when it did", d)
	}
	term, err = m.Terminal(background, "instance-1", "main", offset, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if term.Start() != offset {
		t.Errorf("replayed from %d, want %d", term.Start(), offset)
	}
	io.WriteString(term, "echo $here; exit\n")
	readUntil(t, term, "kept")
	if rest, err := io.ReadAll(term); !errors.Is(err, ErrTerminalEnded) {
		t.Fatalf("%q, %v", rest, err)
	}
	over, err := m.Terminal(background, "instance-1", "main", offset, 0, 0)
	if err != nil || over.Start() != offset {
		t.Fatalf("who comes back to an ended session gets %v", err)
	}
	if rest, err := io.ReadAll(over); !errors.Is(err, ErrTerminalEnded) || !strings.Contains(string(rest), "kept") {
		t.Fatalf("who comes back to an ended session gets %q, %v", rest, err)
	}
	fresh, err := m.Terminal(background, "instance-1", "main", -1, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	io.WriteString(fresh, "echo new=$here,$((6*7))\n")
	readUntil(t, fresh, "new=,42")
}

func TestImageWithoutAShellRunsAndHasNoTerminal(t *testing.T) {
	m := newMachine(t)
	bare, err := sample.Bare()
	if err != nil {
		t.Fatal(err)
	}
	image, err := m.registry.Push("demo/bare:1", bare)
	if err != nil {
		t.Fatal(err)
	}
	m.run(Workload{ID: "instance-1", Image: image, Hostname: "bare"})
	_, err = m.Terminal(background, "instance-1", "main", -1, 80, 24)
	var refused interface{ Permanent() bool }
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "no shell") {
		t.Fatalf("got %v", err)
	}
}

func TestImageThatCannotBeHadSaysWhy(t *testing.T) {
	m := newMachine(t)
	silent, err := sample.Serve(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for image, want := range map[string]string{
		m.registry.Name("demo/missing:1"): "no such image",
		"127.0.0.1:1/demo/box:1":          "does not answer as a registry",
		silent.Name("demo/secret:1"):      "refuses access",
		"UPPER/Case!":                     "write it like",
	} {
		if err := m.CheckImage(background, image); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want something with %q", image, err, want)
		}
	}
}

func TestSigtermIsHeededAndWhoIgnoresItIsKilledAfterTheGrace(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	m.run(Workload{ID: "instance-1", Image: image, Hostname: "a", Command: []string{"sleep", "1000"}})
	began := time.Now()
	if err := m.Remove(background, "instance-1", time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("an obedient container took %s", took)
	}
	m.run(Workload{ID: "instance-2", Image: image, Hostname: "b", Command: []string{"sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"}})
	time.Sleep(200 * time.Millisecond)
	if err := m.Remove(background, "instance-2", time.Second); err != nil {
		t.Fatal(err)
	}
	if o, err := m.Observe(background, "instance-2"); err != nil || o.Presence != Absent {
		t.Fatalf("%+v, %v", o, err)
	}
}

func TestContainerThatIsKilledIsSeenToHaveEndedAndRunsAgainOnItsFiles(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box"}
	m.run(w)
	m.output(w.ID, "sh", "-c", "echo precious > /root/file")
	st, err := m.runtime.Status(background, w.ID)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("kill", "-9", strconv.Itoa(int(st.PID))).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	select {
	case id := <-m.Changes():
		if id != w.ID {
			t.Fatalf("told of %q", id)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody told of the end")
	}
	o, err := m.Observe(background, w.ID)
	if err != nil || o.Presence != Exited || o.ExitCode != 137 || time.Since(o.ExitedAt) > time.Minute {
		t.Fatalf("%+v, %v", o, err)
	}
	m.run(w)
	if got := m.output(w.ID, "cat", "/root/file"); got != "precious\n" {
		t.Fatalf("the file has %q", got)
	}
}
