package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// try runs a command in a workload that may fail, and gives what it prints.
func (m *machine) try(id string, argv ...string) (code int, out string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	var all strings.Builder
	code, err := m.Exec(ctx, id, argv, Stdio{Stdout: &all, Stderr: io.Discard})
	if err != nil {
		m.t.Fatalf("%v: %v", argv, err)
	}
	return code, all.String()
}

// observeUntil looks at a workload until it is as wanted.
func (m *machine) observeUntil(id, what string, is func(Observation) bool) Observation {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		o, err := m.Observe(background, id)
		if err == nil && is(o) {
			return o
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s is not %s: %+v, %v", id, what, o, err)
		}
	}
}

func (m *machine) end(ids ...string) {
	m.t.Helper()
	for _, id := range ids {
		if err := m.Remove(background, id, 0); err != nil {
			m.t.Errorf("remove %s: %v", id, err)
		}
	}
}

// told waits for the news of a workload.
func (m *machine) told(id string) {
	m.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-m.Changes():
			if got == id {
				return
			}
		case <-deadline:
			m.t.Fatalf("nobody told of %s", id)
		}
	}
}

func TestEndOfAStartCommandIsToldAtOnceWithItsReason(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	for n, row := range []struct {
		command []string
		want    CommandEnd
	}{
		{[]string{"sh", "-c", "exit 3"}, CommandEnd{Code: 3}},
		{[]string{"true"}, CommandEnd{}},
		{[]string{"sh", "-c", "sleep 0.3; kill -SEGV $$"}, CommandEnd{Signal: 11}},
		{[]string{"/no/such/program"}, CommandEnd{Error: "/no/such/program: no such file or directory"}},
	} {
		id := fmt.Sprint("instance-", n)
		m.run(Workload{ID: id, Image: image, Hostname: "box", Command: row.command})
		o := m.observeUntil(id, "told of", func(o Observation) bool { return o.Command != nil })
		if time.Since(o.Command.At) > time.Minute {
			t.Errorf("%v: at %s", row.command, o.Command.At)
		}
		m.told(id)
		o.Command.At = time.Time{}
		if *o.Command != row.want || o.Presence != Running {
			t.Errorf("%v: %+v, %+v", row.command, o, *o.Command)
		}
	}
	// What the container says of itself is not trusted further than that.
	m.output("instance-0", "sh", "-c", "cd /run/ecolink; rm ended; mkfifo ended")
	if o, err := m.Observe(background, "instance-0"); err != nil || o.Command != nil {
		t.Errorf("%+v, %v", o.Command, err)
	}
	m.output("instance-0", "sh", "-c", "cd /run/ecolink; rm ended; ln -s /etc/passwd ended")
	if o, err := m.Observe(background, "instance-0"); err != nil || o.Command != nil {
		t.Errorf("%+v, %v", o.Command, err)
	}
	// Another EcoLink finds and follows those that run.
	m.run(Workload{ID: "instance-9", Image: image, Hostname: "box", Command: []string{"sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; exit 4"}})
	m.stop()
	m.start(int(machines.Load()))
	time.Sleep(200 * time.Millisecond)
	m.output("instance-9", "touch", "/go")
	m.told("instance-9")
	m.observeUntil("instance-9", "told of", func(o Observation) bool { return o.Command != nil && o.Command.Code == 4 })
}

func TestMemoryHogIsEndedAndCountedAndItsContainerGoesOn(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box", Resources: Resources{MemoryBytes: 64 << 20},
		Command: []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"}}
	m.run(w)
	m.told(w.ID)
	o := m.observeUntil(w.ID, "out of memory", func(o Observation) bool { return o.OOMKills > 0 && o.Command != nil })
	if o.Presence != Running || o.Command.Signal != 9 {
		t.Fatalf("%+v, %+v", o, o.Command)
	}
	if code, _ := m.try(w.ID, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"); code != 137 {
		t.Errorf("a second hog ended with %d", code)
	}
	m.observeUntil(w.ID, "out of memory twice", func(o Observation) bool { return o.OOMKills == 2 })
	if got := m.output(w.ID, "echo", "alive"); got != "alive\n" {
		t.Errorf("got %q", got)
	}
}

