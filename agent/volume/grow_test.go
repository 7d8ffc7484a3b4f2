package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lazyInitPatience is how long the kernel may take for the tables of all who are
// mounted on this machine; it begins with each within five seconds.
const lazyInitPatience = time.Minute

// awaitLazyInit waits until the kernel has zeroed all that it wants to of what is
// mounted: its thread for that ends then.
func awaitLazyInit(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(lazyInitPatience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		names, err := filepath.Glob("/proc/[0-9]*/comm")
		must(t, err)
		works := false
		for _, name := range names {
			comm, err := os.ReadFile(name)
			works = works || err == nil && strings.TrimSpace(string(comm)) == "ext4lazyinit"
		}
		if !works {
			return
		}
	}
	t.Log("others' file systems keep the kernel's thread at work: only what it did until now is looked at")
}

func TestVolumeThatHasGrownKeepsItsWholeSizeWhileItIsInUse(t *testing.T) {
	w := newWorld(t, 1024, "mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0") // the disk itself gives the kernel no work
	known := Known{Volumes: []string{"drive-1", "drive-2"}, Users: []string{"instance-1"}}
	must(t, w.Create(background, "drive-1", 40*mib))
	must(t, w.Snapshot(background, "drive-1", "s"))
	must(t, w.Clone(background, "drive-1", "s", "drive-2"))
	for _, id := range known.Volumes {
		must(t, w.Grow(background, id, 400*mib))
		w.mustMount(id, "instance-1")
	}
	awaitLazyInit(t)
	for _, id := range known.Volumes {
		size, allocated, err := allocation(w.image(id))
		if err != nil || size != 400*mib || allocated < size {
			t.Errorf("%s has %d bytes of the disk for %d, %v", id, allocated, size, err)
		}
	}
	if found, err := w.Inspect(background, known); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	// Where the kernel's threads can't be seen, its word has to do.
	mounts, err := w.mounts()
	must(t, err)
	for _, m := range mounts {
		options, err := os.ReadFile(fmt.Sprintf("/proc/fs/ext4/loop%d/options", m.loop))
		if err != nil || !strings.Contains(string(options), "noinit_itable") {
			t.Errorf("%s is mounted with %q, %v", m.volume, options, err)
		}
	}
	for _, id := range known.Volumes {
		path := filepath.Join(w.cfg.RunDir, id, "instance-1")
		for n := range 300 { // in the tables of old and new groups
			must(t, os.MkdirAll(filepath.Join(path, fmt.Sprint(n)), 0o700))
			must(t, os.WriteFile(filepath.Join(path, fmt.Sprint(n), "f"), []byte("kept"), 0o600))
		}
		w.mustUnmount(id, "instance-1")
		command(t, "e2fsck", "-fn", w.image(id))
	}
}

// Its users have one file system, which has one size.
func TestVolumeThatCannotGrowInUseGrowsOnceNobodyHasIt(t *testing.T) {
	w := newWorld(t, 512)
	must(t, w.Create(background, "fs-1", 40*mib))
	size := func(path string) int64 {
		var st unix.Statfs_t
		must(t, unix.Statfs(path, &st))
		return int64(st.Blocks) * st.Bsize
	}
	first := w.mustMount("fs-1", "instance-1")
	err := w.Grow(background, "fs-1", 200*mib)
	var later *GrowLaterError
	if mayResizeMounted() {
		must(t, err)
	} else if !errors.As(err, &later) || !strings.Contains(err.Error(), "once all have detached it and it is attached again") {
		t.Fatalf("got %v", err)
	}
	second := w.mustMount("fs-1", "instance-2")
	if grown := size(second) > 180*mib; grown != mayResizeMounted() || size(first) != size(second) {
		t.Errorf("the first has %d bytes, the second %d", size(first), size(second))
	}
	w.mustUnmount("fs-1", "instance-1")
	w.mustUnmount("fs-1", "instance-2")
	if got := size(w.mustMount("fs-1", "instance-2")); got < 180*mib {
		t.Errorf("after all have detached it, it has %d bytes", got)
	}
}

func TestUsageIsTheSameMountedAndNotAndIsWhatDfSays(t *testing.T) {
	w := newWorld(t, 1024)
	must(t, w.Create(background, "drive-1", 40*mib))
	usage := func() Usage {
		t.Helper()
		u, err := w.Usage(background, "drive-1")
		must(t, err)
		return u
	}
	same := func(when string) {
		t.Helper()
		before := usage()
		path := w.mustMount("drive-1", "instance-1")
		command(t, "sync", "-f", path)
		if mounted := usage(); mounted != before {
			t.Errorf("%s: %+v; mounted: %+v", when, before, mounted)
		}
		var st unix.Statfs_t
		must(t, unix.Statfs(path, &st))
		df := Usage{before.Bytes, int64(st.Blocks-st.Bfree+st.Bavail) * st.Bsize, int64(st.Bavail) * st.Bsize}
		if before != df {
			t.Errorf("%s: %+v; df: %+v", when, before, df)
		}
		write(t, filepath.Join(path, strings.ReplaceAll(when, " ", "-")), strings.Repeat("x", 5*mib))
		command(t, "sync", "-f", path)
		mounted := usage()
		w.mustUnmount("drive-1", "instance-1")
		if after := usage(); mounted != after || after.FreeBytes > before.FreeBytes-5*mib {
			t.Errorf("%s, then written to: %+v; not mounted: %+v", when, mounted, after)
		}
	}
	same("as it was made")
	must(t, w.Grow(background, "drive-1", 300*mib))
	same("grown")
	must(t, w.Grow(background, "drive-1", 900*mib)) // more than ext4 keeps a part of
	same("grown large")
}

// A trim takes a step's blocks away and gives others at once.
func TestVolumeThatIsWorkedOnIsNotSaidToBeUnreserved(t *testing.T) {
	w := newWorld(t, 128)
	must(t, w.Create(background, "drive-1", 40*mib))
	f, err := os.OpenFile(w.image("drive-1"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 20*mib, 10*mib))
	known := Known{Volumes: []string{"drive-1"}}
	release := w.hold("drive-1")
	if found, err := w.Inspect(background, known); err != nil || len(found) > 0 {
		t.Errorf("while it is worked on: %+v, %v", found, err)
	}
	release()
	if found, err := w.Inspect(background, known); err != nil || len(found) != 1 || found[0].Trouble != Unreserved {
		t.Errorf("afterwards: %+v, %v", found, err)
	}
}
