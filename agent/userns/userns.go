package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mapping is a user namespace and what belongs to it, kept alive by mounts at these
// paths. The zero Mapping is none: root inside is the host's root.
type Mapping struct {
	Range
	Path  string // a file to join the user namespace by
	Layer string // another, with LayerRoot besides, that only mounts have
}

// Create makes the user namespace, the one for its layer, and a network namespace
// that it owns, kept at network. The files must not exist. What it made before it
// failed is for Remove; the network namespace is the caller's.
func (m Mapping) Create(network string) error {
	if !m.Valid() {
		return fmt.Errorf("make user namespace %s: %d is not the first id of a range", m.Path, m.First)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(m.First), Size: IDs}}
	err := hold(unix.CLONE_NEWUSER|unix.CLONE_NEWNET, ids, func(process string) error {
		return errors.Join(keep(process+"/ns/user", m.Path), keep(process+"/ns/net", network))
	})
	if err == nil {
		ids = append(ids, syscall.SysProcIDMap{ContainerID: LayerRoot, HostID: 0, Size: 1})
		err = hold(unix.CLONE_NEWUSER, ids, func(process string) error { return keep(process+"/ns/user", m.Layer) })
	}
	if err != nil {
		return fmt.Errorf("make user namespace %s: %w", m.Path, err)
	}
	return nil
}

// Alive tells whether its namespaces are there.
func (m Mapping) Alive() bool { return alive(m.Path) && alive(m.Layer) }

// Remove lets go of the namespaces; processes and mounts that have them keep them.
// What is not there is fine.
func (m Mapping) Remove() error {
	return errors.Join(LetGo(m.Path), LetGo(m.Layer))
}

// hold runs do beside a process that is in new namespaces and stands still: it is
// stopped before its first instruction, and killed afterwards. A process of several
// threads, as we are, can't go into a user namespace itself.
func hold(flags uintptr, ids []syscall.SysProcIDMap, do func(process string) error) error {
	// It is traced by this thread, and dies with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"ecolink-userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: flags, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return err
	}
	err = do(fmt.Sprintf("/proc/%d", p.Pid))
	killed := p.Kill()
	_, waited := p.Wait()
	return errors.Join(err, killed, waited)
}

// keep keeps a namespace alive by a mount at path.
func keep(namespace, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := unix.Mount(namespace, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", namespace, path, err)
	}
	return nil
}

func alive(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// LetGo ends what keeps a namespace alive at path, and removes the file.
func LetGo(path string) error {
	for alive(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
