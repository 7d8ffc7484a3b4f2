package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/volume"
)

const testVolumeBytes = 64 << 20

func (m *machine) create(id string) {
	m.t.Helper()
	if err := m.CreateVolume(background, id, testVolumeBytes); err != nil {
		m.t.Fatal(err)
	}
}

func TestVolumesAreInTheContainerAndOutliveIt(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	m.create("drive-1")
	m.create("drive-2")
	m.create("fs-1")
	// The inner path comes first, and one volume lies where EcoLink's own files are.
	w := Workload{ID: "instance-1", Image: image, Hostname: "a", Mounts: []Mount{
		{"drive-2", "/data/inner"}, {"drive-1", "/data"}, {"fs-1", "/etc"},
	}}
	m.run(w)
	m.output(w.ID, "sh", "-c", "echo one > /data/f && echo two > /data/inner/f && echo three > /etc/f && sync")
	if got := m.output(w.ID, "sh", "-c", "hostname; cat /etc/hostname; ls /proc/1/exe /run/ecolink/init"); !strings.HasPrefix(got, "a\na\n") {
		t.Errorf("a volume at /etc hides EcoLink's files: %q", got)
	}
	mounts := m.output(w.ID, "cat", "/proc/self/mountinfo")
	for _, path := range []string{"/data", "/data/inner", "/etc"} {
		fields := ""
		for line := range strings.Lines(mounts) {
			if strings.Contains(line, " "+path+" ") {
				fields = line
			}
		}
		if !strings.Contains(fields, "nosuid") || !strings.Contains(fields, "nodev") || strings.Contains(fields, "shared:") || strings.Contains(fields, "master:") {
			t.Errorf("%s is mounted as %q", path, fields)
		}
	}
	// A node of a device that the container may not otherwise have, and of one that it may.
	if code, out := m.try(w.ID, "sh", "-c", "mknod /data/zero c 1 5 2>&1 && head -c 1 /data/zero 2>&1"); code == 0 || !strings.Contains(out, "ermission") && !strings.Contains(out, "not permitted") {
		t.Errorf("a device node on a volume works: %q", out)
	}
	if code, out := m.try(w.ID, "sh", "-c", "dd if=/dev/zero of=/data/big bs=1M 2>&1"); code == 0 || !strings.Contains(out, "No space left") {
		t.Errorf("a full volume says %q", out)
	}
	m.output(w.ID, "rm", "/data/big")
	if used, err := m.List(background); err != nil || len(used) != 1 {
		t.Fatalf("%v, %v", used, err)
	}
	var busy *VolumeBusyError
	if err := m.DeleteVolume(background, "drive-1"); !errors.As(err, &busy) {
		t.Errorf("got %v", err)
	}
	// The shared one in a second container.
	m.run(Workload{ID: "instance-2", Image: image, Hostname: "b", Mounts: []Mount{{"fs-1", "/shared"}}})
	if got := m.output("instance-2", "cat", "/shared/f"); got != "three\n" {
		t.Errorf("got %q", got)
	}
	m.output("instance-2", "sh", "-c", "echo answer > /shared/reply")
	if got := m.output("instance-1", "cat", "/etc/reply"); got != "answer\n" {
		t.Errorf("got %q", got)
	}
	for _, id := range []string{"instance-1", "instance-2"} {
		if err := m.Remove(background, id, 0); err != nil {
			t.Fatal(err)
		}
	}
	list, err := m.ListVolumes(background)
	if err != nil || len(list) != 3 || len(list[0].Users)+len(list[1].Users)+len(list[2].Users) > 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	m.run(Workload{ID: "instance-3", Image: image, Hostname: "c", Mounts: []Mount{{"drive-1", "/again"}}})
	if got := m.output("instance-3", "cat", "/again/f"); got != "one\n" {
		t.Errorf("got %q", got)
	}
}

