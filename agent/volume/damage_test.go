package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spoil changes an image's bytes.
func (w *world) spoil(id string, at int64, b []byte) {
	w.t.Helper()
	f, err := os.OpenFile(w.image(id), os.O_RDWR, 0)
	must(w.t, err)
	_, err = f.WriteAt(b, at)
	must(w.t, errors.Join(err, f.Close()))
}

func (w *world) wantCorrupt(id string) {
	w.t.Helper()
	_, err := w.Mount(background, id, "instance-1")
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || !corrupt.Permanent() || !strings.Contains(err.Error(), "restore a snapshot") || corrupt.Image != w.image(id) {
		w.t.Errorf("got %v", err)
	}
	w.wantNothingMounted()
}

func TestDamagedImageIsNeverMountedAndASnapshotBringsItBack(t *testing.T) {
	w := newWorld(t, 512)
	must(t, w.Create(background, "drive-1", 64*mib))
	path := w.mustMount("drive-1", "instance-1")
	for n := range 50 {
		write(t, filepath.Join(path, strings.Repeat("f", n+1)), "precious")
	}
	w.mustUnmount("drive-1", "instance-1")
	must(t, w.Snapshot(background, "drive-1", "good"))

	w.spoil("drive-1", 0, make([]byte, 8192)) // no superblock
	w.wantCorrupt("drive-1")
	found, err := w.Inspect(background, Known{Volumes: []string{"drive-1"}})
	if err != nil || len(found) != 1 || found[0].Trouble != Damaged || found[0].Mendable {
		t.Errorf("%+v, %v", found, err)
	}
	var corrupt *CorruptError
	if _, err := w.Usage(background, "drive-1"); !errors.As(err, &corrupt) {
		t.Errorf("got %v", err)
	}
	if err := w.Snapshot(background, "drive-1", "bad"); !errors.As(err, &corrupt) {
		t.Errorf("a snapshot of a damaged volume: %v", err)
	}
	if err := w.Clone(background, "drive-1", "", "drive-2"); !errors.As(err, &corrupt) {
		t.Errorf("a clone of a damaged volume: %v", err)
	}
	must(t, w.Restore(background, "drive-1", "good"))
	path = w.mustMount("drive-1", "instance-1")
	wantText(t, filepath.Join(path, "fff"), "precious")
	w.mustUnmount("drive-1", "instance-1")

	must(t, os.Truncate(w.image("drive-1"), 10*mib)) // cut off
	w.wantCorrupt("drive-1")
	if err := w.Grow(background, "drive-1", 128*mib); !errors.As(err, &corrupt) {
		t.Errorf("a damaged volume was grown: %v", err)
	}
	if size, _, _ := allocation(w.image("drive-1")); size != 10*mib {
		t.Errorf("a damaged volume has %d bytes now", size)
	}
	must(t, w.Restore(background, "drive-1", "good"))
	path = w.mustMount("drive-1", "instance-1")
	wantText(t, filepath.Join(path, "fff"), "precious")
	w.mustUnmount("drive-1", "instance-1")
	must(t, os.WriteFile(w.image("drive-1"), []byte("not an image"), 0o600))
	w.wantCorrupt("drive-1")
	must(t, w.Delete(background, "drive-1"))
}

