package endtoend

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ecolink/packaging/userland"
)

// hostRoot is what root in an instance is on the host.
func (b *box) hostRoot(name string) string {
	b.t.Helper()
	fields := strings.Fields(b.cli("instance", "exec", name, "--", "cat", "/proc/self/uid_map"))
	if len(fields) != 3 || fields[0] != "0" {
		b.t.Fatalf("the users of %s are %q", name, fields)
	}
	return fields[1]
}

func TestUserNamespacesAreDecidedAtStartAndTheDoctorTellsThem(t *testing.T) {
	b := newBox(t, 2)
	i := b.await(b.launch("first").ID, "running")
	x, code := b.doctor()
	if code != 0 || x.UserNamespaces != "on" || !strings.Contains(b.log(), "user namespaces are on") {
		t.Errorf("exit %d, %+v", code, x)
	}
	first := b.hostRoot("first")
	if first == "0" {
		t.Error("root is root on the host")
	}

	b.stop()
	b.flags = []string{"--user-namespaces", "off"}
	b.start()
	if x, code := b.doctor(); code != 0 || !strings.HasPrefix(x.UserNamespaces, "off") {
		t.Errorf("exit %d, %+v", code, x)
	}
	b.await(b.launch("second").ID, "running")
	if now, second := b.hostRoot("first"), b.hostRoot("second"); now != first || second != "0" {
		t.Errorf("root is %s in what ran before, and %s in what began now", now, second)
	}

	// A machine that can't: root of a container can't get to its own files.
	b.stop()
	if x, _ := b.doctor("--repair"); x.UserNamespaces != "off, as --user-namespaces says" {
		t.Errorf("a repair has decided anew: %+v", x)
	}
	if err := os.Chmod(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.flags = nil
	b.start()
	x, code = b.doctor()
	if code != 0 || !strings.Contains(x.UserNamespaces, "permission denied") {
		t.Errorf("exit %d, %+v", code, x)
	}
	if again := b.await(i.ID, "running"); !again.RunningSince.Equal(i.RunningSince) {
		t.Errorf("what ran has begun anew: %+v", again)
	}
	b.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must := append([]string{"serve", "--config", os.DevNull, "--listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0", "--gpus", "simulated:h100x2", "--user-namespaces", "on"}, b.place()...)
	out, err := exec.CommandContext(ctx, binary, must...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--user-namespaces on: this machine can't") || !strings.Contains(string(out), "permission denied") {
		t.Errorf("%v: %s", err, out)
	}
	if err := os.Chmod(b.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	b.start()
	if x, code := b.doctor(); code != 0 || x.UserNamespaces != "on" {
		t.Errorf("exit %d, %+v", code, x)
	}
}

// What a package does when it is installed in a real Debian: files of other users,
// setuid programs, users of its own.
func TestDebiansPackagesInstallInAnInstance(t *testing.T) {
	image, err := userland.Image(t.Context(), userland.Shell)
	if err != nil {
		t.Fatal(err)
	}
	b := newBoxWith(t, 1, func(b *box) {
		if b.image, err = b.registry.Push("demo/debian:1", image); err != nil {
			t.Fatal(err)
		}
	})
	b.awaitLarge(b.launch("debian").ID)
	if b.hostRoot("debian") == "0" {
		t.Fatal("root is root on the host")
	}
	const script = `set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin /tmp/p/var/lib/p
cp /usr/bin/id /tmp/p/usr/bin/p-id
chmod 4755 /tmp/p/usr/bin/p-id
echo data > /tmp/p/var/lib/p/data
chown -R 33:8 /tmp/p/var/lib/p
chmod 2750 /tmp/p/var/lib/p
printf 'Package: p\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: a test\n' > /tmp/p/DEBIAN/control
printf '#!/bin/sh\nset -e\nuseradd --system --create-home p-user\ninstall -d -o p-user -g p-user /var/lib/p/own\n' > /tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
dpkg-deb --build /tmp/p /tmp/p.deb >/dev/null
dpkg -i /tmp/p.deb >/dev/null
stat -c '%u:%g %a' /var/lib/p /var/lib/p/data
stat -c '%U %a' /var/lib/p/own /usr/bin/p-id
setpriv --reuid=p-user --regid=p-user --clear-groups /usr/bin/p-id -un
dpkg -r p >/dev/null 2>&1
`
	want := "33:8 2750\n33:8 644\np-user 755\nroot 4755\nroot\n"
	if got := b.cli("instance", "exec", "debian", "--", "bash", "-c", script); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
