package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// said connects by Dial and gives what the listener of sandbox_test.go says of
// the caller's address.
func said(t testing.TB, n *Network, owner, network, address string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := n.Dial(ctx, owner, network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	text, err := io.ReadAll(conn)
	return string(text), err
}

func TestDialReachesWhatListensInsideOnAnyOfItsAddresses(t *testing.T) {
	n := open(t, newConfig(t))
	ns := acquire(t, n, "instance-1")
	for _, host := range []string{"127.0.0.1", ns.Address.String(), "0.0.0.0"} {
		service := listen(t, ns.Path, net.JoinHostPort(host, "0"))
		if _, err := said(t, n, "instance-1", "tcp", fmt.Sprintf("localhost:%d", service.Port())); err != nil {
			t.Errorf("a service on %s: %v", host, err)
		}
	}
	six, err := inside(t, ns.Path, func() (net.Listener, error) { return net.Listen("tcp6", "[::1]:0") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { six.Close() })
	conn, err := n.Dial(t.Context(), "instance-1", "tcp", fmt.Sprintf("localhost:%d", six.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatalf("a service on ::1: %v", err)
	}
	conn.Close()
	service := listen(t, ns.Path, "127.0.0.1:0")
	from, err := said(t, n, "instance-1", "tcp", service.String())
	if err != nil {
		t.Fatal(err)
	}
	if peer, err := netip.ParseAddrPort(from); err != nil || peer.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("the service saw %q, want its own loopback", from)
	}
}

func TestDialGoesNoFurtherThanTheContainerItselfCan(t *testing.T) {
	n := open(t, newConfig(t))
	ns, other := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	theirs := listen(t, other.Path, other.Address.String()+":0")
	if _, err := connect(t, hostPath, theirs); err != nil {
		t.Fatalf("the other's service does not answer: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := n.Dial(ctx, "instance-a", "tcp", theirs.String()); err == nil {
		t.Error("one container's network leads to another's service")
	}
	onHost := listen(t, hostPath, "0.0.0.0:0")
	if _, err := n.Dial(t.Context(), "instance-a", "tcp", fmt.Sprintf("localhost:%d", onHost.Port())); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a port of the host's loopback from the container: %v, want refused", err)
	}
	if _, err := n.Dial(ctx, "instance-a", "tcp", fmt.Sprintf("%s:%d", ns.Gateway, onHost.Port())); err == nil {
		t.Error("the container's network leads to a private port of the host")
	}
}

func TestDialSaysWhatIsWrong(t *testing.T) {
	n := open(t, newConfig(t))
	acquire(t, n, "instance-1")
	if _, err := n.Dial(t.Context(), "instance-2", "tcp", "localhost:80"); !errors.Is(err, ErrNotOwned) {
		t.Errorf("nobody's network: %v", err)
	}
	for _, address := range []string{"localhost", "example.org:80", "localhost:99999", "localhost:nonsense"} {
		var op *net.OpError
		if _, err := n.Dial(t.Context(), "instance-1", "tcp", address); !errors.As(err, &op) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := n.Dial(t.Context(), "instance-1", "tcp4", "[::1]:80"); err == nil {
		t.Error("tcp4 took an IPv6 address")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Dial(done, "instance-1", "tcp", "localhost:80"); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is over: %v", err)
	}
	// Nobody answers there, nor is anybody told so: only the deadline ends it.
	silent, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	began := time.Now()
	_, err := n.Dial(silent, "instance-1", "tcp", "192.0.2.1:80")
	if err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("an address that is silent: %v after %v", err, time.Since(began))
	}
}

func TestManyDialsAtOnceLeaveTheProcessWhereItWas(t *testing.T) {
	n := open(t, newConfig(t))
	ns := acquire(t, n, "instance-1")
	service := listen(t, ns.Path, "127.0.0.1:0")
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if _, err := said(t, n, "instance-1", "tcp", service.String()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, thread := range threads {
		// One that has ended meanwhile has no link any more.
		if at, err := os.Readlink(thread); err == nil && at != home {
			t.Errorf("%s is in %s and the process in %s", thread, at, home)
		}
	}
}

func BenchmarkDial(b *testing.B) {
	n := open(b, newConfig(b))
	ns := acquire(b, n, "instance-1")
	service := listen(b, ns.Path, "127.0.0.1:0")
	for b.Loop() {
		conn, err := n.Dial(b.Context(), "instance-1", "tcp", service.String())
		if err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}
