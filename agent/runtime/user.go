package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"ecolink/agent/userns"
)

// mapsDir has, while containers start, what they are made of as their users see it.
func (c Config) mapsDir() string { return filepath.Join(c.RunDir, "maps") }

// dropMaps takes away what an EcoLink that was killed had there. Should a container
// be starting from it, that fails, and is made again.
func dropMaps(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range left {
		err = errors.Join(err, userns.CloseMounts(path))
	}
	return err
}

// enterUser has a container run in its user namespace: its file system, its volumes
// and its files of ours are mapped, so that root inside owns what root should. done
// must be called once it has been created, or could not be.
func (r *Runtime) enterUser(c Container, spec *specs.Spec, rootfs []mount.Mount) (_ []mount.Mount, done func(), err error) {
	dir := filepath.Join(r.cfg.mapsDir(), c.ID)
	if err := os.MkdirAll(r.cfg.mapsDir(), 0o700); err != nil {
		return nil, nil, fmt.Errorf("container %s: %w", c.ID, err)
	}
	maps, err := c.User.OpenMounts(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("container %s: %w", c.ID, err)
	}
	done = func() {
		if err := maps.Close(); err != nil {
			r.log.Error("what a container was made from could not be unmounted; the next start of EcoLink tries again", "container", c.ID, "err", err)
		}
	}
	defer func() {
		if err != nil {
			done()
			err = fmt.Errorf("container %s: prepare its files for its user namespace: %w", c.ID, err)
		}
	}()
	rootfs, layer, err := mapOverlay(maps, rootfs)
	if err != nil {
		return nil, nil, err
	}
	if err := mapMounts(maps, c, spec, layer); err != nil {
		return nil, nil, err
	}
	if err := keepFlags(spec.Mounts); err != nil {
		return nil, nil, err
	}
	joinUser(spec, c.User)
	return rootfs, done, nil
}

// mapOverlay maps the folders of an overlay. layer is where the one is that has what
// is written.
func mapOverlay(maps *userns.Mounts, rootfs []mount.Mount) (_ []mount.Mount, layer string, err error) {
	if len(rootfs) != 1 || rootfs[0].Type != "overlay" {
		return nil, "", fmt.Errorf("its mounts are not one overlay: %v", rootfs)
	}
	overlay := rootfs[0]
	overlay.Options = slices.Clone(overlay.Options)
	for n, option := range overlay.Options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "lowerdir":
			lowers := strings.Split(value, ":")
			for k, lower := range lowers {
				if lowers[k], err = maps.Files(lower); err != nil {
					return nil, "", err
				}
			}
			value = strings.Join(lowers, ":")
		case "upperdir", "workdir": // in one folder, which must be one mount
			if layer == "" {
				if layer, err = maps.Layer(filepath.Dir(value)); err != nil {
					return nil, "", err
				}
			}
			value = filepath.Join(layer, filepath.Base(value))
		default:
			continue
		}
		overlay.Options[n] = name + "=" + value
	}
	if layer == "" {
		return nil, "", fmt.Errorf("its overlay has no upperdir: %v", overlay.Options)
	}
	return []mount.Mount{overlay}, layer, nil
}

// mapMounts maps the volumes, and what lies in the container's layer.
func mapMounts(maps *userns.Mounts, c Container, spec *specs.Spec, layer string) (err error) {
	for n, m := range spec.Mounts {
		if slices.ContainsFunc(c.Volumes, func(v specs.Mount) bool { return v.Destination == m.Destination && v.Source == m.Source }) {
			if spec.Mounts[n].Source, err = maps.Files(m.Source); err != nil {
				return err
			}
		}
		if rest, ok := strings.CutPrefix(m.Source, c.Layer+"/"); ok && c.Layer != "" {
			spec.Mounts[n].Source = filepath.Join(layer, rest)
		}
	}
	return nil
}

// keepFlags asks for the flags that the sources of bind mounts have: in a user
// namespace the kernel refuses to leave any of them off.
func keepFlags(mounts []specs.Mount) error {
	flags := []struct {
		name string
		bit  int64
	}{{"ro", unix.ST_RDONLY}, {"nosuid", unix.ST_NOSUID}, {"nodev", unix.ST_NODEV}, {"noexec", unix.ST_NOEXEC}}
	for n, m := range mounts {
		if !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(m.Source, &st); err != nil {
			return fmt.Errorf("mount of %s: %w", m.Source, err)
		}
		for _, f := range flags {
			if st.Flags&f.bit != 0 && !slices.Contains(m.Options, f.name) {
				mounts[n].Options = append(slices.Clone(mounts[n].Options), f.name)
			}
		}
	}
	return nil
}

// joinUser writes the user namespace into a spec. A program with the setuid bit may
// then have its effect, as in Docker: what it leads to is root inside.
func joinUser(spec *specs.Spec, user userns.Mapping) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: user.First, Size: userns.IDs}}
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: user.Path})
	spec.Process.NoNewPrivileges = false
}

// streamOptions has containerd give the pipes of commands to root in the container,
// who otherwise could write to them but not open them anew (/dev/stdout).
func streamOptions(ids userns.Range) (*anypb.Any, error) {
	if ids == (userns.Range{}) {
		return nil, nil
	}
	return typeurl.MarshalAnyToProto(&options.Options{IoUid: ids.First, IoGid: ids.First})
}

// giveStreams does the same for process 1, whose pipes containerd leaves as they are.
func giveStreams(ids userns.Range, pid uint32) error {
	if ids == (userns.Range{}) {
		return nil
	}
	for _, fd := range []int{unix.Stdout, unix.Stderr} {
		if err := os.Chown(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), int(ids.First), int(ids.First)); err != nil {
			return err
		}
	}
	return nil
}
