package endtoend

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// drive is what the tests read of the API's.
type drive struct {
	ID          int64  `json:"id"`
	State       string `json:"state"`
	Problem     string `json:"problem"`
	Notice      string `json:"notice"`
	SizeGB      int64  `json:"size_gb"`
	Growing     bool   `json:"growing"`
	Attachments []struct {
		InstanceID int64 `json:"instance_id"`
	} `json:"attachments"`
	Snapshots []struct {
		State string `json:"state"`
	} `json:"snapshots"`
}

// newStorageBox is a box where storage has a price, and whose pool may use the last
// of the disk.
func newStorageBox(t testing.TB, gpus int) *box {
	t.Helper()
	return newStorageBoxWith(t, gpus, func(*box) {})
}

func newStorageBoxWith(t testing.TB, gpus int, prepare func(*box)) *box {
	t.Helper()
	b := newBoxWith(t, gpus, func(b *box) {
		b.flags = append(b.flags, "--storage-reserve-gb", "1")
		prepare(b)
	})
	for _, item := range []string{"storage/drive", "storage/shared-filesystem"} {
		b.cli(append([]string{"admin", "price", "set", item, "0.10"}, b.place()...)...)
	}
	return b
}

func (b *box) driveAt(path string) (d drive) {
	b.t.Helper()
	if f := b.api(http.MethodGet, path, nil, &d); f != nil {
		b.t.Fatalf("%s: %+v", path, f)
	}
	return d
}

func (b *box) awaitDrive(path, what string, is func(drive) bool) (d drive) {
	b.t.Helper()
	b.eventually(path+" is "+what, func() bool {
		d = b.driveAt(path)
		if d.State == "failed" || d.Problem != "" {
			b.t.Fatalf("%s is %s: %s", path, d.State, d.Problem)
		}
		return is(d)
	})
	return d
}

func in(state string) func(drive) bool { return func(d drive) bool { return d.State == state } }

// sh runs a script in an instance.
func (b *box) sh(name, script string) string {
	b.t.Helper()
	return strings.TrimSpace(b.cli("instance", "exec", name, "--", "sh", "-c", script))
}

func (b *box) launchWith(name string, mounts map[string]any) (i instance) {
	b.t.Helper()
	r := b.request(name)
	for k, v := range mounts {
		r[k] = v
	}
	if f := b.api(http.MethodPost, "/v1/gpu-instances", r, &i); f != nil {
		b.t.Fatalf("%+v", f)
	}
	return b.await(i.ID, "running")
}

func (b *box) terminate(id int64) {
	b.t.Helper()
	if f := b.api(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", id), nil, nil); f != nil {
		b.t.Fatalf("%+v", f)
	}
	b.await(id, "terminated")
}

// wantSize asks the file system inside.
func (b *box) wantSize(name, path string, bytes int64) {
	b.t.Helper()
	kib, err := strconv.ParseInt(b.sh(name, "df -k "+path+" | awk 'NR==2{print $2}'"), 10, 64)
	if err != nil || kib < bytes>>10 {
		b.t.Errorf("inside %s has %d KiB, %v", path, kib, err)
	}
}

