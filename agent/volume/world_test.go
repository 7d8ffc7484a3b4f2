package volume

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var background = context.Background()

const mib = 1 << 20

func TestMain(m *testing.M) {
	if text := os.Getenv(victimVariable); text != "" {
		beVictim(text)
	}
	os.Exit(m.Run())
}

// world is a pool on a disk of its own.
type world struct {
	t    testing.TB
	disk string
	cfg  Config
	*Pool
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newWorld makes a pool on an ext4 of so many MiB; with mkfs, on what that makes.
func newWorld(t testing.TB, diskMiB int64, mkfs ...string) *world {
	t.Helper()
	needRoot(t)
	if len(mkfs) == 0 {
		mkfs = []string{"mkfs.ext4", "-q", "-m", "0"}
	}
	dir, err := os.MkdirTemp("", "eco")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	disk := filepath.Join(dir, "disk")
	must(t, os.Mkdir(disk, 0o755))
	file := filepath.Join(dir, "disk.img")
	f, err := os.Create(file)
	must(t, err)
	must(t, errors.Join(f.Truncate(diskMiB*mib), f.Close()))
	command(t, mkfs[0], append(mkfs[1:], file)...)
	command(t, "mount", "-o", "loop", file, disk)
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("the disk stays: %v", err)
			_ = unix.Unmount(disk, unix.MNT_DETACH)
		}
	})
	w := &world{t: t, disk: disk, cfg: Config{Dir: filepath.Join(disk, "volumes"), RunDir: filepath.Join(dir, "run"), Reserve: 8 * mib}}
	w.open()
	t.Cleanup(w.clear)
	return w
}

func (w *world) open() {
	w.t.Helper()
	pool, err := Open(w.cfg, slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	must(w.t, err)
	w.Pool = pool
}

// restart is what happens when EcoLink is killed and starts again.
func (w *world) restart() {
	w.t.Helper()
	must(w.t, w.Pool.Close())
	w.open()
}

// reboot takes away what a reboot takes.
func (w *world) reboot() {
	w.t.Helper()
	mounts, err := w.Pool.mounts()
	must(w.t, err)
	must(w.t, w.Pool.Close())
	for _, m := range mounts {
		must(w.t, unix.Unmount(m.path, 0))
	}
	must(w.t, os.RemoveAll(w.cfg.RunDir))
	w.open()
}

// clear ends every use, and checks that nothing is left in the kernel.
func (w *world) clear() {
	users, err := w.Users()
	if err != nil {
		w.t.Error(err)
	}
	for user, volumes := range users {
		for _, v := range volumes {
			if err := w.Unmount(background, v, user); err != nil {
				w.t.Error(err)
			}
		}
	}
	w.wantNothingMounted()
	if err := w.Pool.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) wantNothingMounted() {
	w.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(w.t, err)
	if strings.Contains(string(mounts), w.cfg.RunDir) {
		w.t.Errorf("mounts are left: %s", mounts)
	}
	all, err := loops()
	must(w.t, err)
	for number, file := range all {
		if strings.HasPrefix(file, w.cfg.Dir) {
			w.t.Errorf("loop%d is left with %s", number, file)
		}
	}
	entries, err := os.ReadDir(w.cfg.RunDir)
	must(w.t, err)
	if len(entries) > 0 {
		w.t.Errorf("mount points are left: %v", entries)
	}
}

func (w *world) mustMount(id, user string) string {
	w.t.Helper()
	path, err := w.Mount(background, id, user)
	must(w.t, err)
	return path
}

func (w *world) mustUnmount(id, user string) {
	w.t.Helper()
	must(w.t, w.Unmount(background, id, user))
}

// write writes a file and syncs it.
func write(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

func wantText(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Fatalf("%s: %q, %v; want %q", path, got, err, want)
	}
}

// fill writes until the disk at dir has no more; it gives how much went in.
func fill(t testing.TB, path string) int64 {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	var total int64
	block := []byte(strings.Repeat("x", mib))
	for {
		n, err := f.Write(block)
		total += int64(n)
		if err == nil {
			err = f.Sync()
		}
		if errors.Is(err, unix.ENOSPC) {
			return total
		}
		must(t, err)
	}
}
