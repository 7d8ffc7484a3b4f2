package volume

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestVolumeKeepsItsFilesThroughUnmountRestartAndReboot(t *testing.T) {
	w := newWorld(t, 256)
	for range 2 { // the second time it is there
		must(t, w.Create(background, "drive-1", 64*mib))
	}
	path := w.mustMount("drive-1", "instance-1")
	if again := w.mustMount("drive-1", "instance-1"); again != path {
		t.Fatalf("mounted again at %s, not %s", again, path)
	}
	write(t, filepath.Join(path, "a"), "one")
	w.restart() // it stays mounted
	wantText(t, filepath.Join(w.mustMount("drive-1", "instance-1"), "a"), "one")
	w.mustUnmount("drive-1", "instance-1")
	w.mustUnmount("drive-1", "instance-1") // nothing to do
	w.wantNothingMounted()
	path = w.mustMount("drive-1", "instance-2")
	write(t, filepath.Join(path, "b"), "two")
	w.reboot()
	path = w.mustMount("drive-1", "instance-2")
	wantText(t, filepath.Join(path, "a"), "one")
	wantText(t, filepath.Join(path, "b"), "two")
}

func TestSeveralUsersSeeOneVolumeAndTheLastOneUnmountsIt(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "fs-1", 32*mib))
	a, b := w.mustMount("fs-1", "instance-1"), w.mustMount("fs-1", "instance-2")
	if a == b {
		t.Fatal("both users have one path")
	}
	write(t, filepath.Join(a, "f"), "from a")
	wantText(t, filepath.Join(b, "f"), "from a")
	w.mustUnmount("fs-1", "instance-1")
	wantText(t, filepath.Join(b, "f"), "from a")
	list, err := w.List()
	must(t, err)
	if len(list) != 1 || list[0].Bytes != 32*mib || len(list[0].Users) != 1 || list[0].Users[0] != "instance-2" {
		t.Fatalf("%+v", list)
	}
	var busy *BusyError
	if err := w.Delete(background, "fs-1"); !errors.As(err, &busy) || !strings.Contains(err.Error(), "instance-2") {
		t.Fatalf("got %v", err)
	}
	w.mustUnmount("fs-1", "instance-2")
	for range 2 {
		must(t, w.Delete(background, "fs-1"))
	}
	if list, err := w.List(); err != nil || len(list) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	var lost *LostError
	if _, err := w.Mount(background, "fs-1", "instance-2"); !errors.Is(err, ErrNotFound) || !errors.As(err, &lost) || !lost.Permanent() || lost.Image != w.image("fs-1") {
		t.Fatalf("got %v", err)
	}
	w.wantNothingMounted()
}

func TestSizesThatCannotBeAreRefusedAndLeaveNothing(t *testing.T) {
	w := newWorld(t, 128)
	before, err := w.Space()
	must(t, err)
	for _, size := range []int64{0, -1, math.MinInt64, MinBytes - 1, 1e18, math.MaxInt64, 256 * mib, (before.FreeBytes/blockSize + 1) * blockSize} {
		err := w.Create(background, "drive-1", size)
		var permanent interface{ Permanent() bool }
		if !errors.As(err, &permanent) || !permanent.Permanent() {
			t.Errorf("%d bytes: got %v", size, err)
		}
		var full *FullError
		if size > before.FreeBytes && size < maxBytes && (!errors.As(err, &full) || full.Needs != size || full.Free != before.FreeBytes || full.Reserve != 8*mib) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", strings.Repeat("x", 65), "a\x00b", "a b"} {
		if err := w.Create(background, name, 32*mib); err == nil {
			t.Errorf("%q became a volume", name)
		}
		if _, err := w.Mount(background, "drive-1", name); err == nil {
			t.Errorf("%q became a user", name)
		}
	}
	if after, err := w.Space(); err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	must(t, w.Create(background, "drive-1", 32*mib))
	if err := w.Create(background, "drive-1", 33*mib); err == nil || !strings.Contains(err.Error(), "grow") {
		t.Errorf("got %v", err)
	}
}

