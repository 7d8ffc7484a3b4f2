package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ecolink/agent/userns"
)

func errorIs(err, target error) bool { return errors.Is(err, target) }

func TestRestartKeepsOwnersAndAdoptsWarmNamespaces(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 2
	n := open(t, cfg)
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	eventually(t, "a full pool", func() bool { return len(n.warm) == 2 })
	service := listen(t, a.Path, a.Address.String()+":0")
	crash(n)
	warm := leases(t, n)

	n = open(t, cfg)
	if len(n.warm) != 2 || leases(t, n) != warm {
		t.Errorf("%d warm namespaces and leases %s after the restart, before 2 and %s", len(n.warm), leases(t, n), warm)
	}
	for _, before := range []Namespace{a, b} {
		if after, ok := n.Lookup(before.Owner); !ok || after != before {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if again := acquire(t, n, before.Owner); again != before {
			t.Errorf("before %+v, after %+v", before, again)
		}
	}
	if _, err := connect(t, hostPath, service); err != nil {
		t.Errorf("the container's service after the restart: %v", err)
	}
	if _, err := connect(t, b.Path, service); err == nil {
		t.Error("after the restart one owner's container reaches another's")
	}
}

func TestCloseLeavesOwnedNamespacesWorkingForTheNextProcess(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 2
	n := open(t, cfg)
	out := newOutside(t)
	ns := acquire(t, n, "instance-1")
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, ns.Path, listen(t, out.path, "203.0.113.2:0")); err != nil {
		t.Errorf("egress while no process runs: %v", err)
	}
	if got := leases(t, n); got != ns.Address.String() {
		t.Errorf("leases %s, want only %v: warm ones are gone", got, ns.Address)
	}
	if again, ok := open(t, cfg).Lookup("instance-1"); !ok || again != ns {
		t.Errorf("before %+v, after %+v", ns, again)
	}
}

