package network

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestRulesAreRestoredWhenSomebodyEmptiesTheRuleset(t *testing.T) {
	n := open(t, newConfig(t))
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	outsideService, hostService := listen(t, out.path, "203.0.113.2:0"), listen(t, hostPath, "0.0.0.0:0")
	for _, damage := range []string{
		"flush ruleset",
		"delete table inet " + n.cfg.Name,
		"delete table bridge " + n.cfg.Name,
		"flush chain inet " + n.cfg.Name + " input",
	} {
		output(t, "nft", damage)
		eventually(t, "restored after "+damage, func() bool { intact, err := n.filter.intact(); return err == nil && intact })
		if _, err := connect(t, ns.Path, outsideService); err != nil {
			t.Errorf("egress after %s: %v", damage, err)
		}
		if _, err := connect(t, ns.Path, hostService); err == nil {
			t.Errorf("the host's port is open after %s", damage)
		}
	}
}

func TestThousandPortsAreFiltered(t *testing.T) {
	n := open(t, newConfig(t))
	const count = 1000
	for i := range count {
		id := fmt.Sprintf("ns-%d", i)
		rec := record{ID: id, Interface: id, MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&0xff), Address: n.cfg.Subnet.Addr()}
		if err := n.filter.remember(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.filter.apply(); err != nil {
		t.Fatal(err)
	}
	if intact, err := n.filter.intact(); !intact || err != nil {
		t.Errorf("intact: %v, %v", intact, err)
	}
}

func TestNameserverAtTheGatewayIsReachableFromTheStart(t *testing.T) {
	cfg := newConfig(t)
	cfg.DNS = []string{cfg.gateway().String()}
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	if _, err := connect(t, ns.Path, listen(t, hostPath, cfg.DNS[0]+":53")); err != nil {
		t.Error(err)
	}
}

func TestBridgeMadeByThePluginBecomesWhole(t *testing.T) {
	n := open(t, newConfig(t))
	output(t, "ip", "link", "del", n.cfg.Bridge)
	output(t, "ip", "link", "add", n.cfg.Bridge, "type", "bridge")
	output(t, "ip", "addr", "add", n.bridge.address().String(), "dev", n.cfg.Bridge)
	ns := acquire(t, n, "instance-1")
	link, err := netlink.LinkByName(n.cfg.Bridge)
	if err != nil || link.Attrs().Alias != n.bridge.alias("") || link.Attrs().HardwareAddr.String() != n.bridge.mac().String() {
		t.Errorf("got %+v, %v", link, err)
	}
	if err := ping(t, ns.Path, ns.Gateway); err != nil {
		t.Error(err)
	}
}

func TestBridgeDeletedUnderRunningContainersComesBack(t *testing.T) {
	n := open(t, newConfig(t))
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	link, err := netlink.LinkByName(n.cfg.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	if err := ping(t, a.Path, a.Gateway); err != nil { // a has the gateway's MAC now
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if err := n.repairLinks(); err != nil {
		t.Fatal(err)
	}
	if err := ping(t, a.Path, a.Gateway); err != nil {
		t.Errorf("ping the gateway: %v", err)
	}
	if err := ping(t, a.Path, b.Address); err == nil {
		t.Error("the containers reach each other now")
	}
}

func TestHostsIPTablesThatDropForwardingAreOpenedAndClosedAgain(t *testing.T) {
	cfg := newConfig(t)
	out := newOutside(t)
	output(t, "iptables", "-P", "FORWARD", "DROP")
	output(t, "iptables", "-A", "FORWARD", "-j", "DROP")
	t.Cleanup(func() {
		output(t, "iptables", "-P", "FORWARD", "ACCEPT")
		output(t, "iptables", "-F", "FORWARD")
	})
	before := output(t, "iptables", "-S", "FORWARD")
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	service := listen(t, out.path, "203.0.113.2:0")
	if _, err := connect(t, ns.Path, service); err != nil {
		t.Errorf("egress: %v", err)
	}
	// Docker, ufw and administrators rewrite their rules at any time.
	output(t, "iptables", "-F", "FORWARD")
	output(t, "iptables", "-A", "FORWARD", "-j", "DROP")
	eventually(t, "opened again", func() bool { return strings.Count(output(t, "iptables", "-S", "FORWARD"), "-j ACCEPT") == 2 })
	if _, err := connect(t, ns.Path, service); err != nil {
		t.Errorf("egress after the rules were rewritten: %v", err)
	}
	closeEmpty(t, n)
	if after := output(t, "iptables", "-S", "FORWARD"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestHostWithoutIPTablesRulesGetsNone(t *testing.T) {
	cfg := newConfig(t)
	output(t, "nft", "flush", "ruleset")
	n := open(t, cfg)
	acquire(t, n, "instance-1")
	for line := range strings.Lines(output(t, "nft", "list", "tables")) {
		if !strings.HasSuffix(strings.TrimSpace(line), " "+cfg.Name) {
			t.Errorf("a table that is not ours: %s", line)
		}
	}
}
