package filestest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Mount makes an ext4 file system of a size, with room for so many files, and
// mounts it as volumes are, until the test has ended.
func Mount(t testing.TB, bytes int64, files int) string {
	t.Helper()
	NeedRoot(t)
	dir, err := os.MkdirTemp("", "ecofiles")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "volume")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, bytes); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-N", fmt.Sprint(files), image)
	run(t, "mount", "-o", "loop,nosuid,nodev", image, at)
	t.Cleanup(func() { run(t, "umount", at) })
	return at
}

// NeedRoot skips a test that is not run as root; where CI runs it, it fails.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root")
	}
	t.Skip("needs root")
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}