func TestFullVolumeGivesENOSPCInsideAndTheHostKeepsItsReserve(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 64*mib))
	before, err := w.Space()
	must(t, err)
	path := w.mustMount("drive-1", "instance-1")
	if wrote := fill(t, filepath.Join(path, "big")); wrote < 48*mib || wrote > 64*mib {
		t.Errorf("%d bytes went in", wrote)
	}
	after, err := w.Space()
	must(t, err)
	if d := before.FreeBytes - after.FreeBytes; d > 256<<10 {
		t.Errorf("filling the volume took %d bytes of the host", d)
	}
	usage, err := w.Usage(background, "drive-1")
	if err != nil || usage.FreeBytes > mib || usage.Bytes != 64*mib {
		t.Errorf("%+v, %v", usage, err)
	}
	must(t, os.Remove(filepath.Join(path, "big")))
	command(t, "sync", "-f", path)
	w.mustUnmount("drive-1", "instance-1")
	usage, err = w.Usage(background, "drive-1")
	if err != nil || usage.FreeBytes < 48*mib || usage.CapacityBytes > 64*mib || usage.CapacityBytes < 48*mib {
		t.Errorf("%+v, %v", usage, err)
	}
}

// What was promised can be written although others have filled the host's disk.
func TestVolumeCanBeFilledWhileTheHostsDiskIsFull(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 64*mib))
	path := w.mustMount("drive-1", "instance-1")
	write(t, filepath.Join(path, "first"), "here")
	fill(t, filepath.Join(w.disk, "others"))
	var full *FullError
	if err := w.Create(background, "drive-2", 32*mib); !errors.As(err, &full) || full.Free != 0 {
		t.Errorf("got %v", err)
	}
	if err := w.Grow(background, "drive-1", 96*mib); !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
	if err := w.Snapshot(background, "drive-1", "s"); !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
	if err := w.Clone(background, "drive-1", "", "drive-2"); !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
	for range 3 { // the second round writes over what the first has freed
		if wrote := fill(t, filepath.Join(path, "big")); wrote < 48*mib {
			t.Errorf("only %d bytes went in", wrote)
		}
		must(t, os.Remove(filepath.Join(path, "big")))
	}
	w.mustUnmount("drive-1", "instance-1")
	path = w.mustMount("drive-1", "instance-1")
	wantText(t, filepath.Join(path, "first"), "here")
	w.mustUnmount("drive-1", "instance-1")
	command(t, "e2fsck", "-fn", w.image("drive-1"))
	if found, err := w.Inspect(background, Known{Volumes: []string{"drive-1"}}); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	must(t, os.Remove(filepath.Join(w.disk, "others")))
}

func TestTwoVolumesAreNeverPromisedMoreThanThePoolHas(t *testing.T) {
	w := newWorld(t, 256)
	space, err := w.Space()
	must(t, err)
	size := space.FreeBytes * 6 / 10
	errs := make(chan error, 2)
	for _, id := range []string{"drive-1", "drive-2"} {
		go func() { errs <- w.Create(background, id, size) }()
	}
	var full *FullError
	first, second := <-errs, <-errs
	if (first == nil) == (second == nil) || !errors.As(errors.Join(first, second), &full) {
		t.Fatalf("got %v and %v", first, second)
	}
	list, err := w.List()
	must(t, err)
	// A hole, whoever makes it, does not let others in.
	id := list[0].ID
	f, err := os.OpenFile(w.image(id), os.O_RDWR, 0)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 40*mib, 20*mib))
	must(t, f.Close())
	known := Known{Volumes: []string{id}}
	found, err := w.Inspect(background, known)
	if err != nil || len(found) != 1 || found[0].Trouble != Unreserved {
		t.Fatalf("%+v, %v", found, err)
	}
	if err := w.Create(background, "drive-3", size); !errors.As(err, &full) {
		t.Fatalf("got %v", err)
	}
	if after, err := w.Space(); err != nil || after.FreeBytes > space.FreeBytes-size+mib {
		t.Fatalf("%+v, %v", after, err)
	}
	must(t, w.Repair(background, found[0]))
	if found, err := w.Inspect(background, known); err != nil || len(found) > 0 {
		t.Fatalf("%+v, %v", found, err)
	}
}

