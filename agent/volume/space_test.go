package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spaceSlack is what the host's file system needs meanwhile: for its own tables, and
// the 8 MiB that ext4 sets aside for what is next written to an open file.
const spaceSlack = 12 * mib

// watchSpace looks at the pool all the time until stop, which gives the least and
// the most that was free, and the most that was counted as the volume's.
func (w *world) watchSpace(id string) (stop func() (least, most, counted int64)) {
	end := make(chan struct{})
	var watch sync.WaitGroup
	least, most, counted := int64(1)<<62, int64(0), int64(0)
	watch.Go(func() {
		for {
			s, err := w.Space()
			if err != nil {
				w.t.Error(err)
				return
			}
			least, most, counted = min(least, s.FreeBytes), max(most, s.FreeBytes), max(counted, s.Volumes[id])
			select {
			case <-end:
				return
			default:
			}
		}
	})
	return func() (int64, int64, int64) { close(end); watch.Wait(); return least, most, counted }
}

func TestWhatIsBeingMadeIsCountedOnceAtEveryMoment(t *testing.T) {
	disks(t, func(t *testing.T, w *world) {
		free := func() int64 { s, err := w.Space(); must(t, err); return s.FreeBytes }
		// settled is what is free when XFS, which takes its time, has freed what was deleted.
		settled := func() (now int64) {
			for before := int64(-1); before != now; time.Sleep(100 * time.Millisecond) {
				before, now = now, free()
			}
			return now
		}
		// during tells that nothing but more bytes were taken while do was at work.
		during := func(what, id string, more, meanwhile, counted int64, do func() error) {
			t.Helper()
			before := settled()
			stop := w.watchSpace(id)
			err := do()
			least, most, c := stop()
			must(t, err)
			if took := before - settled(); took < more-spaceSlack || took > more+spaceSlack {
				t.Errorf("%s took %d bytes, want %d", what, took, more)
			}
			// XFS has blocks twice while it makes shared ones a file's own, a step of a copy at most.
			if least < before-max(more, meanwhile)-spaceSlack-copyStep || most > before+spaceSlack {
				t.Errorf("%s: from %d to %d bytes were free meanwhile, and %d before", what, least, most, before)
			}
			if c != counted {
				t.Errorf("%s: %d bytes were counted as the volume's, want %d", what, c, counted)
			}
		}
		during("creating", "drive-1", 64*mib, 0, 64*mib, func() error { return w.Create(background, "drive-1", 64*mib) })
		path := w.mustMount("drive-1", "instance-1")
		write(t, filepath.Join(path, "f"), string(make([]byte, 20*mib)))
		w.mustUnmount("drive-1", "instance-1")
		during("growing", "drive-1", 32*mib, 0, 96*mib, func() error { return w.Grow(background, "drive-1", 96*mib) })
		during("cloning", "drive-2", 96*mib, 0, 96*mib, func() error { return w.Clone(background, "drive-1", "", "drive-2") })
		must(t, w.Snapshot(background, "drive-1", "s"))
		must(t, w.Delete(background, "drive-2"))
		during("putting back", "drive-1", 0, 96*mib, 96*mib, func() error { return w.Restore(background, "drive-1", "s") })
	})
}

// A disk this slow shows each moment: the file grows under its promise, is whole, has
// its name, or is given up.
func TestAFileThatGrowsUnderItsPromiseChangesNothingOfWhatIsFree(t *testing.T) {
	w := newWorld(t, 256)
	free := func() int64 { s, err := w.Space(); must(t, err); return s.FreeBytes }
	const size = 64 * mib
	before := free()
	dir := filepath.Dir(w.newImage("drive-1"))
	must(t, os.Mkdir(dir, 0o700))
	settle, err := w.promise(w.newImage("drive-1"), promised{"drive-1", size})
	must(t, err)
	wantFree := func(when string, want int64) {
		t.Helper()
		if got := free(); got < want-mib || got > want+mib {
			t.Errorf("%s %d bytes are free, want %d", when, got, want)
		}
	}
	wantFree("promised:", before-size)
	f, err := os.Create(w.newImage("drive-1"))
	must(t, err)
	for part := int64(1); part <= 4; part++ {
		must(t, unix.Fallocate(int(f.Fd()), 0, 0, size/4*part))
		wantFree(fmt.Sprintf("with %d quarters:", part), before-size)
	}
	must(t, f.Close())
	must(t, w.install(w.newImage("drive-1"), dir, w.dir("drive-1")))
	wantFree("with its name:", before-size)
	settle() // once more, as when its maker returns
	wantFree("settled:", before-size)
	if s, err := w.Space(); err != nil || s.Volumes["drive-1"] != size {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, w.Delete(background, "drive-1"))
	wantFree("deleted:", before)
	settle, err = w.promise(w.newImage("drive-1"), promised{"drive-1", size})
	must(t, err)
	settle()
	wantFree("given up:", before)
}

// What others are given while they are made may count twice: a refusal is final only
// when nobody is.
func TestADiskIsFullForGoodOnlyWhenNothingElseIsBeingMade(t *testing.T) {
	w := newWorld(t, 256)
	settle, err := w.promise(w.newImage("drive-1"), promised{"drive-1", 128 * mib})
	must(t, err)
	refused := func(when string, permanent bool, err error) {
		t.Helper()
		var full *FullError
		if !errors.As(err, &full) || full.Permanent() != permanent {
			t.Errorf("%s: %+v; is it for good? %v", when, full, permanent)
		}
	}
	refused("beside another", false, w.Create(background, "drive-2", 192*mib))
	if err := scratchError(w.Create(background, "drive-2", 192*mib)); isRefusal(err) {
		t.Errorf("a scratch is refused for good: %v", err)
	}
	settle()
	refused("alone", true, w.Create(background, "drive-2", 1024*mib))

	// The disk's own word, under the promise of the file itself.
	settle, err = w.promise(w.newImage("drive-2"), promised{"drive-2", 64 * mib})
	must(t, err)
	defer settle()
	must(t, os.Mkdir(filepath.Dir(w.newImage("drive-2")), 0o700))
	f, err := os.Create(w.newImage("drive-2"))
	must(t, err)
	defer f.Close()
	refused("its own promise", true, w.allocate(f, 1024*mib))
	must(t, f.Truncate(0))
	other, err := w.promise(w.newImage("drive-1"), promised{"drive-1", 64 * mib})
	must(t, err)
	defer other()
	refused("its own promise beside another", false, w.allocate(f, 1024*mib))
}

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// What the volume shares with its snapshot is set aside once, also while it grows:
// others would be refused what there is.
func TestGrowingAVolumeThatHasASnapshotSetsNothingAsideTwice(t *testing.T) {
	disks(t, func(t *testing.T, w *world) {
		const size, grown = 64 * mib, 96 * mib
		must(t, w.Create(background, "drive-1", size))
		write(t, filepath.Join(w.mustMount("drive-1", "instance-1"), "f"), strings.Repeat("x", 20*mib))
		w.mustUnmount("drive-1", "instance-1")
		must(t, w.Snapshot(background, "drive-1", "s"))
		before, err := w.Space()
		must(t, err)
		settle, err := w.promise(w.image("drive-1"), promised{"drive-1", grown})
		must(t, err)
		defer settle()
		s, err := w.Space()
		must(t, err)
		if took := before.FreeBytes - s.FreeBytes; took < grown-size-mib || took > grown-size+mib {
			t.Errorf("growing by %d bytes sets %d aside", int64(grown-size), took)
		}
	})
}
