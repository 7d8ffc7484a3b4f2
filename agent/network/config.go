package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Limits and time-outs of this package, all in one place.
const (
	// DefaultWarm is how many prepared namespaces most boxes want: a launch
	// of a small cluster finds them all ready.
	DefaultWarm = 4
	// MaxWarm bounds Config.Warm. Each warm namespace costs the kernel about
	// half a megabyte and an address.
	MaxWarm = 64
	// MaxAllowedPorts bounds Config.AllowTCP; each is a firewall rule.
	MaxAllowedPorts = 64
	// MaxBlockedRanges bounds Config.Block; each is a firewall rule.
	MaxBlockedRanges = 256
	// MaxOwnerBytes bounds an owner's name, which becomes part of a file
	// name (each byte may take three there).
	MaxOwnerBytes = 64

	parallelWork   = 4                     // namespaces made, and as many unmade, at once
	makeTimeout    = 30 * time.Second      // one namespace, all plugins
	removeTimeout  = 30 * time.Second      // the same, unmade
	commandTimeout = 20 * time.Second      // one run of iptables or firewall-cmd
	lockTimeout    = 15 * time.Second      // for the plugins of a killed process to end
	nameTimeout    = 3 * time.Second       // for a process that was killed to let go of the network's name
	lockPause      = 20 * time.Millisecond // between two tries
	refillQuiet    = time.Second           // without an Acquire before the pool is topped up: launches go first
	refillRetryMin = time.Second           // after a namespace could not be made, doubling
	refillRetryMax = 30 * time.Second      //
	watchSettle    = 50 * time.Millisecond // of rule changes by others before ours are checked
	watchInterval  = 30 * time.Second      // between checks when nothing was announced
	dumpAttempts   = 5                     // of a netlink dump that a change interrupted
	elementsAtOnce = 256                   // of a set in one message, whose lists end at 64 KiB
)

// Nameservers given to containers when the host names none that they could
// reach (see [Config].DNS). Both are public and reachable by IPv4.
const (
	FallbackResolver1 = "1.1.1.1"
	FallbackResolver2 = "8.8.8.8"
)

// Errors that callers may tell apart with errors.Is.
var (
	// ErrClosed is answered by every method after Close has begun.
	ErrClosed = errors.New("the network is closed")
	// ErrPluginMissing means that a CNI plugin is not installed.
	ErrPluginMissing = errors.New("CNI plugin missing")
	// ErrExhausted means that every address of the subnet is leased.
	ErrExhausted = errors.New("no free address")
	// ErrInUse means that another process holds the RunDir, or that
	// something else on this host has the bridge's name or the subnet.
	ErrInUse = errors.New("in use")
	// ErrNotOwned means that the owner has no namespace.
	ErrNotOwned = errors.New("there is no such network namespace")
)

// Config says what to build. Start from [DefaultConfig].
type Config struct {
	// Name names this box's CNI network, its nftables tables and its state,
	// for example "ecolink": a letter, then letters, digits, '-' or '_', at
	// most 32 bytes. Two networks on one host need two names.
	Name string
	// Bridge is the Linux bridge to make, at most 15 bytes.
	Bridge string
	// Subnet is the IPv4 range of the containers, /8 to /29, for example
	// 10.117.0.0/16. Its first address is the gateway, the box itself.
	Subnet netip.Prefix
	// RunDir is an absolute folder for volatile state, best on a tmpfs. It
	// belongs to this network alone.
	RunDir string
	// PluginDirs is where CNI plugins are looked for, in this order. Empty
	// means those of /opt/cni/bin, /usr/lib/cni and /usr/libexec/cni that
	// exist.
	PluginDirs []string
	// Warm is how many prepared namespaces to keep, 0 to MaxWarm. With 0
	// each Acquire makes its own.
	Warm int
	// UserNamespaces makes a user namespace with each network, which belongs to it.
	UserNamespaces bool
	// DNS lists the nameservers (IPv4 addresses) given to containers. Empty means
	// the host's own, less those that a container cannot reach.
	DNS []string
	// AllowTCP lists host ports that containers may connect to, on any of
	// the host's addresses. EcoLink's own HTTPS port belongs here so that
	// programs inside an instance can call the API. Default none.
	AllowTCP []uint16
	// Block lists IPv4 ranges that containers may not reach, beside the
	// link-local range and the addresses of clouds' metadata services, which
	// are blocked always. A nameserver in such a range is still asked.
	Block []netip.Prefix
}

// DefaultConfig is the network of a box whose operator changed nothing.
func DefaultConfig() Config {
	return Config{
		Name:   "ecolink",
		Bridge: "ecolink0",
		Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 117, 0, 0}), 16),
		RunDir: "/run/ecolink/network",
		Warm:   DefaultWarm,
	}
}

// complete checks c and fills what was left empty.
func (c Config) complete() (Config, error) {
	if ok, _ := regexp.MatchString(`^[a-zA-Z][a-zA-Z0-9_-]{0,31}$`, c.Name); !ok {
		return c, fmt.Errorf("network name %q: want a letter, then letters, digits, '-' or '_', at most 32 in all", c.Name)
	}
	if ok, _ := regexp.MatchString(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$`, c.Bridge); !ok {
		return c, fmt.Errorf("bridge name %q: want 1 to 15 letters, digits, '.', '-' or '_'", c.Bridge)
	}
	if c.Bridge == "all" || c.Bridge == "default" { // in /proc/sys these stand for every interface
		return c, fmt.Errorf("bridge name %q: the kernel has another meaning for it", c.Bridge)
	}
	if !c.Subnet.IsValid() || !c.Subnet.Addr().Is4() || c.Subnet.Bits() < 8 || c.Subnet.Bits() > 29 {
		return c, fmt.Errorf("subnet %v: want an IPv4 prefix of length 8 to 29", c.Subnet)
	}
	c.Subnet = c.Subnet.Masked()
	if !filepath.IsAbs(c.RunDir) {
		return c, fmt.Errorf("run folder %q: want an absolute path", c.RunDir)
	}
	if c.Warm < 0 || c.Warm > MaxWarm {
		return c, fmt.Errorf("%d warm namespaces: want 0 to %d", c.Warm, MaxWarm)
	}
	for _, server := range c.DNS {
		if addr, err := netip.ParseAddr(server); err != nil || !addr.Is4() {
			return c, fmt.Errorf("nameserver %q: want an IPv4 address: containers have no IPv6", server)
		}
	}
	c.AllowTCP = slices.Compact(slices.Sorted(slices.Values(c.AllowTCP)))
	if len(c.AllowTCP) > MaxAllowedPorts || slices.Contains(c.AllowTCP, 0) {
		return c, fmt.Errorf("allowed ports %v: want at most %d, none of them 0", c.AllowTCP, MaxAllowedPorts)
	}
	if len(c.Block) > MaxBlockedRanges {
		return c, fmt.Errorf("%d blocked ranges: want at most %d", len(c.Block), MaxBlockedRanges)
	}
	c.Block = slices.Clone(c.Block)
	for n, p := range c.Block {
		if !p.IsValid() || !p.Addr().Is4() {
			return c, fmt.Errorf("blocked range %v: want IPv4, like 10.0.0.0/8: containers have no IPv6", p)
		}
		c.Block[n] = p.Masked()
	}
	if len(c.PluginDirs) == 0 {
		for _, dir := range []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"} {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				c.PluginDirs = append(c.PluginDirs, dir)
			}
		}
	}
	return c, nil
}

// gateway is the box's own address on the bridge.
func (c Config) gateway() netip.Addr { return c.Subnet.Addr().Next() }