func TestVolumeGrowsMountedAndNotAndNeverShrinks(t *testing.T) {
	w := newWorld(t, 512)
	must(t, w.Create(background, "drive-1", 40*mib))
	capacity := func() int64 {
		u, err := w.Usage(background, "drive-1")
		must(t, err)
		return u.CapacityBytes
	}
	path := w.mustMount("drive-1", "instance-1")
	write(t, filepath.Join(path, "f"), "kept")
	const odd = 130*mib + 5000 // a last group of some blocks is of no use to ext4
	for range 2 {
		err := w.Grow(background, "drive-1", odd)
		var later *GrowLaterError
		if mayResizeMounted() {
			must(t, err)
		} else if !errors.As(err, &later) {
			t.Fatalf("without the right to grow a mounted file system, got %v", err)
		}
	}
	if got := capacity(); mayResizeMounted() && got < 110*mib {
		t.Errorf("while mounted it grew to %d", got)
	}
	wantText(t, filepath.Join(path, "f"), "kept")
	if err := w.Grow(background, "drive-1", 64*mib); err == nil || !strings.Contains(err.Error(), "never shrinks") {
		t.Errorf("got %v", err)
	}
	w.mustUnmount("drive-1", "instance-1")
	for range 2 {
		must(t, w.Grow(background, "drive-1", odd))
	}
	if got := capacity(); got < 110*mib {
		t.Errorf("it grew to %d", got)
	}
	for range 2 {
		must(t, w.Grow(background, "drive-1", 200*mib))
	}
	w.wantNothingMounted()
	if got := capacity(); got < 180*mib {
		t.Errorf("while not mounted it grew to %d", got)
	}
	// A crash between the image's growth and the file system's.
	must(t, w.growImage("drive-1", 300*mib))
	w.restart()
	path = w.mustMount("drive-1", "instance-1")
	if got := capacity(); got < 280*mib {
		t.Errorf("after a growth that was cut short it has %d", got)
	}
	wantText(t, filepath.Join(path, "f"), "kept")
	w.mustUnmount("drive-1", "instance-1")
	var full *FullError
	if err := w.Grow(background, "drive-1", 3<<30); !errors.As(err, &full) {
		t.Errorf("got %v", err)
	}
	if err := w.Grow(background, "drive-2", 64*mib); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	command(t, "e2fsck", "-fn", w.image("drive-1"))
	if found, err := w.Inspect(background, Known{Volumes: []string{"drive-1"}}); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestDeviceNodesAndSetuidOnAVolumeDoNothing(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 32*mib))
	path := w.mustMount("drive-1", "instance-1")
	node := filepath.Join(path, "zero")
	must(t, unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	if f, err := os.Open(node); !errors.Is(err, unix.EACCES) {
		t.Errorf("a device node can be opened: %v, %v", f, err)
	}
	busybox, err := exec.LookPath("busybox")
	must(t, err)
	command(t, "cp", busybox, filepath.Join(path, "id"))
	must(t, os.Chmod(path, 0o755))
	must(t, os.Chmod(filepath.Join(path, "id"), 0o4755))
	dir := filepath.Dir(filepath.Dir(path))
	for _, d := range []string{dir, filepath.Dir(path), filepath.Dir(dir)} {
		must(t, os.Chmod(d, 0o755)) // nobody may come here otherwise
	}
	cmd := exec.Command(filepath.Join(path, "id"), "-u")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "65534" {
		t.Errorf("a setuid program ran as %q, %v", out, err)
	}
}

