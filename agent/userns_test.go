package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ecolink/agent/runtime"
	"ecolink/agent/userns"
	"ecolink/packaging/sample"
)

// userImage has files of several users, a program with the setuid bit and one with a
// file capability.
func (m *machine) userImage() string {
	m.t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		m.t.Fatal(err)
	}
	// linux/capability.h: a vfs_cap_data of revision 2, effective, that permits
	// CAP_DAC_OVERRIDE.
	capability := make([]byte, 20)
	binary.LittleEndian.PutUint32(capability, 0x02000001)
	binary.LittleEndian.PutUint32(capability[4:], 1<<unix.CAP_DAC_OVERRIDE)
	return m.push("demo/users:1",
		sample.File{Path: "etc/passwd", Mode: 0o644, Content: []byte("root::0:0:root:/root:/bin/sh\nwww-data:x:33:33::/srv:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")},
		sample.File{Path: "etc/group", Mode: 0o644, Content: []byte("root:x:0:\nwww-data:x:33:\napp:x:1000:\nnogroup:x:65534:\n")},
		sample.File{Path: "root/secret", Mode: 0o600, Content: []byte("of root alone\n")},
		sample.File{Path: "srv/", Mode: 0o750, UID: 33},
		sample.File{Path: "srv/page", Mode: 0o640, UID: 33, Content: []byte("page\n")},
		sample.File{Path: "srv/odd", Mode: 0o600, UID: 65534, Content: []byte("nobody's\n")},
		sample.File{Path: "set/", Mode: 0o755}, sample.File{Path: "set/su", Mode: 0o4755, Content: busybox},
		sample.File{Path: "cap/", Mode: 0o755}, sample.File{Path: "cap/cat", Mode: 0o755, Content: busybox, Capabilities: string(capability)},
	)
}

// hostUsers are the users that a process has on the host: real, effective, saved and
// of files.
func hostUsers(t *testing.T, pid uint32) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if name, ids, _ := strings.Cut(line, ":"); name == "Uid" || name == "Gid" {
			out = append(out, strings.Fields(ids)...)
		}
	}
	return strings.Join(out, " ")
}

func (m *machine) pid(id string) uint32 {
	m.t.Helper()
	st, err := m.runtime.Status(background, id)
	if err != nil || !st.Running {
		m.t.Fatalf("%+v, %v", st, err)
	}
	return st.PID
}

func TestRootInAContainerIsNobodyOnTheHostAndNobodyElsesRoot(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	seen := map[string]bool{"0": true}
	for _, id := range []string{"instance-1", "instance-2"} {
		m.run(Workload{ID: id, Image: image, Hostname: "box", Command: []string{"sh", "-c", "sleep 1000"}})
		ns, ok := m.network.Lookup(id)
		if !ok || !ns.User.Valid() {
			t.Fatalf("%+v", ns)
		}
		root := fmt.Sprint(ns.User.First)
		if seen[root] {
			t.Errorf("%s has the root of another", id)
		}
		seen[root] = true
		want := strings.TrimSpace(strings.Repeat(root+" ", 8))
		// Process 1, the start command, what a terminal and what exec has started.
		term, err := m.Terminal(background, id, "main", -1, 80, 24)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(term, "sleep 2000 & echo begun=$((6*7))\n")
		readUntil(t, term, "begun=42")
		term.Close()
		if pids := processesOf(t, m.pid(id)); len(pids) < 4 {
			t.Errorf("only %v run", pids)
		} else {
			for _, pid := range pids {
				if got := hostUsers(t, pid); got != want {
					t.Errorf("process %d has the users %s, want %s", pid, got, want)
				}
			}
		}
		if got := m.output(id, "sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"); got != fmt.Sprintf("0\n 0 %s %d\n", root, userns.IDs) {
			t.Errorf("inside: %q", got)
		}
	}
}

// processesOf lists the processes in a container's PID namespace.
func processesOf(t *testing.T, first uint32) (pids []uint32) {
	t.Helper()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first))
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if in, err := os.Readlink(filepath.Join(dir, "ns/pid")); err == nil && in == namespace {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, uint32(pid))
		}
	}
	return pids
}

