package registry

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// guard decides which addresses may be connected to.
type guard struct {
	refuse   []netip.Prefix
	loopback bool
}

const dialTimeout = 10 * time.Second

// dial connects, and checks every address that it is about to connect to: after
// the name was resolved, so that a name can't change its mind in between. Proxies
// are the operator's; what they connect to is for them to decide.
func (g guard) dial(proxies map[string]bool) func(context.Context, string, string) (net.Conn, error) {
	free := net.Dialer{Timeout: dialTimeout}
	guarded := net.Dialer{
		Timeout: dialTimeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return &ForbiddenError{Address: address, Why: "it is no address"}
			}
			return g.check(to.Addr())
		},
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxies[address] {
			return free.DialContext(ctx, network, address)
		}
		return guarded.DialContext(ctx, network, address)
	}
}

// metadata are the addresses by which clouds hand out secrets that are not
// link-local: of AWS, Google and Azure, Alibaba and Oracle.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd20:ce::254"), netip.MustParseAddr("168.63.129.16"),
	netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
}

// check refuses an address.
func (g guard) check(ip netip.Addr) error {
	ip = ip.WithZone("").Unmap()
	no := func(why string) error { return &ForbiddenError{Address: ip.String(), Why: why} }
	switch {
	case ip.IsLoopback():
		if !g.loopback {
			return no("it is this machine, under another name")
		}
		return nil
	case ip.IsUnspecified(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return no("it is no host's address")
	case ip.IsLinkLocalUnicast():
		return no("link-local addresses have a cloud's secrets, and no registries")
	case slices.Contains(metadata, ip):
		return no("it has a cloud's secrets, and no registries")
	}
	for _, p := range g.refuse {
		if p.Contains(ip) {
			return no("it is in the containers' network")
		}
	}
	// NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an IPv4 address: what is refused
	// there is refused here.
	if inner, ok := embedded(ip); ok {
		return guard{refuse: g.refuse}.check(inner)
	}
	return nil
}

// embedded is the IPv4 address that an IPv6 one stands for.
func embedded(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() {
		return netip.Addr{}, false
	}
	b := ip.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case netip.MustParsePrefix("2002::/16").Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
