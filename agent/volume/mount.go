package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// growUser has a volume while its file system grows. Names of users can't begin
// with a dot.
const growUser = ".grow"

// mountFlags: a volume carries files, no powers. Who writes to it is root in a
// container, so a setuid program or a device node on it must do nothing wherever
// it is mounted. Times of reading are not kept; each would be a write.
const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME

// mountOptions: after an error in the file system's own blocks, writing on would
// make it worse, and a kernel panic would end everybody's work. And nothing zeroes
// the tables of inodes that a growth has added: the kernel would, in the background
// of the first seconds, by punching holes, for which the disk's room may be gone when
// the tables are written. Nobody has written there, so they are zeros already.
const mountOptions = "errors=remount-ro,noinit_itable"

// mountPatience is how long Mount waits for who works on the volume.
const mountPatience = 5 * time.Second

// mountPoint is a volume mounted for a user.
type mountPoint struct {
	volume, user string
	path         string
	loop         int // number of its loop device
	failed       bool
}

// Mount makes the volume's files be at path for a user, until Unmount. Again for
// the same user, it finds what is there. The first user's mount gives a growth that
// had to wait to the file system; a further user gets the size that the others have.
// A volume that was not left in order is
// checked first; one that is damaged is a CorruptError. A BusyError says that it is
// being copied, which takes minutes if it is large.
func (p *Pool) Mount(ctx context.Context, id, user string) (path string, err error) {
	if err := checkNames(id, user); err != nil {
		return "", err
	}
	wait, cancel := context.WithTimeout(ctx, mountPatience)
	defer cancel()
	release, err := p.holdFor(wait, id)
	if err != nil {
		return "", fmt.Errorf("mount volume %s for %s: %w", id, user, err)
	}
	defer release()
	m, err := p.mount(ctx, id, user)
	if err != nil {
		return "", fmt.Errorf("mount volume %s for %s: %w", id, user, err)
	}
	return m.path, nil
}

func (p *Pool) mount(ctx context.Context, id, user string) (mountPoint, error) {
	mounts, err := p.mounts()
	if err != nil {
		return mountPoint{}, err
	}
	m := mountPoint{volume: id, user: user, path: filepath.Join(p.cfg.RunDir, id, user)}
	if i := slices.IndexFunc(mounts, func(other mountPoint) bool { return other.volume == id }); i >= 0 {
		m.loop = mounts[i].loop
		if err := p.backs(m.loop, id); err != nil {
			return m, err
		}
		for _, other := range mounts {
			if other.volume == id && other.user == user {
				return m, nil
			}
		}
		return m, p.mountDevice(m)
	}
	image, err := p.claim(ctx, id)
	if err != nil {
		return m, err
	}
	defer image.Close()
	if err := p.check(ctx, id, image); err != nil {
		return m, err
	}
	// Mounting needs the reservation whole: a hole could meet a full disk.
	if err := p.fillHoles(image); err != nil {
		return m, err
	}
	behind, err := cutShort(image)
	if err != nil {
		return m, err
	}
	if behind && !mayResizeMounted() {
		if err := p.fitUnmounted(ctx, id, image); err != nil {
			return m, err
		}
		behind = false
	}
	loop, number, err := attachLoop(image)
	if err != nil {
		return m, err
	}
	defer loop.Close() // from here on the mount keeps the device, or nothing does
	m.loop = number
	if err := p.mountDevice(m); err != nil {
		return m, err
	}
	p.tune(m)
	if behind {
		if err := p.fit(m); err != nil {
			return m, errors.Join(err, unmount(m.path))
		}
	}
	return m, nil
}