func TestImagesUsersSetuidProgramsAndFileCapabilitiesWork(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.userImage(), Hostname: "box", Resources: Resources{ScratchBytes: 64 << 20}}
	m.run(w)
	for _, row := range [][3]string{
		{"owners", "cd /srv && stat -c '%n %u:%g %a' . page odd /root/secret /set/su /", ". 33:33 750\npage 33:33 640\nodd 65534:65534 600\n/root/secret 0:0 600\n/set/su 0:0 4755\n/ 0:0 755\n"},
		{"root's file, for others", "su app -c 'cat /root/secret' 2>&1 | tail -c 18", "Permission denied\n"},
		{"a folder of another user", "su www-data -c 'cat /srv/page'", "page\n"},
		{"setuid", `su app -c "/set/su -c 'id -u; cat /root/secret'"`, "0\nof root alone\n"},
		{"a file capability", "su app -c '/cap/cat /root/secret'", "of root alone\n"},
		{"chown as packages do", "mkdir -p /var/lib/x && touch /var/lib/x/f && chown -R 33:1000 /var/lib/x && chmod 2775 /var/lib/x && stat -c '%u:%g %a' /var/lib/x /var/lib/x/f", "33:1000 2775\n33:1000 644\n"},
		{"an archive with owners", "cd /tmp && tar cf a.tar -C / srv && mkdir out && tar xf a.tar -C out && stat -c '%u:%g %a' out/srv out/srv/odd", "33:33 750\n65534:65534 600\n"},
		{"changing a file of the image", "echo more >> /srv/page && chown 1000 /srv/odd && stat -c '%u:%g %a' /srv/page /srv/odd", "33:33 640\n1000:65534 600\n"},
		{"a capability outlives the copy", "touch /cap/cat && chmod 755 /cap/cat && su app -c '/cap/cat /root/secret'", "of root alone\n"},
		{"setuid outlives the copy", `touch -d '2020-01-01 00:00' /set/su && su app -c "/set/su -c 'id -u'"`, "0\n"},
		{"removing and renaming", "rm /srv/page && mv /srv/odd /srv/even && rm -r /srv && mkdir /srv && ls -A /srv | wc -l", "0\n"},
		{"a port below 1024", "su app -c 'timeout 1 nc -l -p 80' 2>&1; echo $?", "Terminated\n143\n"},
		{"raw sockets", "ping -c 1 -W 2 $(ip route | awk '/default/{print $3}') | grep -c '1 packets received'", "1\n"},
		{"sysfs", "ls /sys/class/net | grep -c eth0", "1\n"},
		{"standard output, opened anew", "echo again > /dev/stdout; echo err 2>&1 >/dev/stderr", "again\nerr\n"},
		{"device nodes", "mknod /tmp/null c 1 3 2>/dev/null || echo no; echo x > /dev/null; head -c 3 /dev/zero | wc -c", "no\n3\n"},
	} {
		if code, got := m.try(w.ID, "sh", "-c", row[1]); got != row[2] {
			t.Errorf("%s: %q, want %q; its exit code is %d", row[0], got, row[2], code)
		}
	}
}

