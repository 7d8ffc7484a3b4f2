package doctor

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ecolink/agent/runtime"
)

// versionTimeout is how long a program may take to say its version.
const versionTimeout = 5 * time.Second

// programs that EcoLink runs, and the Debian packages that have them.
func programs() map[string]string {
	return map[string]string{
		"containerd": "containerd", "containerd-shim-runc-v2": "containerd", "runc": "runc", "nft": "nftables",
		"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "unshare": "util-linux",
	}
}

// pluginDirs are where distributions put CNI plugins.
func pluginDirs() []string {
	return []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}
}

// needs lists what EcoLink needs and this host lacks.
func needs(p Places) (out []Finding) {
	all := programs()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if _, ok := installed(name); !ok {
			out = append(out, Finding{Kind: Program, Name: name, Where: []string{}, Why: "it is not installed", Advice: "install the package " + all[name]})
		}
	}
	if path, ok := installed("containerd"); ok {
		if err := checkContainerd(path); err != nil {
			out = append(out, Finding{Kind: Program, Name: "containerd", Where: []string{path}, Why: err.Error(), Advice: "upgrade the package containerd, if EcoLink is to start it"})
		}
	}
	for _, plugin := range []string{"bridge", "host-local"} {
		found := false
		for _, dir := range pluginDirs() {
			_, err := os.Stat(filepath.Join(dir, plugin))
			found = found || err == nil
		}
		if !found {
			out = append(out, Finding{Kind: Program, Name: "CNI plugin " + plugin, Where: pluginDirs(), Why: "it is not installed", Advice: "install the package containernetworking-plugins"})
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		out = append(out, Finding{Kind: Kernel, Name: "loop devices", Where: []string{"/dev/loop-control"}, Why: err.Error(), Advice: "run `modprobe loop`"})
	}
	if f, found := userNamespaces(p.RunDir); found {
		out = append(out, f)
	}
	for _, controller := range []string{"cpu", "memory", "pids"} {
		_, one := os.Stat(filepath.Join("/sys/fs/cgroup", controller))
		raw, two := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		if one != nil && (two != nil || !slices.Contains(strings.Fields(string(raw)), controller)) {
			out = append(out, Finding{Kind: Kernel, Name: "control group " + controller, Where: []string{"/sys/fs/cgroup"},
				Why: "instances can't be limited", Advice: "boot with this controller on"})
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.DataDir, &st); err != nil {
		return append(out, Finding{Kind: Disk, Name: p.DataDir, Where: []string{p.DataDir}, Why: err.Error()})
	}
	if free := int64(st.Bavail) * st.Bsize; free < p.Reserve {
		out = append(out, Finding{Kind: Disk, Name: p.DataDir, Where: []string{p.DataDir},
			Why:    fmt.Sprintf("%d MB are free, less than the %d MB that should stay so", free/1e6, p.Reserve/1e6),
			Advice: "remove what is not EcoLink's, prune images, or delete snapshots and drives"})
	}
	return out
}

// UserNamespacesFile is where a start of EcoLink writes whether containers run in user
// namespaces, in the folder RunDir; NoUserNamespaces begins what it writes when they
// should and can't.
func UserNamespacesFile(runDir string) string { return filepath.Join(runDir, "user-namespaces") }

// NoUserNamespaces begins the reason.
const NoUserNamespaces = "off, as this machine can't: "

func userNamespaces(runDir string) (f Finding, found bool) {
	raw, err := os.ReadFile(UserNamespacesFile(runDir))
	if err != nil {
		return f, false // nothing has been decided yet
	}
	why, found := strings.CutPrefix(strings.TrimSpace(string(raw)), NoUserNamespaces)
	return Finding{Kind: Kernel, Name: "user namespaces", Where: []string{}, Why: "root in a container is root of the host without most of its powers: " + why, Minor: true,
		Advice: "mend that and restart EcoLink, or accept it: --user-namespaces off"}, found
}

// installed finds a program.
func installed(name string) (path string, ok bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range []string{"/sbin", "/usr/sbin", "/usr/local/sbin"} { // not in everybody's PATH
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, true
		}
	}
	return "", false
}

// checkContainerd asks a containerd that need not run for its version: it says
// "containerd github.com/containerd/containerd 1.6.20 COMMIT".
func checkContainerd(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("it does not say its version: %w", err)
	}
	words := strings.Fields(string(out))
	if len(words) < 3 {
		return fmt.Errorf("it does not say its version but %.80q", out)
	}
	return runtime.CheckVersion(words[2])
}
