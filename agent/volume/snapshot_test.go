package volume

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disks are the file systems of a host: one whose files can't share blocks, and
// one whose can.
func disks(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("ext4", func(t *testing.T) { test(t, newWorld(t, 512)) })
	t.Run("xfs with reflinks", func(t *testing.T) { test(t, newWorld(t, 512, "mkfs.xfs", "-q", "-m", "reflink=1")) })
}

// TestVolumeThatGrewWhileMountedIsSnapshottedAtOnce: where a mounted file system
// can't grow, the image is longer than it until the next mount.
func TestVolumeThatGrewWhileMountedIsSnapshottedAtOnce(t *testing.T) {
	w := newWorld(t, 4000)
	must(t, w.Create(background, "drive-1", 40*mib))
	path := w.mustMount("drive-1", "instance-1")
	write(t, filepath.Join(path, "f"), "first")
	var later *GrowLaterError
	if err := w.Grow(background, "drive-1", trimStep+40*mib); err != nil && !errors.As(err, &later) {
		t.Fatal(err)
	}
	must(t, w.Snapshot(background, "drive-1", "monday"))
	write(t, filepath.Join(path, "f"), "second")
	w.mustUnmount("drive-1", "instance-1")
	must(t, w.Restore(background, "drive-1", "monday"))
	path = w.mustMount("drive-1", "instance-1")
	wantText(t, filepath.Join(path, "f"), "first")
	if u, err := w.Usage(background, "drive-1"); err != nil || u.Bytes != trimStep+40*mib || u.CapacityBytes < trimStep*9/10 {
		t.Errorf("restored to another size: %+v, %v", u, err)
	}
	w.mustUnmount("drive-1", "instance-1")
}

