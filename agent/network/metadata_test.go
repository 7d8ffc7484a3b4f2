package network

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// serveOutside listens on an address of another machine, which the host reaches.
func serveOutside(t testing.TB, out outside, at string) netip.AddrPort {
	t.Helper()
	address := netip.MustParseAddrPort(at)
	output(t, "nsenter", "--net="+out.path, "ip", "addr", "replace", address.Addr().String()+"/32", "dev", "outside1")
	output(t, "ip", "route", "replace", address.Addr().String()+"/32", "via", out.addr.String())
	service := listen(t, out.path, at)
	if _, err := connect(t, hostPath, service); err != nil {
		t.Fatalf("the host cannot reach the service at %s: %v", at, err)
	}
	return service
}

func TestCloudCredentialsAndBlockedRangesAreOutOfReach(t *testing.T) {
	cfg := newConfig(t)
	cfg.Block = []netip.Prefix{netip.MustParsePrefix("198.51.100.130/25")}
	n := open(t, cfg)
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	for _, at := range []string{
		"169.254.169.254:80",
		"168.63.129.16:80", "168.63.129.16:32526", // Azure's goal state
		"168.63.129.16:53", // no nameserver of this box
		"100.100.100.200:80", "192.0.0.192:80",
		"198.51.100.128:443", "198.51.100.255:443",
	} {
		if _, err := connect(t, ns.Path, serveOutside(t, out, at)); err == nil {
			t.Errorf("a container reached %s", at)
		}
	}
	for _, at := range []string{"198.51.100.127:443", "168.63.129.17:80", "100.100.100.201:80"} {
		if _, err := connect(t, ns.Path, serveOutside(t, out, at)); err != nil {
			t.Errorf("a container did not reach %s: %v", at, err)
		}
	}
}

// In Azure the nameserver of every machine is the address of the WireServer.
func TestNameserversAtBlockedAddressesAnswerOnTheirPortOnly(t *testing.T) {
	for name, server := range map[string]string{"AWS": "169.254.169.253", "Azure": "168.63.129.16", "an operator's": "198.51.100.53"} {
		t.Run(name, func(t *testing.T) {
			cfg := newConfig(t)
			cfg.DNS = []string{server}
			cfg.Block = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
			n := open(t, cfg)
			out := newOutside(t)
			ns := acquire(t, n, "instance-1")
			if _, err := connect(t, ns.Path, serveOutside(t, out, server+":53")); err != nil {
				t.Errorf("a container did not reach its nameserver: %v", err)
			}
			if _, err := connect(t, ns.Path, serveOutside(t, out, server+":80")); err == nil {
				t.Error("a container reached another port of its nameserver")
			}
			asked := make(chan struct{}, 1)
			datagrams, err := inside(t, out.path, func() (net.PacketConn, error) { return net.ListenPacket("udp4", server+":53") })
			if err != nil {
				t.Fatal(err)
			}
			defer datagrams.Close()
			go func() {
				if _, _, err := datagrams.ReadFrom(make([]byte, 100)); err == nil {
					asked <- struct{}{}
				}
			}()
			if _, err := inside(t, ns.Path, func() (int, error) {
				conn, err := net.Dial("udp4", server+":53")
				if err != nil {
					return 0, err
				}
				defer conn.Close()
				return conn.Write([]byte("a question"))
			}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-asked:
			case <-time.After(5 * time.Second):
				t.Error("a datagram did not reach the nameserver")
			}
		})
	}
}

// An administrator may turn IPv6 on, also on our bridge: AWS answers at
// fd00:ec2::254 there.
func TestMetadataIsOutOfReachByIPv6AsWell(t *testing.T) {
	const metadata, gateway = "fd00:ec2::254", "fd00:117::1"
	n := open(t, newConfig(t))
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	if err := errors.Join(writeSysctl("net/ipv6/conf/"+n.cfg.Bridge+"/disable_ipv6", "0"), writeSysctl("net/ipv6/conf/all/forwarding", "1")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writeSysctl("net/ipv6/conf/all/forwarding", "0") })
	output(t, "ip", "-6", "addr", "add", gateway+"/64", "dev", n.cfg.Bridge, "nodad")
	output(t, "ip", "-6", "addr", "add", "fd00:203::1/64", "dev", "outside0", "nodad")
	there := func(path string, args ...string) { output(t, append([]string{"nsenter", "--net=" + path}, args...)...) }
	there(out.path, "ip", "-6", "addr", "add", "fd00:203::2/64", "dev", "outside1", "nodad")
	there(out.path, "ip", "-6", "addr", "add", metadata+"/128", "dev", "outside1", "nodad")
	there(out.path, "ip", "-6", "route", "add", "default", "via", "fd00:203::1")
	output(t, "ip", "-6", "route", "add", metadata+"/128", "via", "fd00:203::2")
	there(ns.Path, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
	there(ns.Path, "ip", "-6", "addr", "add", "fd00:117::2/64", "dev", "eth0", "nodad")
	there(ns.Path, "ip", "-6", "route", "add", "default", "via", gateway)
	// The host answers no container that looks for its neighbours.
	there(ns.Path, "ip", "-6", "neigh", "replace", gateway, "lladdr", n.bridge.mac().String(), "dev", "eth0")
	output(t, "ip", "-6", "neigh", "replace", "fd00:117::2", "lladdr", macOf(t, n, "instance-1").String(), "dev", n.cfg.Bridge)
	l, err := inside(t, out.path, func() (net.Listener, error) { return net.Listen("tcp6", "["+metadata+"]:80") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func(path string) error {
		_, err := inside(t, path, func() (struct{}, error) {
			conn, err := net.DialTimeout("tcp6", l.Addr().String(), 700*time.Millisecond)
			if err == nil {
				err = conn.Close()
			}
			return struct{}{}, err
		})
		return err
	}
	if err := dial(hostPath); err != nil {
		t.Fatalf("the host cannot reach the service: %v", err)
	}
	if dial(ns.Path) == nil {
		t.Error("a container reached the cloud's metadata by IPv6")
	}
	// Nor without the table that lets no port send IPv6 at all.
	n.filter.mu.Lock() // nobody puts it back meanwhile
	defer n.filter.mu.Unlock()
	output(t, "nft", "delete", "table", "bridge", n.cfg.Name)
	if err := dial(ns.Path); err == nil {
		t.Error("a container reached the cloud's metadata by IPv6 while one table was gone")
	}
	output(t, "nft", "insert", "rule", "inet", n.cfg.Name, "forward", "meta", "nfproto", "ipv6", "accept")
	if err := dial(ns.Path); err != nil {
		t.Fatalf("this test shows nothing: without the rule the service is out of reach as well: %v", err)
	}
}
