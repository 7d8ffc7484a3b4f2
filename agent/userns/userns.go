package userns

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

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
	ids := fmt.Sprintf("0 %d %d\n", m.First, IDs)
	layer := make(chan error, 1)
	go func() {
		layer <- hold([]string{"--user"}, ids+fmt.Sprintf("%d 0 1\n", LayerRoot), func(process string) error { return keep(process+"/ns/user", m.Layer) })
	}()
	err := hold([]string{"--user", "--net"}, ids, func(process string) error {
		return errors.Join(keep(process+"/ns/user", m.Path), keep(process+"/ns/net", network))
	})
	err = errors.Join(err, <-layer)
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

// hold runs do beside a process that is in new namespaces and waits. A process of
// several threads, as we are, can't go into a user namespace itself; and to have a
// copy of us begin there (clone), in place of a small program, would take the longer
// the more memory we have.
func hold(flags []string, ids string, do func(process string) error) (err error) {
	cmd := exec.Command("unshare", append(flags, "cat")...)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		// It ends with its input, also if it is our end.
		if ended := errors.Join(in.Close(), cmd.Wait()); ended != nil {
			err = errors.Join(err, fmt.Errorf("%w: %.200s", ended, strings.TrimSpace(said.String())))
		}
	}()
	// Its answer shows that it is there.
	if _, err := in.Write([]byte{'\n'}); err != nil {
		return err
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		return err
	}
	process := fmt.Sprintf("/proc/%d", cmd.Process.Pid)
	for _, file := range []string{"/uid_map", "/gid_map"} {
		if err := os.WriteFile(process+file, []byte(ids), 0); err != nil {
			return err
		}
	}
	return do(process)
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
