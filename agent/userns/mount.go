package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mounts are ID-mapped copies of folders in a folder of their own, for as long as it
// takes to start a container from them: an overlay, or the container's own mounts,
// keep what they were made from. One goroutine uses it.
type Mounts struct {
	dir          string
	plain, layer *os.File // the user namespaces that map
	made         int
}

// OpenMounts makes the folder, over what a crash may have left there.
func (m Mapping) OpenMounts(dir string) (_ *Mounts, err error) {
	if err := CloseMounts(dir); err != nil {
		return nil, err
	}
	mounts := &Mounts{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, mounts.Close())
		}
	}()
	if mounts.plain, err = os.Open(m.Path); err != nil {
		return nil, err
	}
	if mounts.layer, err = os.Open(m.Layer); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// All of them go with this one.
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=700"); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return mounts, nil
}

// Files maps a folder whose files are those of the container's users.
func (m *Mounts) Files(folder string) (path string, err error) { return m.add(m.plain, folder) }

// Layer maps a folder that an overlay is to write to.
func (m *Mounts) Layer(folder string) (path string, err error) { return m.add(m.layer, folder) }

func (m *Mounts) add(mapping *os.File, folder string) (string, error) {
	path := filepath.Join(m.dir, fmt.Sprint(m.made)) // short: an overlay has a page for all of its layers
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", err
	}
	m.made++
	fd, err := unix.OpenTree(unix.AT_FDCWD, folder, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("copy the mount of %s: %w", folder, err)
	}
	defer unix.Close(fd)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(mapping.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return "", fmt.Errorf("map the owners of %s: %w", folder, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", fmt.Errorf("mount %s at %s: %w", folder, path, err)
	}
	return path, nil
}

// Close takes the copies away. Whatever was made from them stays.
func (m *Mounts) Close() error {
	for _, f := range []*os.File{m.plain, m.layer} {
		if f != nil {
			f.Close()
		}
	}
	return CloseMounts(m.dir)
}

// CloseMounts takes away what OpenMounts made at dir, whoever called it.
func CloseMounts(dir string) error {
	for {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	// Never what is in it: that would be users' files, were they still mounted.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
