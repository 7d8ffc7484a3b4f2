package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// programs that EcoLink runs, and the Debian packages that have them.
func programs() map[string]string {
	return map[string]string{
		"containerd": "containerd", "containerd-shim-runc-v2": "containerd", "runc": "runc", "nft": "nftables",
		"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs",
	}
}

// pluginDirs are where distributions put CNI plugins.
func pluginDirs() []string {
	return []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}
}

// needs lists what EcoLink needs and this host lacks.
func needs(p Places) (out []Finding) {
	for name, pkg := range programs() {
		if !installed(name) {
			out = append(out, Finding{Kind: Program, Name: name, Where: []string{}, Why: "it is not installed", Advice: "install the package " + pkg})
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

func installed(name string) bool {
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	for _, dir := range []string{"/sbin", "/usr/sbin", "/usr/local/sbin"} { // not in everybody's PATH
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
