package drives

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestMountPathsThatCannotBeAreRefusedAndOthersTaken(t *testing.T) {
	long := "/" + strings.Repeat("a", 255)
	for _, p := range []string{
		"", "workspace", "./workspace", "/", "//", "/workspace/", "/a//b", "/a/./b", "/a/../b", "/..", "/a\x00b",
		"/proc", "/proc/self", "/sys", "/sys/fs", "/dev", "/dev/shm", "/run", "/run/ecolink", "/run/ecolink/init",
		"/etc", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts/x", long + "a", strings.Repeat(long, 17),
	} {
		wantError(t, CheckMountPath(p), ErrInvalid, "path")
	}
	for _, p := range []string{
		"/workspace", "/data", "/home/ubuntu/data", "/process", "/proc2", "/system", "/run/user", "/run/ecolink2", "/etc/hosts2", "/etc/ssl",
		"/mnt/a b", "/mnt/Ω", "/...", long, strings.Repeat(long, 16),
	} {
		if err := CheckMountPath(p); err != nil {
			t.Errorf("%.80q: %v", p, err)
		}
	}
}

func FuzzMountPathsThatAreTakenAreCleanAndTouchNothingPrivate(f *testing.F) {
	for _, p := range []string{"/workspace", "/proc/x", "/a/../proc", "relative", "/", "/etc/hosts", "/a\x00", "/dev//shm", "/run/./ecolink"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckMountPath(p) != nil {
			return
		}
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || len(p) > 4096 || strings.Contains(p, "\x00") {
			t.Errorf("%q is taken", p)
		}
		parts := strings.Split(p, "/")[1:]
		if slices.Contains([]string{"proc", "sys", "dev"}, parts[0]) || slices.ContainsFunc(parts, func(s string) bool { return len(s) > 255 || s == ".." || s == "" }) {
			t.Errorf("%q is taken", p)
		}
	})
}

func TestPathsOverlapWhenOneLiesInTheOther(t *testing.T) {
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"/a", "/a", true}, {"/a", "/a/b", true}, {"/a/b", "/a", true}, {"/a", "/ab", false}, {"/a/b", "/a/c", false},
	} {
		if got := Overlap(c.p, c.q); got != c.want {
			t.Errorf("%s and %s: %v", c.p, c.q, got)
		}
	}
}
