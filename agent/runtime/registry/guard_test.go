package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAddressesThatNobodyMayConnectToAreRefusedInEveryForm(t *testing.T) {
	containers := netip.MustParsePrefix("10.117.0.0/16")
	for _, g := range []guard{{refuse: []netip.Prefix{containers}}, {refuse: []netip.Prefix{containers}, loopback: true}} {
		for _, text := range []string{
			"169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
			"fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "::ffff:100.100.100.200", "192.0.0.192",
			"0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "10.117.3.4", "::ffff:10.117.3.4",
		} {
			if err := g.check(netip.MustParseAddr(text)); err == nil {
				t.Errorf("%s was allowed", text)
			}
		}
		for _, text := range []string{"192.168.1.10", "10.0.0.5", "172.16.3.3", "140.82.112.33", "2606:50c0:8000::154", "fd00::5"} {
			if err := g.check(netip.MustParseAddr(text)); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	for _, text := range []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"} {
		if err := (guard{}).check(netip.MustParseAddr(text)); err == nil {
			t.Errorf("%s was allowed", text)
		}
	}
}

func TestNoSpellingOfALinkLocalAddressIsAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ip := netip.AddrFrom4([4]byte{169, 254, rapid.Byte().Draw(t, "c"), rapid.Byte().Draw(t, "d")})
		v6 := netip.AddrFrom16(ip.As16())
		for _, one := range []netip.Addr{ip, v6, v6.WithZone("eth0")} {
			if (guard{loopback: true}).check(one) == nil {
				t.Fatalf("%s was allowed", one)
			}
		}
	})
}

// get asks as a pull would, for a host that a name has led to.
func get(client *http.Client, address string) error {
	resp, err := client.Get(address)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return err
}

func TestNameOrRedirectThatLeadsToThisMachineIsRefused(t *testing.T) {
	var reached atomic.Bool
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer secret.Close()
	c := New(Config{})
	defer c.Close()
	var forbidden *ForbiddenError
	// localhost stands for any name that resolves to loopback.
	address := strings.Replace(secret.URL, "127.0.0.1", "localhost", 1)
	if err := get(c.outside, address); !errors.As(err, &forbidden) {
		t.Errorf("by its name: %v", err)
	}
	door := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/latest/meta-data", http.StatusFound))
	defer door.Close()
	if err := get(c.inside, door.URL); !errors.As(err, &forbidden) {
		t.Errorf("by a redirect: %v", err)
	}
	if reached.Load() {
		t.Error("it was reached")
	}
	if err := get(c.inside, secret.URL); err != nil || !reached.Load() {
		t.Errorf("a registry on this machine: %v", err)
	}
}

func TestDomainsThatMeanThisMachine(t *testing.T) {
	for _, yes := range []string{"localhost", "localhost:5000", "LOCALHOST", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000", "::1"} {
		if !Local(yes) {
			t.Errorf("%s is not", yes)
		}
	}
	for _, no := range []string{"docker.io", "localhost.example.org", "127.example.org", "10.0.0.1:5000", "evil-localhost:5000"} {
		if Local(no) {
			t.Errorf("%s is", no)
		}
	}
}

func TestMirrorsComeFirstWithTheirOwnLogInsAndTheRegistryLast(t *testing.T) {
	mirror := Mirror{URL: &url.URL{Scheme: "https", Host: "mirror.example.org:5000", Path: "/hub"}}
	c := New(Config{Mirrors: map[string][]Mirror{"docker.io": {mirror}}})
	defer c.Close()
	hosts, err := c.hosts("docker.io", &Login{"ana", "x"})
	if err != nil || len(hosts) != 2 || hosts[0].Host != "mirror.example.org:5000" || hosts[0].Path != "/hub/v2" || hosts[1].Host != "registry-1.docker.io" {
		t.Errorf("%+v, %v", hosts, err)
	}
	if hosts, err := c.hosts("ghcr.io", nil); err != nil || len(hosts) != 1 || hosts[0].Scheme != "https" {
		t.Errorf("%+v, %v", hosts, err)
	}
	if _, err := New(Config{NoLoopback: true}).hosts("localhost:5000", nil); err == nil {
		t.Error("loopback is switched off")
	}
}

func TestHostThatWantsNoRequestsIsSparedAndWhoCannotWaitIsToldAtOnce(t *testing.T) {
	p := newPatient(Config{}, guard{})
	p.note("a.example", "3600")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	began := time.Now()
	var busy *BusyError
	if err := p.await(ctx, "a.example"); !errors.As(err, &busy) || time.Until(busy.Until) > busyMost {
		t.Errorf("got %v", err)
	}
	if err := p.await(ctx, "b.example"); err != nil || time.Since(began) > 500*time.Millisecond {
		t.Errorf("another host: %v after %s", err, time.Since(began))
	}
	for n := range 3 * maxBusy {
		p.note(string(rune('a'+n%26))+strings.Repeat("x", n), "1")
	}
	if len(p.busy) > maxBusy {
		t.Errorf("%d hosts are remembered", len(p.busy))
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "1", "-5", "999999999999", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := newPatient(Config{}, guard{})
		p.note("a.example", text)
		if wait := time.Until(p.busy["a.example"]); wait > busyMost {
			t.Fatalf("%q asks for %s", text, wait)
		}
	})
}

func TestProxiesOfTheEnvironmentAreReachedWhereverTheyAre(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := guard{}.dial(map[string]bool{l.Addr().String(): true})
	conn, err := dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := (guard{}).dial(nil)(context.Background(), "tcp", l.Addr().String()); err == nil {
		t.Error("it was reached without being a proxy")
	}
}
