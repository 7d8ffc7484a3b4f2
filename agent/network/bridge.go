package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// defaultMTU is what a container's interface carries, in bytes, when the host
// has no default route to take it from.
const defaultMTU = 1500

// portGroup is the interface group of our ports, which the filter knows them
// by. Nothing else uses the number, and several networks may.
const portGroup = 0xec0

// bridge is the Linux bridge that the containers hang on, and its ports. It
// keeps no state: every answer is the kernel's. The bridge plugin would make
// the bridge too, but leaves IPv6 on, and two plugins that do it at the same
// time trip over each other. Safe for concurrent use.
type bridge struct {
	name   string // of the bridge
	owner  string // the network's name, which marks what is ours
	subnet netip.Prefix

	ensuring sync.Mutex // so that two do not make it at once
}

// alias marks the bridge and, with an id, a port as made by this network.
func (b *bridge) alias(id string) string {
	if id == "" {
		return "network " + b.owner
	}
	return "network " + b.owner + " namespace " + id
}

// available reports why the bridge cannot be this network's, if so: something
// else has its name, or the host routes the subnet elsewhere.
func (b *bridge) available() error {
	link, err := findLink(b.name)
	if err != nil {
		return err
	}
	if link == nil {
		return b.subnetFree()
	}
	if !b.marked(link) {
		return b.foreign()
	}
	return nil
}

// marked reports whether the link is a bridge that this network made. A crash
// may have left it without its alias, but not without its MAC, which it is
// made with.
func (b *bridge) marked(link netlink.Link) bool {
	attrs := link.Attrs()
	return link.Type() == "bridge" &&
		(attrs.Alias == b.alias("") || attrs.Alias == "" && bytes.Equal(attrs.HardwareAddr, b.mac()))
}

// ours is marked for a caller who knows that the name is this network's
// (available said so, or the state in RunDir). Then there is one case more:
// when somebody deletes the bridge just before the bridge plugin runs, the
// plugin makes another, and gives it the gateway's address.
func (b *bridge) ours(link netlink.Link) (bool, error) {
	if b.marked(link) || link.Type() != "bridge" || link.Attrs().Alias != "" {
		return b.marked(link), nil
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return false, fmt.Errorf("addresses of bridge %s: %w", b.name, err)
	}
	return slices.ContainsFunc(addrs, func(addr netlink.Addr) bool {
		return addr.IPNet != nil && addr.IPNet.String() == b.address().String()
	}), nil
}

func (b *bridge) foreign() error {
	return fmt.Errorf("%w: an interface %s that this network did not make exists: remove it (ip link del %s) or configure another bridge name",
		ErrInUse, b.name, b.name)
}

// ensure makes the bridge if it is not there and sets what has to be set. The
// caller knows that the name is this network's.
func (b *bridge) ensure() error {
	b.ensuring.Lock()
	defer b.ensuring.Unlock()
	link, err := findLink(b.name)
	if err != nil {
		return err
	}
	if link == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = b.name
		attrs.HardwareAddr = b.mac()
		err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
		if err != nil && !errors.Is(err, unix.EEXIST) { // a plugin may have been faster
			return fmt.Errorf("make bridge %s: %w", b.name, err)
		}
		if link, err = netlink.LinkByName(b.name); err != nil {
			return fmt.Errorf("make bridge %s: %w", b.name, err)
		}
	}
	if ours, err := b.ours(link); err != nil {
		return err
	} else if !ours {
		return b.foreign()
	}
	if !bytes.Equal(link.Attrs().HardwareAddr, b.mac()) {
		if err := netlink.LinkSetHardwareAddr(link, b.mac()); err != nil {
			return fmt.Errorf("set the MAC of bridge %s: %w", b.name, err)
		}
	}
	if link.Attrs().Alias != b.alias("") {
		if err := netlink.LinkSetAlias(link, b.alias("")); err != nil {
			return fmt.Errorf("mark bridge %s: %w", b.name, err)
		}
	}
	// Off before the bridge is up, so that it never has a link-local address
	// that containers could talk to, and takes no route that they advertise.
	// Where the kernel or a read-only /proc/sys does not allow it, the filter
	// still drops all but IPv4 and ARP.
	_ = writeSysctl("net/ipv6/conf/"+b.name+"/disable_ipv6", "1")
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: b.address()}); err != nil {
		return fmt.Errorf("address bridge %s: %w", b.name, err)
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up bridge %s: %w", b.name, err)
		}
	}
	if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return fmt.Errorf("let the host forward for containers: %w: set net.ipv4.ip_forward=1 in /etc/sysctl.d", err)
	}
	return nil
}

// address is the gateway's.
func (b *bridge) address() *net.IPNet {
	return &net.IPNet{IP: b.subnet.Addr().Next().AsSlice(), Mask: net.CIDRMask(b.subnet.Bits(), 32)}
}

// mac is the same each time, so that containers keep the right neighbour entry
// for their gateway if the bridge is made again under them. Without a fixed
// one a bridge changes its address as ports come and go.
func (b *bridge) mac() net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0xec}, b.subnet.Addr().Next().AsSlice()...)
}

