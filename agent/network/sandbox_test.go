package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"ecolink/agent/userns"
)

// The tests use real namespaces, bridges, plugins and firewalls, but in a
// network and mount namespace of the test binary's own: the machine's
// interfaces and rules are neither seen nor changed, and whatever a failed
// test leaves ends with the process.
const (
	sandboxVariable = "NETWORK_TEST_SANDBOX"
	victimVariable  = "NETWORK_TEST_VICTIM" // see crash_test.go
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(victimVariable) != "":
		beVictim(os.Getenv(victimVariable))
	case os.Getenv(sandboxVariable) == "" && os.Geteuid() == 0:
		os.Exit(runInSandbox())
	default:
		os.Exit(m.Run())
	}
}

// runInSandbox runs this binary again with the same arguments.
func runInSandbox() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), sandboxVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Go makes the mounts of the new mount namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no sandbox for the network tests:", err)
		return 1
	}
	return 0
}

// needSandbox skips a test that this machine cannot run; in CI it fails.
func needSandbox(t testing.TB) {
	t.Helper()
	reason := ""
	switch {
	case os.Geteuid() != 0:
		reason = "needs root"
	case os.Getenv(sandboxVariable) == "":
		reason = "needs a network namespace of its own"
	default:
		for _, program := range []string{"ip", "nsenter", "nft", "iptables", "iptables-save"} {
			if command(program) == "" {
				reason = "needs " + program
			}
		}
		cfg, err := DefaultConfig().complete()
		if err == nil {
			_, err = newPlugins(cfg, defaultMTU, nil)
		}
		if err != nil {
			reason = "needs " + err.Error()
		}
	}
	if reason == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

var tests atomic.Int32 // numbers the networks of this run

// newConfig is a network that no other test has. At the end of the test
// nothing of it may be left.
func newConfig(t testing.TB) Config {
	t.Helper()
	needSandbox(t)
	number := int(tests.Add(1))
	cfg := Config{
		Name:   fmt.Sprintf("nettest%d", number),
		Bridge: fmt.Sprintf("nettest%d", number),
		Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(200 + number/250), byte(number % 250), 0}), 24),
		RunDir: filepath.Join(t.TempDir(), "run"),
		DNS:    []string{"203.0.113.53"},

		UserNamespaces: true,
	}
	t.Cleanup(func() { assertClean(t, cfg) })
	return cfg
}

// open starts the network and, at the end of the test, releases everything.
func open(t testing.TB, cfg Config) *Network {
	t.Helper()
	n, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeEmpty(t, n) })
	return n
}

