package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// disk is an ext4 file system on a loop device over a nameless file in memory.
// The kernel takes it apart when the last process that has it open ends.
type disk struct {
	t      *testing.T
	image  int // its file
	device *os.File
	dir    string // where it is mounted
}

// newDisk makes a disk and mounts it. commit=1000: the file system's journal is
// written when somebody syncs and not by itself, so that what nobody synced is
// lost in a power cut.
func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	needRoot(t)
	image, err := unix.MemfdCreate("disk", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(image) })
	if err := unix.Ftruncate(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, image: image, device: attach(t, image), dir: filepath.Join(t.TempDir(), "disk")}
	t.Cleanup(func() { d.device.Close() })
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.device.Name()).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	d.mount()
	t.Cleanup(d.unmount)
	return d
}

// attach gives a loop device that detaches itself when nobody has it open.
func attach(t *testing.T, image int) *os.File {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		config := unix.LoopConfig{Fd: uint32(image), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &config); err == nil {
			return device
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody was faster
			t.Fatalf("attach %s: %v", device.Name(), err)
		}
	}
	t.Fatal("no loop device is free")
	return nil
}

func (d *disk) mount() {
	d.t.Helper()
	if err := unix.Mount(d.device.Name(), d.dir, "ext4", 0, "commit=1000"); err != nil {
		d.t.Fatalf("mount %s: %v", d.device.Name(), err)
	}
}

// unmount waits for a process that was just killed to let go of the disk.
func (d *disk) unmount() {
	d.t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		err := unix.Unmount(d.dir, 0)
		if err == nil || errors.Is(err, unix.EINVAL) { // EINVAL: it isn't mounted
			return
		}
		if time.Since(begun) > 10*time.Second {
			d.t.Fatalf("unmount: %v", err)
		}
	}
}

// The ioctl that shuts an ext4 file system down, and its argument that throws away
// what has not been written, its own journal included. From linux/ext4.h.
const (
	ext4Shutdown         = 0x8004587d // _IOR('X', 125, __u32)
	goingFlagsNoLogFlush = 2
)

// cut takes the power away: nothing reaches the device from here on.
func (d *disk) cut() {
	d.t.Helper()
	dir, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, goingFlagsNoLogFlush); err != nil {
		d.t.Fatalf("shut the file system down: %v", err)
	}
}

// abort makes the file system read-only as an error on the disk does.
func (d *disk) abort() {
	d.t.Helper()
	if err := unix.Mount(d.device.Name(), d.dir, "ext4", unix.MS_REMOUNT, "abort"); err != nil {
		d.t.Fatalf("abort the file system: %v", err)
	}
}

// again mounts the disk anew, as after a boot: on another device, so that nothing
// is there that the kernel only remembered.
func (d *disk) again() {
	d.t.Helper()
	d.unmount()
	d.device.Close()
	d.device = attach(d.t, d.image)
	d.mount()
}

// memory mounts a file system in memory of the given size.
func memory(t *testing.T, mib int) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("torture", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