func TestForkBombStaysInItsContainerAndIsRemoved(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	m.run(Workload{ID: "instance-2", Image: image, Hostname: "neighbour"})
	m.run(Workload{ID: "instance-1", Image: image, Hostname: "bomb", Resources: Resources{PIDs: 200, MilliCPUs: 100},
		Command: []string{"sh", "-c", "b() { while :; do b & done; }; b"}})
	group := m.cgroupOf("instance-1", "pids")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		raw, err := os.ReadFile(filepath.Join(group, "pids.events")) // "max N": how often it was refused more
		var refused int
		if _, scan := fmt.Sscanf(string(raw), "max %d", &refused); err == nil && scan == nil && refused > 100 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bomb does not go off: %s, %v", raw, err)
		}
	}
	began := time.Now()
	if got := m.output("instance-2", "echo", "alive"); got != "alive\n" {
		t.Errorf("the neighbour says %q", got)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the neighbour took %s", took)
	}
	if o, err := m.Observe(background, "instance-1"); err != nil || o.Presence != Running {
		t.Errorf("%+v, %v", o, err)
	}
	if err := m.Remove(background, "instance-1", time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group); err == nil {
		t.Errorf("%s is left", group)
	}
}

// cgroupOf is the folder of a workload's control group, of one controller.
func (m *machine) cgroupOf(id, controller string) string {
	m.t.Helper()
	for _, dir := range []string{filepath.Join("/sys/fs/cgroup", controller), "/sys/fs/cgroup"} {
		path := filepath.Join(dir, m.places.Runtime.Namespace, id)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	m.t.Fatalf("%s has no control group for %s", id, controller)
	return ""
}

func TestFullScratchSharedMemoryAndLogStayInTheirBounds(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	w := Workload{ID: "instance-1", Image: image, Hostname: "box", Resources: Resources{ShmBytes: 16 << 20, ScratchBytes: 64 << 20},
		Command: []string{"sh", "-c", "yes 'a line of some length that fills a log' | head -c 60000000; echo all written"}}
	m.run(w)
	for dir, most := range map[string]int64{"/dev/shm": 16 << 20, "/root": 64 << 20} {
		code, out := m.try(w.ID, "sh", "-c", fmt.Sprintf("dd if=/dev/zero of=%s/fill bs=1M count=100 2>&1; stat -c %%s %s/fill", dir, dir))
		var size int64
		lines := strings.Fields(out)
		fmt.Sscan(lines[len(lines)-1], &size)
		if code != 0 || !strings.Contains(out, "No space left on device") || size > most || size < most/2 {
			t.Errorf("%s: exit %d, %d bytes: %s", dir, code, size, out)
		}
	}
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} { // the host's files
		m.try(w.ID, "sh", "-c", "rm -f /root/fill; dd if=/dev/zero of=/etc/"+name+" bs=1M count=100")
		if st, err := os.Stat(filepath.Join(m.places.Runtime.RunDir, "etc", w.ID, name)); err != nil || st.Size() > 64<<20 {
			t.Errorf("/etc/%s has %d bytes of the host's, %v", name, st.Size(), err)
		}
	}
	m.output(w.ID, "sh", "-c", "for f in hosts resolv.conf hostname; do : >/etc/$f; done")
	if got := m.output(w.ID, "sh", "-c", "rm -f /root/fill; echo again > /root/file; cat /root/file"); got != "again\n" {
		t.Errorf("after it was full: %q", got)
	}
	m.observeUntil(w.ID, "through with its log", func(o Observation) bool { return o.Command != nil })
	var log int64
	err := filepath.Walk(filepath.Join(m.places.Runtime.DataDir, "containers", w.ID), func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			log += st.Size()
		}
		return err
	})
	if err != nil || log > 40<<20 || log < 8<<20 {
		t.Errorf("its log has %d bytes, %v", log, err)
	}
	last := ""
	for l, err := range m.Logs(background, w.ID, 3, false) {
		if err != nil {
			t.Fatal(err)
		}
		last += l.Text + "\n"
	}
	if !strings.Contains(last, "all written") {
		t.Errorf("the end of the log is %q", last)
	}
}