func TestWorkloadWithoutItsVolumeDoesNotStart(t *testing.T) {
	m := newMachine(t)
	image := m.push("demo/box:1")
	if err := m.Pull(background, image, func(PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	_, err := m.Run(background, Workload{ID: "instance-1", Image: image, Hostname: "a", Mounts: []Mount{{"drive-1", "/data"}}})
	if !errors.Is(err, ErrVolumeNotFound) {
		t.Errorf("got %v", err)
	}
	m.create("drive-1")
	if err := os.WriteFile(filepath.Join(m.places.Volumes.Dir, "drive-1", "image"), make([]byte, testVolumeBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = m.Run(background, Workload{ID: "instance-1", Image: image, Hostname: "a", Mounts: []Mount{{"drive-1", "/data"}}})
	var corrupt *VolumeCorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("got %v", err)
	}
	if o, err := m.Observe(background, "instance-1"); err != nil || o.Presence != Absent {
		t.Errorf("%+v, %v", o, err)
	}
}

// A reboot ends containers and mounts. What was synced is there when the workload
// runs again.
func TestWorkloadHasItsVolumeAgainAfterAReboot(t *testing.T) {
	m := newMachine(t)
	w := Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "a", Mounts: []Mount{{"drive-1", "/data"}}}
	m.create("drive-1")
	m.run(w)
	m.output(w.ID, "sh", "-c", "echo synced > /data/f && sync")
	st, err := m.runtime.Status(background, w.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(int(st.PID), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.waitUntilGone(w.ID)
	users, err := m.volumes.Users()
	if err != nil || len(users[w.ID]) != 1 {
		t.Fatalf("%v, %v", users, err)
	}
	m.close()
	path := filepath.Join(m.places.Volumes.RunDir, "drive-1", w.ID)
	if err := unix.Unmount(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.places.Volumes.RunDir); err != nil {
		t.Fatal(err)
	}
	m.open(slog.New(slog.DiscardHandler))
	m.run(w)
	if got := m.output(w.ID, "cat", "/data/f"); got != "synced\n" {
		t.Errorf("got %q", got)
	}
}

// waitUntilGone waits until containerd has seen the end of a workload.
func (m *machine) waitUntilGone(id string) {
	m.t.Helper()
	for range 100 {
		if o, err := m.Observe(background, id); err == nil && o.Presence != Running {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.t.Fatal("it still runs")
}

func TestFilesOfAVolumeAreReachedAttachedOrNotAndNoLinkLeadsOut(t *testing.T) {
	m := newMachine(t)
	m.create("drive-1")
	m.files.quiet = 50 * time.Millisecond
	v, err := m.OpenVolume(background, "drive-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Root.WriteFile("hello", []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	var busy *VolumeBusyError
	if err := m.DeleteVolume(background, "drive-1"); !errors.As(err, &busy) {
		t.Errorf("deleted under somebody who looks at it: %v", err)
	}
	if list, err := m.List(background); err != nil || len(list) != 0 {
		t.Errorf("who looks at files seems to be a workload: %v, %v", list, err)
	}
	m.run(Workload{ID: "instance-1", Image: m.push("demo/box:1"), Hostname: "a", Mounts: []Mount{{"drive-1", "/data"}}})
	if got := m.output("instance-1", "cat", "/data/hello"); got != "from the host" {
		t.Errorf("got %q", got)
	}
	m.output("instance-1", "sh", "-c", "ln -s /etc/shadow /data/link; ln -s ../../../.. /data/up; echo inside > /data/f")
	if f, err := v.Root.Open("link"); err == nil {
		f.Close()
		t.Error("a link leads out")
	}
	if f, err := v.Root.Open("up/etc/passwd"); err == nil {
		f.Close()
		t.Error("a link leads up and out")
	}
	f, err := v.Root.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(f); err != nil || string(text) != "inside\n" {
		t.Errorf("%q, %v", text, err)
	}
	f.Close()
	for range 2 {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := m.Remove(background, "instance-1", 0); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if users, err := m.volumes.Users(); err == nil && len(users) == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%v, %v", users, err)
		}
	}
	if v, err = m.OpenVolume(background, "drive-1"); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if err := m.DeleteVolume(background, "drive-1"); err != nil { // within the quiet
		t.Error(err)
	}
	if _, err := m.OpenVolume(background, "drive-1"); !errors.Is(err, ErrVolumeNotFound) {
		t.Errorf("got %v", err)
	}
}

// Many may open, close and delete at once.
func TestVolumesOpenedByManyAtOnceAreLeftByAll(t *testing.T) {
	m := newMachine(t)
	m.create("drive-1")
	m.files.quiet = time.Millisecond
	errs := make(chan error)
	const lookers, looks = 6, 15
	for n := range lookers {
		go func() {
			var err error
			for range looks {
				var v *OpenVolume
				if v, err = m.OpenVolume(background, "drive-1"); err != nil {
					break
				}
				err = errors.Join(v.Root.WriteFile(fmt.Sprint("f", n), []byte("x"), 0o600), v.Close())
				if err != nil {
					break
				}
			}
			errs <- err
		}()
	}
	for range lookers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := m.DeleteVolume(context.Background(), "drive-1"); err != nil {
		t.Error(err)
	}
	var full *volume.FullError
	if err := m.CreateVolume(background, "drive-2", 4<<40); !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
}