func (p *Pool) mountDevice(m mountPoint) error {
	if err := os.MkdirAll(m.path, 0o700); err != nil {
		return err
	}
	err := unix.Mount(loopPath(m.loop), m.path, "ext4", mountFlags, mountOptions)
	if err != nil {
		removeMountPoint(m.path)
	}
	switch {
	case errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EFSBADCRC):
		return &CorruptError{Volume: m.volume, Image: p.image(m.volume), Report: "mount: " + err.Error()}
	case err != nil:
		return fmt.Errorf("mount %s at %s: %w", loopPath(m.loop), m.path, err)
	}
	return nil
}

// tune sets what no mount option can. A kernel without one of the settings does
// without.
//
// ext4 zeroes the rest of a small extent, which a loop device does by punching a
// hole: off, for the sake of the reservation. (Holes are filled at the next mount
// too.) And the loop device slows writers down as soon as the disk takes longer
// than 2 ms: off, as the disk below has its own measure against too many.
func (p *Pool) tune(m mountPoint) {
	for _, setting := range []string{"/sys/fs/ext4/loop%d/extent_max_zeroout_kb", "/sys/block/loop%d/queue/wbt_lat_usec"} {
		if err := os.WriteFile(fmt.Sprintf(setting, m.loop), []byte("0"), 0); err != nil {
			p.log.Debug("a setting of a volume is not there", "volume", m.volume, "err", err)
		}
	}
}

// Unmount ends a user's use. With the last one the volume is unmounted: all that
// was written is on the disk then. A user that has none is fine. A BusyError says
// that a process of the host has a file open.
func (p *Pool) Unmount(ctx context.Context, id, user string) error {
	if err := checkNames(id, user); err != nil {
		return err
	}
	defer p.hold(id)()
	path := filepath.Join(p.cfg.RunDir, id, user)
	err := unmount(path)
	if errors.Is(err, unix.EBUSY) {
		return &BusyError{Volume: id, Users: []string{user}}
	}
	if err != nil {
		return fmt.Errorf("unmount volume %s of %s: %w", id, user, err)
	}
	return nil
}

// removeMountPoint removes a user's folder and, after the last one, the volume's.
// Who fails to does not matter: something is mounted there still.
func removeMountPoint(path string) {
	_ = os.Remove(path)
	_ = os.Remove(filepath.Dir(path))
}

// unmount takes away every mount at path, and the folders.
func unmount(path string) error {
	for {
		err := retryEINTR(func() error { return unix.Unmount(path, unix.UMOUNT_NOFOLLOW) })
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
	}
	removeMountPoint(path)
	return nil
}

// Users names everybody who has a volume mounted, and which ones.
func (p *Pool) Users() (map[string][]string, error) {
	mounts, err := p.mounts()
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, m := range mounts {
		if nameRule.MatchString(m.user) {
			users[m.user] = append(users[m.user], m.volume)
		}
	}
	return users, nil
}

// mounts asks the kernel what is mounted in RunDir.
func (p *Pool) mounts() ([]mountPoint, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(p.cfg.RunDir))
	if err != nil {
		return nil, fmt.Errorf("what is mounted: %w", err)
	}
	var out []mountPoint
	for _, info := range infos {
		rel, err := filepath.Rel(p.cfg.RunDir, info.Mountpoint)
		volume, user, ok := strings.Cut(rel, "/")
		if err != nil || !ok || strings.Contains(user, "/") || info.Major != loopMajor {
			continue
		}
		out = append(out, mountPoint{volume: volume, user: user, path: info.Mountpoint, loop: info.Minor, failed: failed(info.VFSOptions)})
	}
	return out, nil
}

// failed reports whether a file system has met an error in its own blocks and takes
// no more writes since: we mount none read-only. Newer kernels call it emergency_ro.
func failed(options string) bool {
	all := strings.Split(options, ",")
	return slices.Contains(all, "ro") || slices.Contains(all, "emergency_ro")
}

// usersOf names who has a volume mounted, sorted.
func usersOf(mounts []mountPoint, id string) []string {
	var users []string
	for _, m := range mounts {
		if m.volume == id {
			users = append(users, m.user)
		}
	}
	slices.Sort(users)
	return users
}