func TestScratchKeepsTheFilesOverARestartOfTheContainerAndGoesWithTheInstance(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box", Resources: Resources{ScratchBytes: 64 << 20}}
	m.run(w)
	m.output(w.ID, "sh", "-c", "echo precious > /root/file; rm /bin/vi")
	if got := m.output(w.ID, "stat", "-c", "%a %u", "/"); got != "755 0\n" {
		t.Errorf("its root folder is %q", got)
	}
	st, err := m.runtime.Status(background, w.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(st.PID), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.observeUntil(w.ID, "over", func(o Observation) bool { return o.Presence == Exited })
	m.run(w)
	if got := m.output(w.ID, "sh", "-c", "cat /root/file; ls /bin/vi 2>&1 | wc -l"); !strings.HasPrefix(got, "precious\n") {
		t.Errorf("got %q", got)
	}
	m.end(w.ID)
	if _, err := os.Stat(filepath.Join(m.places.Scratch.Dir, w.ID)); err == nil {
		t.Error("the scratch is left")
	}
}

func TestLimitsAreInTheControlGroup(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box",
		Resources: Resources{MilliCPUs: 1500, FixedCPUs: true, MemoryBytes: 128 << 20, PIDs: 77}}
	m.run(w)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		for file, want := range map[string]string{"cpu.max": "150000 100000", "memory.max": "134217728", "pids.max": "77"} {
			raw, err := os.ReadFile(filepath.Join(m.cgroupOf(w.ID, "."), file))
			if err != nil || strings.TrimSpace(string(raw)) != want {
				t.Errorf("%s has %q, %v", file, raw, err)
			}
		}
		return
	}
	for file, want := range map[string]string{
		"cpu/cpu.shares": "1536", "cpu/cpu.cfs_quota_us": "150000", "memory/memory.limit_in_bytes": "134217728", "pids/pids.max": "77",
	} {
		controller, name, _ := strings.Cut(file, "/")
		raw, err := os.ReadFile(filepath.Join(m.cgroupOf(w.ID, controller), name))
		if err != nil || strings.TrimSpace(string(raw)) != want {
			t.Errorf("%s has %q, %v", file, raw, err)
		}
	}
}

// What Docker keeps from a container by default is kept from ours.
func TestContainerHasNoMorePowersThanDockersDefault(t *testing.T) {
	m := newMachine(t)
	m.run(Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "box"})
	for what, row := range map[string][2]string{
		"capabilities":              {"grep CapEff /proc/self/status | tr -d '\\t'", "CapEff:00000000a80425fb"},
		"no more to be had":         {"grep CapBnd /proc/self/status | tr -d '\\t'", "CapBnd:00000000a80425fb"},
		"system calls are filtered": {"grep Seccomp: /proc/self/status | tr -d '\\t'", "Seccomp:2"},
		"mounting":                  {"mount -t tmpfs x /mnt 2>/dev/null || echo no", "no"},
		"another user namespace":    {"unshare -U true 2>/dev/null || echo no", "no"},
		"settings of the kernel":    {"echo 1 2>/dev/null > /proc/sys/kernel/panic || echo no", "no"},
		"sysrq":                     {"echo h 2>/dev/null > /proc/sysrq-trigger || echo no", "no"},
		"sysfs":                     {"touch /sys/fs/x 2>/dev/null || echo no", "no"},
		"its control group":         {"mkdir /sys/fs/cgroup/memory/x 2>/dev/null || mkdir /sys/fs/cgroup/x 2>/dev/null || echo no", "no"},
		"the kernel's memory":       {"head -c1 /proc/kcore 2>/dev/null | wc -c", "0"},
		"keys":                      {"wc -c < /proc/keys", "0"},
		"a disk's device node":      {"mknod /tmp/d b 7 0 2>/dev/null; head -c1 /tmp/d 2>/dev/null | wc -c", "0"},
		"processes of the host":     {"ls -d /proc/[0-9]* | wc -l | awk '{print ($1 < 10) ? \"few\" : \"many\"}'", "few"},
		"kernel modules":            {"cat /proc/kallsyms >/dev/null; modprobe dummy 2>/dev/null || echo no", "no"},
	} {
		if _, got := m.try("instance-1", "sh", "-c", row[0]); strings.TrimSpace(got) != row[1] {
			t.Errorf("%s: %q, want %q", what, got, row[1])
		}
	}
}
