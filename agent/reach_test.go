package agent

import (
	"strings"
	"testing"
)

// Package network has the tests of isolation in all its ways; here is what a real
// container sees of it, over a restart of EcoLink.
func TestContainerKeepsItsAddressOverARestartAndIPv6StaysInside(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	m.run(Workload{ID: "instance-1", Image: image, Hostname: "one"})
	m.run(Workload{ID: "instance-2", Image: image, Hostname: "two"})
	address := func(id string) string {
		return m.output(id, "sh", "-c", "ip -4 -o addr show eth0; ip route; cat /etc/hosts /etc/resolv.conf")
	}
	before := address("instance-1")
	if !strings.Contains(before, "default via") || !strings.Contains(before, "nameserver") || !strings.Contains(before, "\tone\n") {
		t.Errorf("its network is %q", before)
	}
	m.stop()
	m.start(int(machines.Load()))
	if after := address("instance-1"); after != before {
		t.Errorf("it was %q and is %q", before, after)
	}
	if got := m.output("instance-1", "sh", "-c", "ping -6 -c1 -W2 ::1 >/dev/null && echo works"); got != "works\n" {
		t.Errorf("::1 inside: %q", got)
	}
	// Whatever address the kernel gives a cable by itself leads nowhere.
	six := strings.TrimSpace(m.output("instance-2", "sh", "-c", "ip -6 -o addr show eth0 | awk '{print $4}' | cut -d/ -f1 | head -1"))
	if six == "" {
		return // none to try
	}
	if _, got := m.try("instance-1", "sh", "-c", "ping -6 -c1 -W1 "+six+"%eth0 >/dev/null 2>&1 && echo reached || echo apart"); got != "apart\n" {
		t.Errorf("%s: %q", six, got)
	}
}
