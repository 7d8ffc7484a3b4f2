package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestContainerHasAddressGatewayAndLoopback(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	if ns.Owner != "instance-1" || ns.Gateway != cfg.gateway() || !cfg.Subnet.Contains(ns.Address) || ns.Address == ns.Gateway {
		t.Fatalf("got %+v in %v", ns, cfg.Subnet)
	}
	addresses := output(t, "nsenter", "--net="+ns.Path, "ip", "-4", "-o", "addr")
	if !strings.Contains(addresses, "eth0    inet "+ns.Address.String()+"/24") || !strings.Contains(addresses, "lo    inet 127.0.0.1/8") {
		t.Errorf("addresses inside: %s", addresses)
	}
	if routes := output(t, "nsenter", "--net="+ns.Path, "ip", "-4", "route"); !strings.Contains(routes, "default via "+ns.Gateway.String()+" dev eth0") {
		t.Errorf("routes inside: %s", routes)
	}
	if err := ping(t, ns.Path, ns.Gateway); err != nil {
		t.Errorf("ping the gateway: %v", err)
	}
	if _, err := connect(t, ns.Path, listen(t, ns.Path, "127.0.0.1:0")); err != nil {
		t.Errorf("loopback inside: %v", err)
	}
	if got, ok := n.Lookup("instance-1"); !ok || got != ns {
		t.Errorf("lookup answers %+v, %v", got, ok)
	}
	if got := n.Resolver(); len(got) != 1 || got[0] != "203.0.113.53" {
		t.Errorf("nameservers %v", got)
	}
}

