package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newPlaces are the folders of a box that does not run.
func newPlaces(t *testing.T) Places {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	p := Places{DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), Namespace: "ecolink-doctor-test"}
	for _, d := range []string{p.DataDir, p.RunDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p Places) make(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		path = filepath.Join(filepath.Dir(p.DataDir), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".d") {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if filepath.Base(path) == "image" {
			if out, err := exec.Command("mkfs.ext4", "-q", path, "1M").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		} else if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p Places) look(t *testing.T, known Known) []Finding {
	t.Helper()
	found, err := Look(p, known)
	if err != nil {
		t.Fatal(err)
	}
	// What this machine lacks is none of these tests' business.
	return slices.DeleteFunc(found, func(f Finding) bool { return f.Kind == Program || f.Kind == Kernel || f.Kind == Disk || f.Minor })
}

func find(found []Finding, kind Kind, name string) *Finding {
	for n, f := range found {
		if f.Kind == kind && strings.HasSuffix(f.Name, name) {
			return &found[n]
		}
	}
	return nil
}

func TestHealthyBoxHasNothingToBeSaid(t *testing.T) {
	p := newPlaces(t)
	p.make(t, "data/containers/instance-1/log/current.log", "data/scratch/instance-1/image", "data/scratch/warm-1/image", "data/volumes/cloud-drive-2/image",
		"data/volumes/.lock", "run/network/records/owned/ns-1@instance-1", "data/terminals/instance-1/main/sock")
	known := Known{Workloads: []string{"instance-1"}, Volumes: []string{"cloud-drive-2"}}
	if found := p.look(t, known); len(found) > 0 {
		t.Errorf("%+v", found)
	}
}

func TestEverythingThatIsLeftOfAWorkloadIsOneFinding(t *testing.T) {
	p := newPlaces(t)
	p.make(t, "data/containers/instance-9/log/current.log", "data/scratch/instance-9/image", "run/network/records/owned/ns-1@instance-9",
		"run/terminals/instance-9/main/sock", "run/runtime/etc/instance-9/hosts", "run/scratch/instance-9/layer.d")
	mounted := filepath.Join(p.RunDir, "scratch", "instance-9", "layer.d")
	if err := unix.Mount("none", mounted, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mounted, unix.MNT_DETACH)
	found := p.look(t, Known{Running: true})
	if len(found) != 1 || found[0].Kind != Workload || found[0].Name != "instance-9" || found[0].Repair == "" {
		t.Fatalf("%+v", found)
	}
	where := strings.Join(found[0].Where, "\n")
	for _, part := range []string{"data/containers/instance-9", "data/scratch/instance-9", "run/terminals/instance-9", "runtime/etc/instance-9", "netns/ns-1", "mount " + mounted} {
		if !strings.Contains(where, part) {
			t.Errorf("%s is not among\n%s", part, where)
		}
	}
}

func TestMountsLoopsNamespacesPipesAndVolumesOfNobodyAreFound(t *testing.T) {
	p := newPlaces(t)
	p.make(t, "run/network/netns/ns-7", "run/runtime/fifo/1/stdin", "data/volumes/cloud-drive-5/image", "run/volumes/cloud-drive-5/files.d", "data/volumes/disk.img",
		"run/network/userns/ns-8.layer", "run/runtime/maps/instance-7.d", "run/trial/user.layer")
	netns, files := filepath.Join(p.RunDir, "network", "netns", "ns-7"), filepath.Join(p.RunDir, "volumes", "cloud-drive-5", "files.d")
	if err := unix.Mount("/proc/self/ns/net", netns, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(netns, unix.MNT_DETACH)
	if err := unix.Mount("none", files, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(files, unix.MNT_DETACH)
	users, maps := filepath.Join(p.RunDir, "network", "userns", "ns-8.layer"), filepath.Join(p.RunDir, "runtime", "maps", "instance-7.d")
	if err := unix.Mount("/proc/self/ns/user", users, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(users, unix.MNT_DETACH)
	if err := unix.Mount("none", maps, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(maps, unix.MNT_DETACH)
	trial := filepath.Join(p.RunDir, "trial", "user.layer")
	if err := unix.Mount("/proc/self/ns/user", trial, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(trial, unix.MNT_DETACH)
	image := filepath.Join(p.DataDir, "volumes", "disk.img")
	if err := os.Truncate(image, 1<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	loop := strings.TrimSpace(string(out))
	defer func() {
		if out, err := exec.Command("losetup", "--detach", loop).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}()
	found := p.look(t, Known{Volumes: []string{"cloud-drive-6"}})
	for _, want := range []struct {
		kind Kind
		name string
	}{{Network, "ns-7"}, {Pipes, "fifo"}, {Mount, "files.d"}, {Mount, "ns-8.layer"}, {Mount, "instance-7.d"}, {Mount, "user.layer"}, {Loop, loop}, {Volume, "cloud-drive-5"}, {Volume, "cloud-drive-6"}} {
		if find(found, want.kind, want.name) == nil {
			t.Errorf("%s %s is not among %+v", want.kind, want.name, found)
		}
	}
	if f := find(found, Volume, "cloud-drive-5"); f == nil || !f.LosesFiles || f.Repair == "" {
		t.Errorf("an image without a drive: %+v", f)
	}
	if f := find(found, Volume, "cloud-drive-6"); f == nil || f.Repair != "" {
		t.Errorf("a drive without an image: %+v", f)
	}
	found = p.look(t, Known{Unsettled: []string{"cloud-drive-5", "cloud-drive-6"}})
	if five, six := find(found, Volume, "cloud-drive-5"), find(found, Volume, "cloud-drive-6"); five != nil || six != nil {
		t.Errorf("drives that are being made: %+v, %+v", five, six)
	}
}

// A running EcoLink has them from its pool of volumes.
func TestImageThatIsNotAsItShouldBeIsToldWhenEcoLinkDoesNotRun(t *testing.T) {
	p := newPlaces(t)
	p.make(t, "data/volumes/cloud-drive-5/image", "data/volumes/cloud-drive-6/image", "data/volumes/cloud-drive-7/image")
	image := func(name string) string { return filepath.Join(p.DataDir, "volumes", name, "image") }
	if err := os.Truncate(image("cloud-drive-5"), 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image("cloud-drive-6"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	known := Known{Volumes: []string{"cloud-drive-5", "cloud-drive-7"}, Unsettled: []string{"cloud-drive-6", "cloud-drive-8"}}
	found := p.look(t, known)
	if len(found) != 2 {
		t.Errorf("%+v", found)
	}
	if f := find(found, Volume, "cloud-drive-5"); f == nil || f.Why != "unreserved" || !strings.HasPrefix(f.Repair, "reserve the 6") || f.LosesFiles || f.Advice != "" {
		t.Errorf("an image with holes: %+v", f)
	}
	if f := find(found, Volume, "cloud-drive-6"); f == nil || f.Why != "damaged" || f.Repair != "" || !strings.Contains(f.Advice, "e2fsck") {
		t.Errorf("an image without a file system: %+v", f)
	}
	known.Running = true
	if found := p.look(t, known); len(found) > 0 {
		t.Errorf("told twice when EcoLink runs: %+v", found)
	}
}

func TestOnlyWhatLastsIsFound(t *testing.T) {
	a, b, c := Finding{Kind: Mount, Name: "a"}, Finding{Kind: Mount, Name: "b"}, Finding{Kind: Loop, Name: "a"}
	if got := Lasting([]Finding{a, b}, []Finding{b, c}); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("%+v", got)
	}
}

func TestContainerdThatIsTooOldIsFound(t *testing.T) {
	for says, want := range map[string]string{
		"containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1":  "",
		"containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4e490e9fbdc": "",
		"containerd github.com/containerd/containerd 1.4.13~ds1 1.4.13~ds1-1~deb11u4":  "its version is 1.4.13",
		"containerd?": "does not say its version",
	} {
		path := filepath.Join(t.TempDir(), "containerd")
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		err := checkContainerd(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", says, err, want)
		}
	}
	if err := checkContainerd("/bin/false"); err == nil {
		t.Error("a containerd that fails is fine")
	}
}

func TestUserNamespacesThatCannotBeAreToldWithTheReasonAndMinor(t *testing.T) {
	dir := t.TempDir()
	for said, want := range map[string]bool{"": false, "on\n": false, "off, as --user-namespaces says\n": false, NoUserNamespaces + "no room\n": true} {
		if said != "" {
			if err := os.WriteFile(UserNamespacesFile(dir), []byte(said), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := os.RemoveAll(UserNamespacesFile(dir)); err != nil {
			t.Fatal(err)
		}
		f, found := userNamespaces(dir)
		if found != want || found && (f.Kind != Kernel || !f.Minor || !strings.Contains(f.Why, "no room") || !strings.Contains(f.Advice, "--user-namespaces off")) {
			t.Errorf("%q: %v, %+v", said, found, f)
		}
	}
}