func TestTwoPoolsCannotHaveOneFolderNorOneImage(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 32*mib))
	if _, err := Open(w.cfg, w.log); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v", err)
	}
	// One that died left the volume mounted; the next has another RunDir.
	w.mustMount("drive-1", "instance-1")
	must(t, w.Pool.Close())
	other := w.cfg
	other.RunDir = t.TempDir()
	pool, err := Open(other, w.log)
	must(t, err)
	pool.patience = 100 * time.Millisecond
	for name, do := range map[string]func() error{
		"mount":   func() error { _, err := pool.Mount(background, "drive-1", "instance-1"); return err },
		"delete":  func() error { return pool.Delete(background, "drive-1") },
		"restore": func() error { return pool.Restore(background, "drive-1", "s") },
		"clone":   func() error { return pool.Clone(background, "drive-1", "", "drive-2") },
	} {
		var busy *BusyError
		if err := do(); !errors.As(err, &busy) || !strings.Contains(err.Error(), "another process") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	found, err := pool.Inspect(background, Known{Volumes: []string{"drive-1"}})
	if err != nil || len(found) != 1 || found[0].Trouble != StrayLoop {
		t.Errorf("%+v, %v", found, err)
	}
	must(t, pool.Close())
	w.open()
}

func TestInspectFindsWhatNobodyKnowsAndRepairRemovesIt(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 32*mib))
	must(t, w.Create(background, "drive-2", 32*mib))
	w.mustMount("drive-1", "instance-1")
	w.mustMount("drive-1", "instance-2")
	must(t, os.Mkdir(filepath.Join(w.cfg.Dir, newPrefix+"drive-9"), 0o700))
	must(t, os.WriteFile(filepath.Join(w.dir("drive-1"), newPrefix+"image"), nil, 0o600))
	known := Known{Volumes: []string{"drive-1", "drive-3"}, Users: []string{"instance-1"}}
	found, err := w.Inspect(background, known)
	must(t, err)
	count := map[Trouble]int{}
	for _, f := range found {
		count[f.Trouble]++
		err := w.Repair(background, f)
		if (err == nil) != f.Mendable {
			t.Errorf("%+v: %v", f, err)
		}
		if f.LosesData != (f.Trouble == UnknownVolume) {
			t.Errorf("%+v", f)
		}
	}
	if count[HalfMade] != 2 || count[StrayMount] != 1 || count[UnknownVolume] != 1 || count[LostImage] != 1 || len(found) != 5 {
		t.Errorf("%v: %+v", count, found)
	}
	left, err := w.Inspect(background, known)
	if err != nil || len(left) != 1 || left[0].Trouble != LostImage {
		t.Errorf("%+v, %v", left, err)
	}
	known.Volumes, known.Unsettled = nil, append(known.Volumes, "drive-9") // they may be there or not
	if left, err := w.Inspect(background, known); err != nil || len(left) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// A copy of a large volume takes minutes. Pages that show it, and a launch, must not
// stand still for that.
func TestNobodyWaitsLongForAVolumeThatIsWorkedOn(t *testing.T) {
	w := newWorld(t, 128)
	must(t, w.Create(background, "drive-1", 32*mib))
	release := w.hold("drive-1")
	var busy *BusyError
	begun := time.Now()
	if _, err := w.Usage(background, "drive-1"); !errors.As(err, &busy) || !busy.Working {
		t.Errorf("got %v", err)
	}
	gone, cancel := context.WithCancel(background)
	cancel()
	if _, err := w.Mount(gone, "drive-1", "instance-1"); !errors.As(err, &busy) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begun); took > mountPatience {
		t.Errorf("it took %s", took)
	}
	release()
	w.mustMount("drive-1", "instance-1")
	if u, err := w.Usage(background, "drive-1"); err != nil || u.Bytes != 32*mib {
		t.Errorf("%+v, %v", u, err)
	}
	w.mustUnmount("drive-1", "instance-1")
	if w.isHeld("drive-1") {
		t.Error("its lock is kept for ever")
	}
}