// A drive is made, written to, grown under the instance that has it, found again
// after the server was killed at each of these points, and read by the next
// instance.
func TestADriveKeepsWhatWasSyncedThroughKillsAndInstances(t *testing.T) {
	b := newStorageBox(t, 2)
	var d drive
	if f := b.api(http.MethodPost, "/v1/drives", map[string]any{"name": "data", "size_gb": 1}, &d); f != nil {
		t.Fatalf("%+v", f)
	}
	b.kill() // while it is made, or just after
	b.start()
	path := fmt.Sprintf("/v1/drives/%d", d.ID)
	b.awaitDrive(path, "available", in("available"))
	mounts := map[string]any{"drives": []any{map[string]any{"id": d.ID, "path": "/data"}}}
	first := b.launchWith("first", mounts)
	sum := b.sh("first", "dd if=/dev/urandom of=/data/checkpoint bs=1M count=16 2>/dev/null && sync && sha256sum </data/checkpoint")
	if options := b.sh("first", "grep ' /data ' /proc/mounts"); !strings.Contains(options, "nosuid") || !strings.Contains(options, "nodev") {
		t.Errorf("mounted as %s", options)
	}
	second := b.request("second")
	second["drives"] = mounts["drives"]
	if f := b.api(http.MethodPost, "/v1/gpu-instances", second, nil); f == nil || f.Status != http.StatusConflict || f.Param != "drives[0].id" || !strings.Contains(f.Message, "(first)") {
		t.Errorf("%+v", f)
	}

	b.kill()
	b.start()
	b.await(first.ID, "running")
	if got := b.awaitDrive(path, "attached", in("attached")); len(got.Attachments) != 1 || got.Attachments[0].InstanceID != first.ID {
		t.Errorf("%+v", got)
	}
	if got := b.sh("first", "sha256sum </data/checkpoint"); got != sum {
		t.Errorf("it has %s, which was %s", got, sum)
	}

	if f := b.api(http.MethodPatch, path, map[string]any{"size_gb": 2}, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	b.kill() // while it grows
	b.start()
	// Where the kernel does not let us enlarge what is mounted, it says so, and the
	// next instance has it.
	if d = b.awaitDrive(path, "grown", func(d drive) bool { return !d.Growing }); d.Notice == "" {
		b.wantSize("first", "/data", 1_800_000_000)
	}

	b.terminate(first.ID)
	b.awaitDrive(path, "available", in("available"))
	again := b.launchWith("again", mounts)
	b.wantSize("again", "/data", 1_800_000_000)
	if got := b.sh("again", "sha256sum </data/checkpoint"); got != sum {
		t.Errorf("the next instance finds %s, which was %s", got, sum)
	}
	b.terminate(again.ID)
	if f := b.api(http.MethodDelete, path, nil, nil); f != nil {
		t.Fatalf("%+v", f)
	}
	b.kill() // while it is deleted
	b.start()
	b.eventually("it is deleted", func() bool {
		f := b.api(http.MethodGet, path, nil, nil)
		return f != nil && f.Status == http.StatusNotFound
	})
	if left, err := filepath.Glob(filepath.Join(b.dir, "data", "volumes", "[^.]*")); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
}

// Two instances have a shared filesystem at once; a snapshot of it is what it was;
// a suspended account gets it back.
func TestASharedFilesystemIsSharedSnapshottedAndBackAfterASuspension(t *testing.T) {
	b := newStorageBox(t, 2)
	b.cli("filesystem", "create", "models", "--size", "1")
	path := "/v1/shared-filesystems/1"
	for _, name := range []string{"a", "b"} {
		b.cli("instance", "launch", "--gpu-type", "h100", "--image", b.image, "--hours", "1", "--name", name, "--filesystem", "models")
	}
	b.sh("a", "echo one >/shared/file && sync")
	if got := b.sh("b", "cat /shared/file"); got != "one" {
		t.Errorf("b reads %q", got)
	}
	b.cli("filesystem", "snapshot", "models", "before")
	b.sh("b", "echo two >/shared/file && sync")
	if got := b.sh("a", "cat /shared/file"); got != "two" {
		t.Errorf("a reads %q", got)
	}

	b.eventually("all money is gone", func() bool { // storage is billed meanwhile
		available, held := b.balance()
		all := fmt.Sprintf("-%.6f", number(t, available)+number(t, held))
		return exec.Command(binary, append([]string{"admin", "correct", operator, all, "--reason", "test"}, b.place()...)...).Run() == nil
	})
	b.awaitDrive(path, "suspended", in("suspended"))
	if f := b.api(http.MethodGet, path+"/files", nil, nil); f == nil || f.Status != http.StatusConflict {
		t.Errorf("files of a suspended filesystem: %+v", f)
	}
	b.cli(append([]string{"admin", "topup", operator, "100"}, b.place()...)...)
	b.awaitDrive(path, "available", in("available"))
	b.cli("filesystem", "restore", "models", "before", "--yes")
	b.launchWith("c", map[string]any{"shared_filesystems": []any{map[string]any{"id": 1, "path": "/models"}}})
	if got := b.sh("c", "cat /models/file"); got != "one" {
		t.Errorf("after the restore there is %q", got)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "data", "volumes")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others on the host can look into the volumes: %v, %v", info, err)
	}
}