func TestContainerReachesOutsideByTheHostsAddress(t *testing.T) {
	n := open(t, newConfig(t))
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	saw, err := connect(t, ns.Path, listen(t, out.path, "203.0.113.2:0"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(saw, out.host.String()+":") {
		t.Errorf("outside saw %s, want the host %v", saw, out.host)
	}
	if err := ping(t, ns.Path, out.addr); err != nil {
		t.Errorf("ping outside: %v", err)
	}
}

func TestOnlyTheHostOpensConnectionsToAContainer(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	service := listen(t, ns.Path, ns.Address.String()+":0")
	if _, err := connect(t, hostPath, service); err != nil {
		t.Errorf("the host cannot reach the container: %v", err)
	}
	output(t, "nsenter", "--net="+out.path, "ip", "route", "add", cfg.Subnet.String(), "via", out.host.String())
	if _, err := connect(t, out.path, service); err == nil {
		t.Error("outside can reach the container")
	}
}

func TestTwoOwnersCannotReachEachOther(t *testing.T) {
	n := open(t, newConfig(t))
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	service := listen(t, b.Path, b.Address.String()+":0")
	if _, err := connect(t, hostPath, service); err != nil {
		t.Fatalf("the service does not answer: %v", err)
	}
	if _, err := connect(t, a.Path, service); err == nil {
		t.Error("one owner's container reached another's by TCP")
	}
	if err := ping(t, a.Path, b.Address); err == nil {
		t.Error("one owner's container reached another's by ICMP")
	}
	// Not by way of the gateway either.
	output(t, "nsenter", "--net="+a.Path, "ip", "route", "add", b.Address.String()+"/32", "via", a.Gateway.String())
	if _, err := connect(t, a.Path, service); err == nil {
		t.Error("one owner's container reached another's through the gateway")
	}
}

func TestIsolationDoesNotHangOnTheFirewallAlone(t *testing.T) {
	n := open(t, newConfig(t))
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	crash(n) // so that nobody restores the tables
	if err := n.filter.remove(); err != nil {
		t.Fatal(err)
	}
	service := listen(t, b.Path, b.Address.String()+":0")
	if _, err := connect(t, a.Path, service); err == nil {
		t.Error("without nftables, one owner's container reached another's")
	}
	closeEmpty(t, open(t, n.cfg))
}

func TestHostPortsAreClosedToContainersUnlessAllowed(t *testing.T) {
	cfg := newConfig(t)
	out := newOutside(t)
	service := listen(t, hostPath, "0.0.0.0:0")
	open1 := listen(t, hostPath, "0.0.0.0:0")
	cfg.AllowTCP = []uint16{open1.Port()}
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	for _, address := range []netip.Addr{ns.Gateway, out.host} {
		if _, err := connect(t, ns.Path, netip.AddrPortFrom(address, service.Port())); err == nil {
			t.Errorf("a container reached a service of the host at %v", address)
		} else if strings.Contains(err.Error(), "timeout") {
			t.Errorf("a closed port of the host at %v hangs instead of failing: %v", address, err)
		}
		if _, err := connect(t, ns.Path, netip.AddrPortFrom(address, open1.Port())); err != nil {
			t.Errorf("a container did not reach an allowed port of the host at %v: %v", address, err)
		}
	}
}

func TestPortsThatTheHostForwardsAreClosedToContainers(t *testing.T) {
	n := open(t, newConfig(t))
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	service := listen(t, out.path, "203.0.113.2:0")
	output(t, "nft", "add table ip publish; add chain ip publish pre { type nat hook prerouting priority dstnat; }; add rule ip publish pre ip daddr "+
		ns.Gateway.String()+" tcp dport 8080 dnat to "+service.String())
	t.Cleanup(func() { output(t, "nft", "delete table ip publish") })
	if _, err := connect(t, ns.Path, service); err != nil {
		t.Fatalf("the service itself: %v", err)
	}
	if _, err := connect(t, ns.Path, netip.AddrPortFrom(ns.Gateway, 8080)); err == nil {
		t.Error("a container reached a port that the host forwards")
	}
}

func TestNameserverOnTheHostIsReachableOnItsPortOnly(t *testing.T) {
	cfg := newConfig(t)
	out := newOutside(t)
	cfg.DNS = []string{out.host.String()}
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	if _, err := connect(t, ns.Path, listen(t, hostPath, "203.0.113.1:53")); err != nil {
		t.Errorf("the nameserver: %v", err)
	}
	if _, err := connect(t, ns.Path, listen(t, hostPath, "203.0.113.1:54")); err == nil {
		t.Error("another port of the nameserver's address is open")
	}
}

func TestContainerCannotTakeAnotherAddressOrMAC(t *testing.T) {
	n := open(t, newConfig(t))
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	enter := func(args ...string) string {
		return output(t, append([]string{"nsenter", "--net=" + a.Path}, args...)...)
	}
	stolen := b.Address.String()
	enter("ip", "addr", "add", stolen+"/24", "dev", "eth0")
	enter("ip", "route", "replace", "default", "via", a.Gateway.String(), "src", stolen)
	enter("ip", "route", "del", n.cfg.Subnet.String(), "src", a.Address.String())
	if err := ping(t, a.Path, a.Gateway); err == nil {
		t.Error("a container sent from another's address")
	}
	// The host must not believe it either: its traffic to b goes to b.
	service := listen(t, b.Path, stolen+":0")
	if _, err := connect(t, hostPath, service); err != nil {
		t.Errorf("traffic to the other owner went astray: %v", err)
	}
	enter("ip", "addr", "flush", "dev", "eth0")
	enter("ip", "addr", "add", a.Address.String()+"/24", "dev", "eth0")
	if err := ping(t, a.Path, a.Gateway); err != nil {
		t.Errorf("with its own address again: %v", err)
	}
	enter("ip", "link", "set", "eth0", "address", "02:11:22:33:44:55")
	if err := ping(t, a.Path, a.Gateway); err == nil {
		t.Error("a container sent from another MAC")
	}
}

func TestContainerCannotSpeakIPv6WithTheHost(t *testing.T) {
	n := open(t, newConfig(t))
	ns := acquire(t, n, "instance-1")
	text, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + n.cfg.Bridge + "/disable_ipv6")
	if err != nil || strings.TrimSpace(string(text)) != "1" {
		t.Errorf("IPv6 on the bridge: %q, %v", text, err)
	}
	if six := output(t, "ip", "-6", "addr", "show", "dev", n.cfg.Bridge); six != "" {
		t.Errorf("the bridge has IPv6 addresses: %s", six)
	}
	_ = ns
}

func TestAcquireIsIdempotent(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 2
	n := open(t, cfg)
	first := acquire(t, n, "instance-1")
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if again, err := n.Acquire(t.Context(), "instance-1"); err != nil || again != first {
				t.Errorf("got %+v, %v, want %+v", again, err, first)
			}
		})
	}
	callers.Wait()
	if owners := n.Owners(); len(owners) != 1 || owners[0] != "instance-1" {
		t.Errorf("owners %v", owners)
	}
}

func TestTenAcquiresAtOnceGetDistinctAddresses(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 3
	n := open(t, cfg)
	got := make([]Namespace, 10)
	var callers sync.WaitGroup
	for i := range got {
		callers.Go(func() {
			ns, err := n.Acquire(t.Context(), fmt.Sprintf("replica/%d", i)) // a slash must do no harm
			if err != nil {
				t.Error(err)
			}
			got[i] = ns
		})
	}
	callers.Wait()
	addresses, paths := map[netip.Addr]bool{}, map[string]bool{}
	for _, ns := range got {
		addresses[ns.Address], paths[ns.Path] = true, true
		if err := ping(t, ns.Path, ns.Gateway); err != nil {
			t.Errorf("%s: ping: %v", ns.Owner, err)
		}
	}
	if len(addresses) != 10 || len(paths) != 10 || len(n.Owners()) != 10 {
		t.Errorf("%d addresses, %d namespaces, %d owners", len(addresses), len(paths), len(n.Owners()))
	}
	eventually(t, "the pool is full again", func() bool { return len(n.warm) == cfg.Warm })
}