// subnetFree refuses a subnet that the host already routes elsewhere: it would
// cut the host off from there.
func (b *bridge) subnetFree() error {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		addr, _ := netip.AddrFromSlice(route.Dst.IP.To4())
		bits, _ := route.Dst.Mask.Size()
		if prefix := netip.PrefixFrom(addr, bits); bits > 0 && prefix.Overlaps(b.subnet) {
			return fmt.Errorf("%w: the host has a route to %v, which overlaps the container subnet %v: configure another subnet", ErrInUse, prefix, b.subnet)
		}
	}
	return nil
}

// mtu is that of the interface with the default route, as larger packets would
// only be cut or lost there.
func (b *bridge) mtu() int {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return defaultMTU
	}
	for _, route := range routes {
		if route.Dst != nil && route.Dst.String() != "0.0.0.0/0" {
			continue
		}
		if link, err := netlink.LinkByIndex(route.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			return link.Attrs().MTU
		}
	}
	return defaultMTU
}

// attach makes the interface a port of the bridge, marked as the namespace's
// and shut off from the other ports. It does not matter how much of this was
// done before. A port that has yet to join is down until all of it is done.
func (b *bridge) attach(id string, port filterPort) error {
	master, err := netlink.LinkByName(b.name)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", b.name, err)
	}
	link, err := netlink.LinkByName(port.Interface)
	if err != nil {
		return fmt.Errorf("port %s: %w", port.Interface, err)
	}
	up := link.Attrs().Flags&net.FlagUp != 0
	if up && link.Attrs().MasterIndex != master.Attrs().Index {
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("bring down port %s: %w", port.Interface, err)
		}
		up = false
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"mark", func() error { return netlink.LinkSetAlias(link, b.alias(id)) }},
		{"group", func() error { return netlink.LinkSetGroup(link, portGroup) }},
		{"attach", func() error { return netlink.LinkSetMaster(link, master) }},
		// The kernel passes no frame from one isolated port to another.
		{"isolate", func() error { return netlink.LinkSetIsolated(link, true) }},
		// Where a MAC is, the bridge is told and neither learns (a frame to a
		// link-local group address teaches it, past every firewall hook) nor
		// guesses (it sends what is for an unknown MAC to all ports).
		{"address", func() error { return netlink.NeighSet(forwarding(link, port.MAC)) }},
		{"stop learning at", func() error { return netlink.LinkSetLearning(link, false) }},
		{"stop flooding to", func() error { return netlink.LinkSetFlood(link, false) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s port %s: %w", step.what, port.Interface, err)
		}
	}
	if !up {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up port %s: %w", port.Interface, err)
		}
	}
	return nil
}

// forwarding says for good that the MAC is behind the port.
func forwarding(link netlink.Link, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, State: unix.NUD_NOARP, Flags: unix.NTF_MASTER, HardwareAddr: mac}
}

// attached reports whether the interface is the namespace's port of the bridge.
func (b *bridge) attached(id, port string) bool {
	master, err := netlink.LinkByName(b.name)
	if err != nil {
		return false
	}
	link, err := netlink.LinkByName(port)
	return err == nil && link.Attrs().Alias == b.alias(id) && link.Attrs().MasterIndex == master.Attrs().Index
}

// removePort deletes the namespace's interface if it is there. One of that
// name with another mark is somebody else's: names are drawn at random.
func (b *bridge) removePort(id, port string) error {
	if port == "" {
		return nil
	}
	link, err := findLink(port)
	if err != nil || link == nil || link.Attrs().Alias != b.alias(id) {
		return err
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove port %s: %w", port, err)
	}
	return nil
}

// sweep deletes interfaces that bear our mark for a namespace not in known, and
// answers their names and those of foreign ports, which are left alone.
func (b *bridge) sweep(known map[string]bool) (removed, foreign []string, err error) {
	master, err := netlink.LinkByName(b.name)
	if err != nil {
		return nil, nil, err
	}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		attrs := link.Attrs()
		id, ours := strings.CutPrefix(attrs.Alias, b.alias("")+" namespace ")
		switch {
		case ours && !known[id]:
			if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
				return removed, foreign, fmt.Errorf("remove port %s: %w", attrs.Name, err)
			}
			removed = append(removed, attrs.Name)
		case !ours && attrs.MasterIndex == master.Attrs().Index:
			foreign = append(foreign, attrs.Name)
		}
	}
	return removed, foreign, nil
}

// remove deletes the bridge if it is there and ours.
func (b *bridge) remove() error {
	link, err := findLink(b.name)
	if err != nil || link == nil {
		return err
	}
	if ours, err := b.ours(link); err != nil || !ours {
		return err
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove bridge %s: %w", b.name, err)
	}
	return nil
}

// findLink answers nil when there is no interface of that name.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return link, nil
}

// dump repeats a netlink dump that was cut short because something changed
// meanwhile, as its result then misses entries.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpAttempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// writeSysctl sets a kernel variable unless it has the value already, which
// works where /proc/sys is read-only.
func writeSysctl(name, value string) error {
	path := filepath.Join("/proc/sys", name)
	if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0)
}