func TestSnapshotHasWhatWasThereAndRestoreBringsItBack(t *testing.T) {
	disks(t, func(t *testing.T, w *world) {
		must(t, w.Create(background, "drive-1", 64*mib))
		path := w.mustMount("drive-1", "instance-1")
		write(t, filepath.Join(path, "f"), "first")
		for range 2 {
			must(t, w.Snapshot(background, "drive-1", "monday"))
		}
		write(t, filepath.Join(path, "f"), "second")
		write(t, filepath.Join(path, "g"), "later")
		var busy *BusyError
		if err := w.Restore(background, "drive-1", "monday"); !errors.As(err, &busy) {
			t.Fatalf("restored under a user: %v", err)
		}
		w.mustUnmount("drive-1", "instance-1")
		must(t, w.Snapshot(background, "drive-1", "tuesday"))
		must(t, w.Grow(background, "drive-1", 120*mib))
		must(t, w.Restore(background, "drive-1", "monday"))
		path = w.mustMount("drive-1", "instance-1")
		wantText(t, filepath.Join(path, "f"), "first")
		if _, err := os.Stat(filepath.Join(path, "g")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what came later is still there: %v", err)
		}
		if u, err := w.Usage(background, "drive-1"); err != nil || u.Bytes != 120*mib || u.CapacityBytes < 100*mib {
			t.Errorf("restored to another size: %+v, %v", u, err)
		}
		w.mustUnmount("drive-1", "instance-1")
		must(t, w.Restore(background, "drive-1", "tuesday"))
		wantText(t, filepath.Join(w.mustMount("drive-1", "instance-1"), "f"), "second")
		w.mustUnmount("drive-1", "instance-1")
		names, err := w.Snapshots("drive-1")
		if err != nil || len(names) != 2 || names[0].Name != "monday" || names[1].Name != "tuesday" || names[0].Bytes != 64*mib {
			t.Errorf("%+v, %v", names, err)
		}
		for range 2 {
			must(t, w.DeleteSnapshot(background, "drive-1", "monday"))
		}
		if err := w.Restore(background, "drive-1", "monday"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if found, err := w.Inspect(background, Known{Volumes: []string{"drive-1"}}); err != nil || len(found) > 0 {
			t.Errorf("%+v, %v", found, err)
		}
	})
}

func TestCloneIsAVolumeOfItsOwnWithItsWholeSizeReserved(t *testing.T) {
	disks(t, func(t *testing.T, w *world) {
		must(t, w.Create(background, "drive-1", 64*mib))
		path := w.mustMount("drive-1", "instance-1")
		write(t, filepath.Join(path, "f"), "first")
		must(t, w.Snapshot(background, "drive-1", "s"))
		write(t, filepath.Join(path, "f"), "second")
		before, err := w.Space()
		must(t, err)
		for range 2 {
			must(t, w.Clone(background, "drive-1", "", "drive-2"))
		}
		must(t, w.Clone(background, "drive-1", "s", "drive-3"))
		after, err := w.Space()
		must(t, err)
		if took := before.FreeBytes - after.FreeBytes; took < 127*mib {
			t.Errorf("two clones of 64 MiB took %d bytes of what can be promised", took)
		}
		for id, want := range map[string]string{"drive-2": "second", "drive-3": "first"} {
			wantText(t, filepath.Join(w.mustMount(id, "instance-2"), "f"), want)
			if size, allocated, err := allocation(w.image(id)); err != nil || allocated < size {
				t.Errorf("%s has %d of %d bytes, %v", id, allocated, size, err)
			}
			if shared, err := sharedBytes(w.image(id)); err != nil || shared > 0 {
				t.Errorf("%s shares %d bytes, %v", id, shared, err)
			}
		}
		write(t, filepath.Join(path, "f"), "third")
		wantText(t, filepath.Join(w.mustMount("drive-2", "instance-2"), "f"), "second")
		if err := w.Clone(background, "drive-1", "none", "drive-4"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if err := w.Clone(background, "drive-9", "", "drive-4"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if err := w.Clone(background, "drive-1", "", "drive-1"); err == nil {
			t.Error("a volume became a clone of itself")
		}
	})
}

// A snapshot that shares blocks costs nothing until they change. Until then, that
// cost is set aside, so that the original can be written all the same.
func TestSnapshotThatSharesBlocksLeavesTheOriginalWritableOnAFullHost(t *testing.T) {
	w := newWorld(t, 512, "mkfs.xfs", "-q", "-m", "reflink=1")
	must(t, w.Create(background, "drive-1", 64*mib))
	path := w.mustMount("drive-1", "instance-1")
	fill(t, filepath.Join(path, "big"))
	before, err := w.Space()
	must(t, err)
	must(t, w.Snapshot(background, "drive-1", "s"))
	after, err := w.Space()
	must(t, err)
	if took := before.FreeBytes - after.FreeBytes; took < 50*mib || took > 66*mib {
		t.Errorf("the snapshot set %d bytes aside", took)
	}
	must(t, w.Create(background, "drive-2", max(MinBytes, after.FreeBytes-16*mib)))
	must(t, os.Remove(filepath.Join(path, "big")))
	if wrote := fill(t, filepath.Join(path, "big")); wrote < 48*mib {
		t.Errorf("only %d bytes went in", wrote)
	}
	command(t, "sync", "-f", path)
}

// A volume in use stands still for a moment and goes on. Everything that was
// synced before the call is in the snapshot, and the snapshot is whole.
func TestSnapshotOfAVolumeUnderWritesIsConsistent(t *testing.T) {
	disks(t, func(t *testing.T, w *world) {
		must(t, w.Create(background, "drive-1", 96*mib))
		path := w.mustMount("drive-1", "instance-1")
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for n := range 3 {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), 1))
				for round := 0; ; round++ {
					select {
					case <-stop:
						return
					default:
					}
					text := strings.Repeat(fmt.Sprint(round, " "), random.IntN(20000))
					sum := sha256.Sum256([]byte(text))
					name := filepath.Join(path, fmt.Sprintf("w%d-%d", n, round%20))
					_ = os.WriteFile(name+".new", append(sum[:], text...), 0o600)
					_ = os.Rename(name+".new", name)
				}
			})
		}
		defer writers.Wait()
		defer close(stop)
		for n := range 3 {
			write(t, filepath.Join(path, "mark"), fmt.Sprint("synced before ", n))
			must(t, w.Snapshot(background, "drive-1", fmt.Sprint("s", n)))
			command(t, "e2fsck", "-fn", w.snapshot("drive-1", fmt.Sprint("s", n)))
			must(t, w.Clone(background, "drive-1", fmt.Sprint("s", n), fmt.Sprint("copy-", n)))
			dir := w.mustMount(fmt.Sprint("copy-", n), "instance-2")
			wantText(t, filepath.Join(dir, "mark"), fmt.Sprint("synced before ", n))
			w.mustUnmount(fmt.Sprint("copy-", n), "instance-2")
			must(t, w.Delete(background, fmt.Sprint("copy-", n)))
		}
	})
}

func TestEcoLinkThatDiesDuringASnapshotLeavesNoVolumeStandingStill(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 32*mib))
	path := w.mustMount("drive-1", "instance-1")
	must(t, freeze(path))
	w.restart()
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(filepath.Join(path, "f"), []byte("goes on"), 0o600) }()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(10 * time.Second):
		_ = thaw(path)
		t.Fatal("writing to the volume stands still")
	}
	// Without a next EcoLink, its guard does it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	g, err := startGuard(path)
	must(t, err)
	must(t, freeze(path))
	must(t, g.dismiss()) // the signal that comes with the end of the process
	if err := thaw(path); !errors.Is(err, unix.EINVAL) {
		t.Errorf("the guard has not let go: %v", err)
	}
}