func TestReleaseFreesTheAddressAndIsIdempotent(t *testing.T) {
	cfg := newConfig(t)
	cfg.Subnet = netip.PrefixFrom(cfg.Subnet.Addr(), 29) // five addresses beside the gateway
	n := open(t, cfg)
	for i := range 5 {
		acquire(t, n, fmt.Sprint(i))
	}
	_, err := n.Acquire(t.Context(), "one-too-many")
	if !errorIs(err, ErrExhausted) {
		t.Fatalf("got %v, want ErrExhausted", err)
	}
	before, _ := n.Lookup("3")
	for range 3 {
		if err := n.Release(t.Context(), "3"); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := n.Lookup("3"); ok {
		t.Error("released, but still there")
	}
	if after := acquire(t, n, "one-too-many"); after.Address != before.Address {
		t.Errorf("got %v, want the freed %v", after.Address, before.Address)
	}
	if err := n.Release(t.Context(), "nobody"); err != nil {
		t.Errorf("release of an unknown owner: %v", err)
	}
}

func TestReleaseWorksWhenPiecesAreMissing(t *testing.T) {
	missing := map[string]func(t *testing.T, n *Network, ns Namespace, rec record){
		"namespace": func(t *testing.T, n *Network, ns Namespace, _ record) {
			if err := removeNamespace(ns.Path); err != nil {
				t.Fatal(err)
			}
		},
		"port": func(t *testing.T, _ *Network, _ Namespace, rec record) {
			link, err := netlink.LinkByName(rec.Interface)
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
		},
		"lease": func(t *testing.T, n *Network, ns Namespace, _ record) {
			if err := os.Remove(n.plugins.leases + "/" + ns.Address.String()); err != nil {
				t.Fatal(err)
			}
		},
		"record": func(t *testing.T, n *Network, _ Namespace, rec record) {
			if err := n.records.forget(rec); err != nil {
				t.Fatal(err)
			}
		},
		"tables": func(t *testing.T, n *Network, _ Namespace, _ record) {
			if err := n.filter.remove(); err != nil {
				t.Fatal(err)
			}
		},
		"bridge": func(t *testing.T, n *Network, _ Namespace, _ record) {
			if err := n.bridge.remove(); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, lose := range missing {
		t.Run(what, func(t *testing.T) {
			n := open(t, newConfig(t))
			ns := acquire(t, n, "instance-1")
			lose(t, n, ns, n.owned["instance-1"])
			if err := n.Release(t.Context(), "instance-1"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(n.plugins.leases + "/" + ns.Address.String()); err == nil {
				t.Error("the address is still leased")
			}
			if again := acquire(t, n, "instance-1"); ping(t, again.Path, again.Gateway) != nil {
				t.Error("the next namespace does not work")
			}
		})
	}
}

func TestWarmNamespaceBrokenFromOutsideIsNotHandedOut(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 1
	n := open(t, cfg)
	eventually(t, "a warm namespace", func() bool { return len(n.warm) == 1 })
	rec := <-n.warm
	if err := removeNamespace(n.path(rec.ID)); err != nil {
		t.Fatal(err)
	}
	n.warm <- rec
	ns := acquire(t, n, "instance-1")
	if err := ping(t, ns.Path, ns.Gateway); err != nil {
		t.Error(err)
	}
}

func TestCallsAfterCloseFailAndCloseIsIdempotent(t *testing.T) {
	n := open(t, newConfig(t))
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := n.Acquire(t.Context(), "late"); !errorIs(err, ErrClosed) {
		t.Errorf("acquire: %v", err)
	}
	if err := n.Release(t.Context(), "late"); !errorIs(err, ErrClosed) {
		t.Errorf("release: %v", err)
	}
}

func TestProgramsInsideNeedNotBeRootToListenOrPing(t *testing.T) {
	n := open(t, newConfig(t))
	ns := acquire(t, n, "instance-1")
	for file, want := range map[string]string{"ip_unprivileged_port_start": "0", "ping_group_range": "0\t2147483647"} {
		if got := strings.TrimSpace(output(t, "nsenter", "--net="+ns.Path, "cat", "/proc/sys/net/ipv4/"+file)); got != want {
			t.Errorf("%s is %q", file, got)
		}
	}
	if _, err := net.InterfaceByName("eth0"); err == nil {
		t.Error("the container's interface is on the host")
	}
}