func TestWhatRootWritesIsRootsForEverybodyAndWhenUserNamespacesAreOff(t *testing.T) {
	m := newMachine(t)
	number := int(machines.Load())
	image := m.push("demo/box:1")
	m.create("drive-1")
	first := Workload{ID: "instance-1", Image: image, Hostname: "a", Mounts: []Mount{{"drive-1", "/data"}}, Resources: Resources{ScratchBytes: 64 << 20}}
	m.run(first)
	m.output(first.ID, "sh", "-c", "echo mine > /data/f && echo theirs > /data/g && chown 33:44 /data/g && echo kept > /root/f && chown 7 /root/f && rm /bin/vi && chmod 600 /etc/hosts && sync")
	const owners = "0:0 644\n33:44 644\n"
	second := Workload{ID: "instance-2", Image: image, Hostname: "b", Mounts: []Mount{{"drive-1", "/shared"}}}
	m.run(second)
	if got := m.output(second.ID, "stat", "-c", "%u:%g %a", "/shared/f", "/shared/g"); got != owners {
		t.Errorf("another instance sees %q", got)
	}
	m.output(second.ID, "sh", "-c", "echo answer >> /shared/f && rm /shared/g && touch /shared/g && chown 33:44 /shared/g")
	open, err := m.OpenVolume(background, "drive-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]uint32{"f": {0, 0}, "g": {33, 44}} {
		info, err := open.Root.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("the host sees %s as %d:%d's", name, st.Uid, st.Gid)
		}
	}
	if err := open.Root.WriteFile("up", []byte("loaded"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if got := m.output(first.ID, "stat", "-c", "%u:%g", "/data/up"); got != "0:0\n" {
		t.Errorf("what was uploaded is %q's", got)
	}
	// Off, and on again: what runs goes on, and what starts anew has its files.
	for _, on := range []bool{false, true} {
		was := m.pid(second.ID)
		m.stop()
		m.userNamespaces = on
		m.start(number)
		if m.pid(second.ID) != was {
			t.Error("the switch has ended what ran")
		}
		for _, w := range []Workload{first, second} {
			if err := unix.Kill(int(m.pid(w.ID)), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			m.waitUntilGone(w.ID)
			m.run(w)
			if got := hostUsers(t, m.pid(w.ID)); strings.HasPrefix(got, "0 0 ") == on {
				t.Errorf("on is %v, and root has the users %s", on, got)
			}
		}
		if got := m.output(first.ID, "sh", "-c", "stat -c '%u:%g %a' /data/f /data/g && cat /data/f && stat -c %u:%g /root/f /etc/hosts / /root && ls /bin/vi 2>&1 | wc -l && chown 8 /root/f && chown 7 /root/f"); got != owners+"mine\nanswer\n7:0\n0:0\n0:0\n0:0\n1\n" {
			t.Errorf("on is %v: %q", on, got)
		}
	}
}

// Whoever breaks out of a container in some way finds that he is nobody.
func TestHostsFilesThatAContainerComesBySayNothingToItsRoot(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	if err := m.Pull(background, image, func(PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	host := filepath.Join(m.dir, "host")
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"shadow": 0o600, "motd": 0o644} {
		if err := os.WriteFile(filepath.Join(host, name), []byte(name+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	escape := func(spec *specs.Spec) error {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/host", Type: "bind", Source: host, Options: []string{"bind", "rw"}})
		return nil
	}
	const probe = "cat /host/motd; cat /host/shadow 2>/dev/null || echo no; touch /host/new 2>/dev/null || echo no; chmod 666 /host/shadow 2>/dev/null || echo no; rm -f /host/motd 2>/dev/null || echo no"
	for id, want := range map[string]string{"instance-1": "motd\nno\nno\nno\nno\n", "instance-2": "motd\nshadow\n"} {
		ns, err := m.network.Acquire(background, id)
		if err != nil {
			t.Fatal(err)
		}
		c := runtime.Container{ID: id, Image: runtime.Image{Name: image}, Hostname: "box", NetworkNamespace: ns.Path, Edit: escape}
		if id == "instance-1" {
			c.User = ns.User
		}
		if _, err := m.runtime.Start(background, c); err != nil {
			t.Fatal(err)
		}
		if got := m.output(id, "sh", "-c", probe); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
		_ = os.Remove(filepath.Join(host, "new"))
		if err := os.WriteFile(filepath.Join(host, "motd"), []byte("motd\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(host, "shadow"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What a container is made from is mounted for a moment. An EcoLink that is killed in
// it leaves that, and the next one takes it away, and nothing of what was mounted.
func TestMountsOfAStartThatWasKilledGoAndFilesStay(t *testing.T) {
	m := newMachine(t)
	m.create("drive-1")
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "a", Mounts: []Mount{{"drive-1", "/data"}}}
	m.run(w)
	m.output(w.ID, "sh", "-c", "echo kept > /data/f")
	if left := m.mounted(filepath.Join(m.places.Runtime.RunDir, "maps")); left != 0 {
		t.Errorf("%d mounts are left of a launch", left)
	}
	ns, _ := m.network.Lookup(w.ID)
	maps, err := ns.User.OpenMounts(filepath.Join(m.places.Runtime.RunDir, "maps", "instance-7"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Files(filepath.Join(m.places.Volumes.RunDir, "drive-1", w.ID)); err != nil {
		t.Fatal(err)
	}
	if left := m.mounted(filepath.Join(m.places.Runtime.RunDir, "maps")); left != 2 {
		t.Fatalf("%d mounts are there", left)
	}
	m.close()
	m.open(slog.New(slog.DiscardHandler))
	if left := m.mounted(filepath.Join(m.places.Runtime.RunDir, "maps")); left != 0 {
		t.Errorf("%d mounts are left", left)
	}
	if _, err := os.Stat(filepath.Join(m.places.Runtime.RunDir, "maps", "instance-7")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	if got := m.output(w.ID, "cat", "/data/f"); got != "kept\n" {
		t.Errorf("the drive has %q", got)
	}
}

// mounted counts the mounts in a folder.
func (m *machine) mounted(dir string) int {
	m.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Count(string(mounts), " "+dir+"/")
}

// NVIDIA's container toolkit has runc make device nodes and run hooks that write into
// the container's file system.
func TestDevicesOfTheHostAndHooksWorkInAUserNamespace(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	if err := m.Pull(background, image, func(PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(m.dir, "device")
	if err := errors.Join(unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))), os.Chmod(node, 0o666)); err != nil {
		t.Fatal(err)
	}
	ns, err := m.network.Acquire(background, "instance-1")
	if err != nil {
		t.Fatal(err)
	}
	c := runtime.Container{ID: "instance-1", Image: runtime.Image{Name: image}, Hostname: "box", NetworkNamespace: ns.Path, User: ns.User, Edit: func(spec *specs.Spec) error {
		spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{Path: node, Type: "c", Major: 1, Minor: 5})
		spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c",
			`bundle=$(sed -n 's/.*"bundle":"\([^"]*\)".*/\1/p') && grep -q ociVersion $bundle/config.json && ln -s target $bundle/rootfs/linked && id -u > $bundle/rootfs/whose`}}}}
		return nil
	}}
	if _, err := m.runtime.Start(background, c); err != nil {
		t.Fatal(err)
	}
	if got := m.output("instance-1", "sh", "-c", "head -c 4 "+node+" | wc -c; readlink /linked; cat /whose; stat -c %u /linked"); got != "4\ntarget\n0\n0\n" {
		t.Errorf("got %q", got)
	}
}