// An error that the file system notices stops all writing. It is found, and
// mended with the next mount.
func TestErrorInAMountedVolumeStopsWritesAndIsMendedAtTheNextMount(t *testing.T) {
	w := newWorld(t, 256)
	must(t, w.Create(background, "drive-1", 32*mib))
	path := w.mustMount("drive-1", "instance-1")
	write(t, filepath.Join(path, "f"), "synced")
	mounts, err := w.mounts()
	must(t, err)
	must(t, os.WriteFile(fmt.Sprintf("/sys/fs/ext4/loop%d/trigger_fs_error", mounts[0].loop), []byte("a test"), 0))
	if err := os.WriteFile(filepath.Join(path, "g"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("it is still written to: %v", err)
	}
	known := Known{Volumes: []string{"drive-1"}, Users: []string{"instance-1"}}
	found, err := w.Inspect(background, known)
	if err != nil || len(found) != 1 || found[0].Trouble != ReadOnly || found[0].Mendable {
		t.Errorf("%+v, %v", found, err)
	}
	w.mustUnmount("drive-1", "instance-1")
	path = w.mustMount("drive-1", "instance-1")
	wantText(t, filepath.Join(path, "f"), "synced")
	write(t, filepath.Join(path, "g"), "goes on")
	if found, err := w.Inspect(background, known); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

// Whatever is damaged, mounting and reading end: with files or with errors.
func TestRandomDamageGivesErrorsAndNeverHangsOrPanics(t *testing.T) {
	w := newWorld(t, 512)
	must(t, w.Create(background, "drive-1", 32*mib))
	path := w.mustMount("drive-1", "instance-1")
	for n := range 100 {
		write(t, filepath.Join(path, strings.Repeat("f", n+1)), strings.Repeat("precious", n))
	}
	w.mustUnmount("drive-1", "instance-1")
	must(t, w.Snapshot(background, "drive-1", "good"))
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	mounted, refused := 0, 0
	for range 12 {
		for range 1 + random.IntN(60) {
			junk := make([]byte, 1+random.IntN(4096))
			for n := range junk {
				junk[n] = byte(random.Uint32())
			}
			w.spoil("drive-1", random.Int64N(32*mib-4096)>>random.IntN(6), junk) // more of it in front, where the tables are
		}
		path, err := w.Mount(background, "drive-1", "instance-1")
		var corrupt *CorruptError
		switch {
		case err == nil:
			mounted++
			entries, _ := os.ReadDir(path)
			for _, e := range entries {
				if f, err := os.Open(filepath.Join(path, e.Name())); err == nil {
					_, _ = io.Copy(io.Discard, f)
					f.Close()
				}
			}
			_ = os.WriteFile(filepath.Join(path, "new"), []byte("x"), 0o600)
			w.mustUnmount("drive-1", "instance-1")
		case errors.As(err, &corrupt):
			refused++
			w.wantNothingMounted()
		default:
			t.Errorf("got %v", err)
		}
		must(t, w.Restore(background, "drive-1", "good"))
	}
	t.Logf("%d mounted, %d refused", mounted, refused)
}

// A power cut is what the disk has at one moment: the image, copied while it is
// written to.
func TestPowerCutLosesNothingThatWasSynced(t *testing.T) {
	w := newWorld(t, 512)
	must(t, w.Create(background, "drive-1", 64*mib))
	path := w.mustMount("drive-1", "instance-1")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // so that the journal is never empty
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				name := filepath.Join(path, "busy", string(rune('a'+n%26)))
				_ = os.MkdirAll(name, 0o700)
				_ = os.WriteFile(filepath.Join(name, "f"), bytes.Repeat([]byte("x"), n%5000), 0o600)
				_ = os.RemoveAll(name)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for n := range 5 {
		text := strings.Repeat("synced ", 1000*n+1)
		write(t, filepath.Join(path, "precious"), text)
		d, err := os.Open(path)
		must(t, err)
		must(t, errors.Join(d.Sync(), d.Close()))
		// The host stops here: its own disk is whole, and the image is what it is.
		must(t, freezeHost(w.disk, func() error {
			tmp := filepath.Join(filepath.Dir(w.cfg.RunDir), "after")
			if err := os.MkdirAll(tmp, 0o700); err != nil {
				return err
			}
			command(t, "cp", "--sparse=always", w.image("drive-1"), filepath.Join(tmp, "image"))
			return nil
		}))
		after := filepath.Join(w.cfg.Dir, "drive-2")
		must(t, os.Mkdir(after, 0o700))
		command(t, "mv", filepath.Join(filepath.Dir(w.cfg.RunDir), "after", "image"), filepath.Join(after, "image"))
		wantText(t, filepath.Join(w.mustMount("drive-2", "instance-2"), "precious"), text)
		w.mustUnmount("drive-2", "instance-2")
		command(t, "e2fsck", "-fn", w.image("drive-2"))
		must(t, w.Delete(background, "drive-2"))
	}
}

// freezeHost holds a disk still, with what was written on it, while do works.
func freezeHost(disk string, do func() error) error {
	if err := freeze(disk); err != nil {
		return err
	}
	return errors.Join(do(), thaw(disk))
}
