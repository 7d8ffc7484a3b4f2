package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConfigRefusesWhatCannotWork(t *testing.T) {
	good := DefaultConfig()
	if _, err := good.complete(); err != nil {
		t.Fatalf("the default: %v", err)
	}
	for name, spoil := range map[string]func(*Config){
		"empty name":         func(c *Config) { c.Name = "" },
		"name with a space":  func(c *Config) { c.Name = "eco link" },
		"long bridge":        func(c *Config) { c.Bridge = "sixteen-letters-" },
		"IPv6 subnet":        func(c *Config) { c.Subnet = netip.MustParsePrefix("fd00::/64") },
		"no subnet":          func(c *Config) { c.Subnet = netip.Prefix{} },
		"tiny subnet":        func(c *Config) { c.Subnet = netip.MustParsePrefix("10.0.0.0/30") },
		"relative run dir":   func(c *Config) { c.RunDir = "run" },
		"negative pool":      func(c *Config) { c.Warm = -1 },
		"huge pool":          func(c *Config) { c.Warm = MaxWarm + 1 },
		"nameserver by name": func(c *Config) { c.DNS = []string{"dns.example"} },
		"IPv6 nameserver":    func(c *Config) { c.DNS = []string{"2001:db8::1"} },
		"bridge for all":     func(c *Config) { c.Bridge = "all" },
		"IPv6 range blocked": func(c *Config) { c.Block = []netip.Prefix{netip.MustParsePrefix("fd00:ec2::/64")} },
		"no range blocked":   func(c *Config) { c.Block = []netip.Prefix{{}} },
		"too many ranges":    func(c *Config) { c.Block = make([]netip.Prefix, MaxBlockedRanges+1) },
		"port zero":          func(c *Config) { c.AllowTCP = []uint16{443, 0} },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := cfg.complete(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSubnetIsTakenFromAnyAddressInIt(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Subnet = netip.MustParsePrefix("10.20.30.40/16")
	cfg, err := cfg.complete()
	if err != nil || cfg.Subnet.String() != "10.20.0.0/16" || cfg.gateway().String() != "10.20.0.1" {
		t.Errorf("got %v, gateway %v, %v", cfg.Subnet, cfg.gateway(), err)
	}
}

func TestResolversAreTheHostsOwnLessThoseThatContainersCannotReach(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stub := write("stub", "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\n")
	upstream := write("upstream", "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver\t192.0.2.2\nsearch example\n")
	for _, c := range []struct {
		name              string
		configured, files []string
		want              []string
		fallback          bool
	}{
		{"configured", []string{"198.51.100.1"}, []string{upstream}, []string{"198.51.100.1"}, false},
		{"the host's", nil, []string{upstream}, []string{"192.0.2.1", "192.0.2.2"}, false},
		{"behind a loopback stub", nil, []string{stub, upstream}, []string{"192.0.2.1", "192.0.2.2"}, false},
		{"only loopback", nil, []string{stub, filepath.Join(dir, "missing")}, []string{FallbackResolver1, FallbackResolver2}, true},
	} {
		found, fallback := chooseResolvers(c.configured, c.files)
		var got []string
		for _, r := range found {
			got = append(got, r.Address.String())
		}
		if !slices.Equal(got, c.want) || fallback != c.fallback {
			t.Errorf("%s: got %v, %v, want %v, %v", c.name, got, fallback, c.want, c.fallback)
		}
	}
}

func TestRecordsSurviveTheWayThroughAllStates(t *testing.T) {
	s := records{dir: t.TempDir()}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	expect := func(step string, want record) {
		t.Helper()
		all, err := s.load()
		if err != nil || len(all) != 1 || all[0] != want {
			t.Fatalf("%s: got %+v, %v, want %+v", step, all, err, want)
		}
	}
	rec, err := s.begin("ns-1")
	if err != nil {
		t.Fatal(err)
	}
	expect("making", record{ID: "ns-1", State: stateMaking})
	if _, err := s.begin("ns-1"); err == nil {
		t.Error("the same id begins twice")
	}
	rec.Address, rec.Gateway = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1")
	rec.Interface, rec.MAC = "veth1", "02:00:00:00:00:01"
	if rec, err = s.ready(rec); err != nil || rec.State != stateWarm {
		t.Fatal(rec, err)
	}
	expect("warm", rec)
	if rec, err = s.own(rec, "../a@b/%2F c"); err != nil || rec.State != stateOwned {
		t.Fatal(rec, err)
	}
	expect("owned", rec)
	if rec, err = s.retire(rec); err != nil || rec.State != stateRemoving {
		t.Fatal(rec, err)
	}
	expect("removing", rec)
	for range 2 {
		if err := s.forget(rec); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.load(); err != nil || len(all) != 0 {
		t.Errorf("forgotten, but got %+v, %v", all, err)
	}
}

func TestThreadsThatWanderAreNeverTheFirst(t *testing.T) {
	var running sync.WaitGroup
	for range 200 {
		running.Go(func() {
			onOwnThread(func() (back bool) {
				if unix.Gettid() == unix.Getpid() {
					t.Error("on the first thread, whose namespaces /proc/self shows")
				}
				time.Sleep(time.Millisecond)
				return true
			})
		})
	}
	running.Wait()
}

func TestTornRecordIsOnlyGoodForRemoval(t *testing.T) {
	for _, text := range []string{"", "{", `{"id":"other"}`, `{"id":"ns-1","address":"10.0.0.2"}`} {
		for _, name := range []string{"warm/ns-1", "owned/ns-1@instance"} {
			s := records{dir: t.TempDir()}
			if err := s.prepare(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it lies in the folder removing
				all, err := s.load()
				if err != nil || len(all) != 1 || all[0].ID != "ns-1" || all[0].State != stateRemoving {
					t.Fatalf("%s with %q: got %+v, %v", name, text, all, err)
				}
			}
		}
	}
}