func TestCrashWhileMakingLeavesNothing(t *testing.T) {
	steps := []string{"record", "namespace", "attached", "ready but not renamed"}
	for count := 1; count <= len(steps); count++ {
		t.Run(steps[count-1], func(t *testing.T) {
			cfg := newConfig(t)
			n := open(t, cfg)
			keep := acquire(t, n, "instance-1")
			rec, err := n.records.begin("ns-half")
			rec.Range = userns.RangeAt(7)
			if err == nil && count >= 2 {
				err = createNamespace(n.path(rec.ID), n.mapping(rec))
			}
			if err == nil && count >= 3 {
				_, err = n.plugins.add(t.Context(), rec.ID, n.path(rec.ID))
			}
			if err == nil && count >= 4 {
				err = os.WriteFile(filepath.Join(n.records.dir, rec.file()), []byte(`{"id":"ns-half","addr`), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			crash(n)
			n = open(t, cfg)
			if got := leases(t, n); got != keep.Address.String() {
				t.Errorf("leases %s, want only %v", got, keep.Address)
			}
			if namespaceAlive(n.path("ns-half")) || n.mapping(rec).Alive() {
				t.Error("the half-made namespace is still there")
			}
			if _, ok := n.Lookup("instance-1"); !ok {
				t.Error("the whole one is gone")
			}
		})
	}
}

func TestCrashWhileReleasingIsFinishedByTheNextProcess(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	acquire(t, n, "instance-1")
	rec := n.owned["instance-1"]
	if _, err := n.records.retire(rec); err != nil {
		t.Fatal(err)
	}
	if err := n.bridge.removePort(rec.ID, rec.Interface); err != nil {
		t.Fatal(err)
	}
	crash(n)
	n = open(t, cfg)
	if got := leases(t, n); got != "" || len(n.Owners()) != 0 || namespaceAlive(n.path(rec.ID)) {
		t.Errorf("leases %q, owners %v", got, n.Owners())
	}
}

func TestWhatIsMarkedOursWithoutARecordIsSwept(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	stray := filepath.Join(cfg.RunDir, "netns", "ns-stray")
	if err := createNamespace(stray, userns.Mapping{}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.plugins.add(t.Context(), "ns-stray", stray); err != nil {
		t.Fatal(err)
	}
	output(t, "ip", "link", "add", "stray0", "type", "veth", "peer", "name", "stray1")
	output(t, "ip", "link", "set", "stray0", "master", cfg.Bridge, "alias", n.bridge.alias("ns-gone"))
	output(t, "ip", "link", "add", "foreign0", "type", "veth", "peer", "name", "foreign1")
	t.Cleanup(func() { output(t, "ip", "link", "del", "foreign0") })
	output(t, "ip", "link", "set", "foreign0", "master", cfg.Bridge)
	crash(n)
	n = open(t, cfg)
	if got := leases(t, n); got != "" || namespaceAlive(stray) {
		t.Errorf("leases %q; stray namespace alive: %v", got, namespaceAlive(stray))
	}
	if link, _ := findLink("stray0"); link != nil {
		t.Error("the stray port is still there")
	}
	if link, _ := findLink("foreign0"); link == nil {
		t.Error("a port that somebody else made is gone")
	}
}

func TestOwnerWhoseNamespaceVanishedGetsAnother(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	before := acquire(t, n, "instance-1")
	if err := removeNamespace(before.Path); err != nil {
		t.Fatal(err)
	}
	if _, ok := n.Lookup("instance-1"); ok {
		t.Error("lookup answers a namespace that is gone")
	}
	if after := acquire(t, n, "instance-1"); after.Path == before.Path || ping(t, after.Path, after.Gateway) != nil {
		t.Errorf("before %+v, after %+v", before, after)
	}
	vanish, _ := n.Lookup("instance-1")
	crash(n)
	if err := removeNamespace(vanish.Path); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	if len(n.Owners()) != 0 || leases(t, n) != "" {
		t.Errorf("owners %v, leases %s", n.Owners(), leases(t, n))
	}
}

func TestSmallerPoolAfterARestartDropsTheSurplus(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 3
	n := open(t, cfg)
	eventually(t, "a full pool", func() bool { return len(n.warm) == 3 })
	crash(n)
	cfg.Warm = 1
	n = open(t, cfg)
	if len(n.warm) != 1 || strings.Count(leases(t, n), " ") != 0 {
		t.Errorf("%d warm, leases %s", len(n.warm), leases(t, n))
	}
}

func TestChangedConfigurationReplacesTheNetworkOnceItIsEmpty(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 1
	n := open(t, cfg)
	acquire(t, n, "instance-1")
	crash(n)
	other := newConfig(t)
	other.RunDir = cfg.RunDir
	if _, err := New(t.Context(), other, slog.New(slog.DiscardHandler)); !errorIs(err, ErrInUse) || !strings.Contains(err.Error(), "instance-1") {
		t.Fatalf("got %v, want the owner that is in the way", err)
	}
	n = open(t, cfg)
	if err := n.Release(t.Context(), "instance-1"); err != nil {
		t.Fatal(err)
	}
	crash(n)
	n = open(t, other)
	if link, _ := findLink(cfg.Bridge); link != nil {
		t.Error("the old bridge is still there")
	}
	if ns := acquire(t, n, "instance-1"); !other.Subnet.Contains(ns.Address) || ping(t, ns.Path, ns.Gateway) != nil {
		t.Errorf("got %+v", ns)
	}
}

func TestSecondProcessOnTheSameRunDirIsRefused(t *testing.T) {
	cfg := newConfig(t)
	open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, cfg, slog.New(slog.DiscardHandler)); !errorIs(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

func TestSecondProcessWithTheSameNameElsewhereIsRefused(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	second := newConfig(t)
	second.Name = cfg.Name
	t.Cleanup(func() { closeEmpty(t, n) }) // before what is left is looked for
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, second, slog.New(slog.DiscardHandler)); !errorIs(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if err := ping(t, ns.Path, ns.Gateway); err != nil {
		t.Errorf("the first network no longer works: %v", err)
	}
}

// A process that is killed while it starts another leaves a child that has its name
// until it has become the other program.
func TestTheNameOfAProcessThatWasKilledIsWaitedFor(t *testing.T) {
	name := newConfig(t).Name
	f, err := lockName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "0.3")
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	again, err := lockName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("it was free after %s: the child did not hold it", took)
	}
}

func TestNetworkOfAnotherNameCannotShareTheBridge(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	second := newConfig(t)
	second.Bridge, second.Subnet = cfg.Bridge, cfg.Subnet
	if _, err := New(t.Context(), second, slog.New(slog.DiscardHandler)); !errorIs(err, ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if err := ping(t, ns.Path, ns.Gateway); err != nil {
		t.Errorf("the first network no longer works: %v", err)
	}
	closeEmpty(t, n)
}

func TestStartThatFailsHalfwayLeavesNothing(t *testing.T) {
	cfg := newConfig(t)
	// Where the leases should go lies a file.
	if err := os.MkdirAll(filepath.Join(cfg.RunDir, "cni"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.RunDir, "cni", "leases"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("it started")
		closeEmpty(t, n)
	}
}

func TestCloseWithAnEndedContextStillRemovesAll(t *testing.T) {
	cfg := newConfig(t)
	cfg.Warm = 1
	output(t, "iptables", "-A", "FORWARD", "-j", "ACCEPT") // so that there is something to open
	t.Cleanup(func() { output(t, "iptables", "-F", "FORWARD") })
	n := open(t, cfg)
	eventually(t, "a full pool", func() bool { return len(n.warm) == 1 })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Close(ended); err != nil {
		t.Error(err)
	}
}

func TestNamespaceThatWouldNotGoIsTriedAgain(t *testing.T) {
	cfg := newConfig(t)
	cfg.Subnet = netip.PrefixFrom(cfg.Subnet.Addr(), 29)
	n := open(t, cfg)
	rec, err := n.make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// host-local cannot work without its folder of leases.
	hidden := n.plugins.leases + ".hidden"
	if err := errors.Join(os.Rename(n.plugins.leases, hidden), os.WriteFile(n.plugins.leases, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := n.discard(t.Context(), rec); err == nil {
		t.Error("it went without its lease")
	}
	if err := errors.Join(os.Remove(n.plugins.leases), os.Rename(hidden, n.plugins.leases)); err != nil {
		t.Fatal(err)
	}
	if leases(t, n) == "" {
		t.Error("its address is free while it is still there")
	}
	if err := n.retryStuck(t.Context()); err != nil {
		t.Error(err)
	}
	if got := leases(t, n); got != "" || len(n.stuck) != 0 {
		t.Errorf("leases %q, %d stuck", got, len(n.stuck))
	}
}

func TestOwnerWhosePortWasDeletedGetsAnotherNamespace(t *testing.T) {
	n := open(t, newConfig(t))
	before := acquire(t, n, "instance-1")
	link, err := netlink.LinkByName(n.owned["instance-1"].Interface)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if after := acquire(t, n, "instance-1"); after.Path == before.Path || ping(t, after.Path, after.Gateway) != nil {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestBridgeOfSomebodyElseIsRefusedAndLeftAlone(t *testing.T) {
	cfg := newConfig(t)
	foreign := cfg
	foreign.Bridge = "foreignbr0"
	output(t, "ip", "link", "add", foreign.Bridge, "type", "bridge")
	t.Cleanup(func() { output(t, "ip", "link", "del", foreign.Bridge) })
	for range 2 { // a failed start must not make it ours
		if _, err := New(t.Context(), foreign, slog.New(slog.DiscardHandler)); !errorIs(err, ErrInUse) {
			t.Fatalf("got %v, want ErrInUse", err)
		}
	}
	if addresses := output(t, "ip", "-4", "addr", "show", "dev", foreign.Bridge); addresses != "" {
		t.Errorf("it was given addresses: %s", addresses)
	}
}

func TestBridgeThatACrashLeftUnmarkedIsOurs(t *testing.T) {
	cfg := newConfig(t)
	n := open(t, cfg)
	crash(n)
	link, err := netlink.LinkByName(cfg.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetAlias(link, ""); err != nil {
		t.Fatal(err)
	}
	open(t, cfg)
}

func TestSubnetThatTheHostRoutesElsewhereIsRefused(t *testing.T) {
	cfg := newConfig(t)
	newOutside(t)
	cfg.Subnet = netip.MustParsePrefix("203.0.0.0/16")
	if _, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler)); !errorIs(err, ErrInUse) || !strings.Contains(err.Error(), "203.0.113.0/24") {
		t.Errorf("got %v, want ErrInUse and the route", err)
	}
}

func TestMissingPluginNamesThePackage(t *testing.T) {
	cfg := newConfig(t)
	cfg.PluginDirs = []string{t.TempDir()}
	if _, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler)); !errorIs(err, ErrPluginMissing) || !strings.Contains(err.Error(), "containernetworking-plugins") {
		t.Errorf("got %v", err)
	}
}

// leases lists the leased addresses.
func leases(t *testing.T, n *Network) string {
	t.Helper()
	entries, err := os.ReadDir(n.plugins.leases)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		if _, err := netip.ParseAddr(entry.Name()); err == nil {
			all = append(all, entry.Name())
		}
	}
	return strings.Join(all, " ")
}
