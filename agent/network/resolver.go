package network

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// resolver is a nameserver as containers see it.
type resolver struct {
	Address netip.Addr
	Local   bool // an address of this host, so the input rules must let it through
}

// chooseResolvers decides on the nameservers given to containers: the
// configured ones, or else those of the first of the files (in the form of
// resolv.conf) that has any a container can reach, or else the fallback.
func chooseResolvers(configured, files []string) (all []resolver, fallback bool) {
	var found []netip.Addr
	for _, text := range configured {
		if addr, err := netip.ParseAddr(text); err == nil {
			found = append(found, addr.Unmap())
		}
	}
	for _, file := range files {
		if len(found) > 0 {
			break
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		found = reachableNameservers(text)
	}
	if len(found) == 0 {
		fallback = true
		found = []netip.Addr{netip.MustParseAddr(FallbackResolver1), netip.MustParseAddr(FallbackResolver2)}
	}
	local := hostAddresses()
	for _, addr := range found {
		all = append(all, resolver{Address: addr, Local: local[addr]})
	}
	return all, fallback
}

// resolverFiles are where the host's nameservers are written. With
// systemd-resolved the first has only its loopback stub, and the second the
// nameservers behind it.
func resolverFiles() []string {
	return []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}
}

// reachableNameservers reads a resolv.conf. Loopback means the container
// itself in there, and IPv6 does not leave it.
func reachableNameservers(text []byte) (found []netip.Addr) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if err == nil && addr.Unmap().Is4() && !addr.Unmap().IsLoopback() && !addr.IsUnspecified() {
			found = append(found, addr.Unmap())
		}
	}
	return found
}

// hostAddresses is best effort: without it a nameserver on the host itself
// stays behind the filter.
func hostAddresses() map[netip.Addr]bool {
	all := make(map[netip.Addr]bool)
	addrs, _ := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	for _, addr := range addrs {
		if ip, ok := netip.AddrFromSlice(addr.IP.To4()); ok {
			all[ip] = true
		}
	}
	return all
}