// closeEmpty releases all owners and closes. A network that the test closed
// itself is left alone.
func closeEmpty(t testing.TB, n *Network) {
	for _, owner := range n.Owners() {
		if err := n.Release(context.Background(), owner); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func acquire(t testing.TB, n *Network, owner string) Namespace {
	t.Helper()
	ns, err := n.Acquire(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// crash ends the network as kill -9 would, as far as that is possible inside
// one process: nothing is cleared away, and the lock is free.
func crash(n *Network) {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	n.loops.Wait()
	_ = n.locks.Close()
}

func assertClean(t testing.TB, cfg Config) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	for _, link := range links {
		alias := link.Attrs().Alias
		if link.Attrs().Name == cfg.Bridge || alias == "network "+cfg.Name || strings.HasPrefix(alias, "network "+cfg.Name+" ") {
			t.Errorf("interface %s (%s) is left", link.Attrs().Name, alias)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), cfg.RunDir+"/") {
		t.Errorf("mounts are left below %s (%v)", cfg.RunDir, err)
	}
	for _, args := range [][]string{{"nft", "list", "ruleset"}, {"iptables-save"}} {
		out := output(t, args...)
		for line := range strings.Lines(out) {
			for field := range strings.FieldsSeq(line) {
				if strings.Trim(field, `"`) == cfg.Name {
					t.Errorf("%s shows a rule that is left: %s", args[0], line)
				}
			}
		}
		if strings.Contains(out, "CNI-") {
			t.Errorf("%s shows CNI chains: %s", args[0], out)
		}
	}
	entries, _ := os.ReadDir(cfg.RunDir)
	for _, entry := range entries {
		if entry.Name() != "lock" {
			t.Errorf("%s is left in the run folder", entry.Name())
		}
	}
}

func output(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(command(args[0]), args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// inside runs do on a thread in the network namespace at path. Sockets that it
// opens belong there even after it has returned.
func inside[T any](t testing.TB, path string, do func() (T, error)) (T, error) {
	t.Helper()
	var (
		value T
		err   error
	)
	onOwnThread(func() (back bool) {
		var f *os.File
		if f, err = os.Open(path); err != nil {
			return true
		}
		err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		_ = f.Close()
		if err == nil {
			value, err = do()
		}
		return false
	})
	return value, err
}

// listen serves TCP in the namespace and greets each caller with the address
// that it saw.
func listen(t testing.TB, path, address string) netip.AddrPort {
	t.Helper()
	l, err := inside(t, path, func() (net.Listener, error) { return net.Listen("tcp4", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(conn.RemoteAddr().String()))
			_ = conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// connect answers what the listener saw of us.
func connect(t testing.TB, path string, to netip.AddrPort) (string, error) {
	t.Helper()
	return inside(t, path, func() (string, error) {
		conn, err := net.DialTimeout("tcp4", to.String(), 700*time.Millisecond)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		text := make([]byte, 100)
		count, err := conn.Read(text)
		return string(text[:count]), err
	})
}

// ping sends one ICMP echo from the namespace and waits for the reply.
func ping(t testing.TB, path string, to netip.Addr) error {
	t.Helper()
	_, err := inside(t, path, func() (struct{}, error) {
		conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		if err != nil {
			return struct{}{}, err
		}
		defer conn.Close()
		message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 7, Seq: 1, Data: []byte("hello")}}
		packet, err := message.Marshal(nil)
		if err != nil {
			return struct{}{}, err
		}
		if _, err := conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return struct{}{}, err
		}
		_ = conn.SetDeadline(time.Now().Add(700 * time.Millisecond))
		for {
			reply := make([]byte, 1500)
			count, peer, err := conn.ReadFrom(reply)
			if err != nil {
				return struct{}{}, err
			}
			parsed, err := icmp.ParseMessage(1, reply[:count])
			if err == nil && parsed.Type == ipv4.ICMPTypeEchoReply && peer.String() == to.String() {
				return struct{}{}, nil
			}
		}
	})
	return err
}

// outside is another machine as far as the host knows: a namespace at the end
// of a cable, with no route to any container.
type outside struct {
	path string
	host netip.Addr // the host's address on the cable
	addr netip.Addr // the other machine's
}

func newOutside(t testing.TB) outside {
	t.Helper()
	o := outside{
		path: filepath.Join(t.TempDir(), "outside"),
		host: netip.MustParseAddr("203.0.113.1"),
		addr: netip.MustParseAddr("203.0.113.2"),
	}
	if err := createNamespace(o.path, userns.Mapping{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName("outside0"); err == nil {
			_ = netlink.LinkDel(link)
		}
		if err := removeNamespace(o.path); err != nil {
			t.Error(err)
		}
	})
	output(t, "ip", "link", "add", "outside0", "type", "veth", "peer", "name", "outside1")
	output(t, "ip", "addr", "add", o.host.String()+"/24", "dev", "outside0")
	output(t, "ip", "link", "set", "outside0", "up")
	f, err := os.Open(o.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	peer, err := netlink.LinkByName("outside1")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(peer, int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	output(t, "nsenter", "--net="+o.path, "ip", "addr", "add", o.addr.String()+"/24", "dev", "outside1")
	output(t, "nsenter", "--net="+o.path, "ip", "link", "set", "outside1", "up")
	return o
}

// hostPath is the namespace of the tests themselves, the host of the sandbox.
const hostPath = "/proc/self/ns/net"

// eventually waits for something that happens in the background.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
