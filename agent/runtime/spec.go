package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ecolink/agent/userns"
)

// initPath is where a container finds its process 1.
const initPath = "/run/ecolink/init"

// SFTPPath is where a container finds its SFTP server.
const SFTPPath = "/run/ecolink/sftp"

// defaultPATH is Docker's, for images that set none.
const defaultPATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Container is what is to run.
type Container struct {
	ID       string
	Image    Image
	Hostname string
	Command  []string          // in place of the image's entrypoint and command
	Env      map[string]string // added to the image's
	Labels   map[string]string

	Resources Resources
	Files     []File // ours, read-only in the container
	// Layer is a folder in which what the container writes is kept, on a file system
	// that limits it. Empty: containerd's, which the host's disk alone limits.
	Layer string

	// Volumes are the mounts whose files belong to the container's users.
	Volumes []specs.Mount

	// User is the user namespace that the container runs in, which the network's
	// belongs to; the zero Mapping is the host's own.
	User             userns.Mapping
	NetworkNamespace string   // a file to join it by
	Address          string   // of the container in it, for /etc/hosts
	Nameservers      []string // for /etc/resolv.conf
	// Edit has the last word about the spec: devices come in here.
	Edit func(*specs.Spec) error
}

// File is a small file of ours in a container.
type File struct {
	Path    string // absolute, in the container
	Content []byte
}

// spec writes the OCI spec of a container: containerd's defaults (whose
// capabilities and seccomp profile are Docker's), the image's environment and
// directory, our process 1, the network, and whatever Edit adds.
//
// The user is always root: a development box is for that.
func (r *Runtime) spec(ctx context.Context, c Container, img imageConfig) (*specs.Spec, error) {
	record := &containers.Container{ID: c.ID}
	spec, err := oci.GenerateSpec(ctx, nil, record,
		oci.WithHostname(c.Hostname),
		oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: c.NetworkNamespace}),
		oci.WithDefaultUnixDevices,
		seccomp.WithDefaultProfile(),
	)
	if err != nil {
		return nil, fmt.Errorf("container %s: write its spec: %w", c.ID, err)
	}
	spec.Process.Args = append([]string{initPath, "init", "--report", endedPath, "--"}, command(c, img)...)
	spec.Process.Env = environment(c, img)
	spec.Process.Cwd = "/"
	if img.WorkingDir != "" {
		spec.Process.Cwd = img.WorkingDir
	}
	// The machine's own architecture alone. Runtimes compile the profile anew for
	// each container, and the 32-bit ones, which no CUDA program uses, take two
	// thirds of that time: 7 ms of a launch. They are also more kernel to attack.
	if profile := spec.Linux.Seccomp; len(profile.Architectures) > 1 {
		profile.Architectures = profile.Architectures[:1]
	}
	// The daemon's own limits hold: a spec that raises them fails where the
	// daemon lacks CAP_SYS_RESOURCE.
	spec.Process.Rlimits = nil
	limit(spec, c.Resources, r.swap)
	mounts, err := r.files(c)
	if err != nil {
		return nil, err
	}
	// Volumes come behind the container's own file systems (/proc, /dev) and before
	// our files, which a volume at /run or /etc must not hide.
	spec.Mounts = slices.Concat(spec.Mounts, c.Volumes, mounts)
	if c.Edit != nil {
		if err := c.Edit(spec); err != nil {
			return nil, fmt.Errorf("container %s: %w", c.ID, err)
		}
	}
	return spec, nil
}

// command is what process 1 starts; nothing when neither the user nor the image
// names anything.
func command(c Container, img imageConfig) []string {
	if len(c.Command) > 0 {
		return c.Command
	}
	return slices.Concat(img.Entrypoint, img.Cmd)
}

func environment(c Container, img imageConfig) []string {
	merged := map[string]string{}
	for _, entry := range append([]string{defaultPATH, "HOME=/root", "LANG=C.UTF-8"}, img.Env...) {
		if name, value, ok := strings.Cut(entry, "="); ok {
			merged[name] = value
		}
	}
	merged["HOSTNAME"] = c.Hostname
	maps.Copy(merged, c.Env)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		out = append(out, name+"="+merged[name])
	}
	return out
}

// files makes the container's own /etc files and mounts them and its process 1.
// They are written anew whenever the container starts, so a reboot may clear them.
func (r *Runtime) files(c Container) ([]specs.Mount, error) {
	dir := r.etcDir(c.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("container %s: %w", c.ID, err)
	}
	var resolv strings.Builder
	for _, server := range c.Nameservers {
		fmt.Fprintf(&resolv, "nameserver %s\n", server)
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if c.Address != "" {
		hosts += c.Address + "\t" + c.Hostname + "\n"
	}
	mounts := []specs.Mount{{
		Destination: initPath, Type: "bind", Source: r.keeper, Options: []string{"bind", "ro", "nosuid", "nodev"},
	}, {
		Destination: SFTPPath, Type: "bind", Source: r.sftp, Options: []string{"bind", "ro", "nosuid", "nodev"},
	}}
	for name, text := range map[string]string{"resolv.conf": resolv.String(), "hosts": hosts, "hostname": c.Hostname + "\n"} {
		path, err := writeOwn(c, dir, name, text)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", c.ID, err)
		}
		mounts = append(mounts, specs.Mount{
			Destination: "/etc/" + name, Type: "bind", Source: path, Options: []string{"bind", "rw", "nosuid", "nodev"},
		})
	}
	for n, f := range c.Files {
		// The user in the container may be any: the folder above keeps others out.
		path := filepath.Join(dir, fmt.Sprintf("file-%d", n))
		if err := writeAs(c.User.Range, path, f.Content); err != nil {
			return nil, fmt.Errorf("container %s: %w", c.ID, err)
		}
		mounts = append(mounts, specs.Mount{
			Destination: f.Path, Type: "bind", Source: path, Options: []string{"bind", "ro", "nosuid", "nodev"},
		})
	}
	slices.SortFunc(mounts, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return mounts, nil
}

// writeOwn writes a file that its container may write to, and gives its path. With a
// layer it is kept there: what the container adds to it counts, and can't fill the
// host's /run. A link in dir leads to it.
func writeOwn(c Container, dir, name, text string) (path string, err error) {
	link := filepath.Join(dir, name)
	if c.Layer == "" {
		return link, writeAs(c.User.Range, link, []byte(text))
	}
	if path, err = filepath.Abs(filepath.Join(c.Layer, "etc", name)); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	// On a layer that is full the file is what was left of it.
	err = os.WriteFile(path, []byte(text), 0o644)
	if _, missing := os.Lstat(path); err != nil && (missing != nil || !errors.Is(err, unix.ENOSPC)) {
		return "", err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, os.Symlink(path, link)
}

// writeAs writes a file that root in a user namespace owns. It lies outside of what
// is mapped, so its owner is set.
func writeAs(ids userns.Range, path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	return os.Chown(path, int(ids.First), int(ids.First))
}

// etcDir holds a container's own /etc files.
func (r *Runtime) etcDir(id string) string { return filepath.Join(r.cfg.RunDir, "etc", id) }

// containerDir is what we keep of a container on the disk: its logs.
func (r *Runtime) containerDir(id string) string {
	return filepath.Join(r.cfg.DataDir, "containers", id)
}
