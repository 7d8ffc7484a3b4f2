package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Resources are how much of the machine a container gets; 0 is no limit.
type Resources struct {
	MilliCPUs    int64 // guaranteed; more only while others leave it idle
	FixedCPUs    bool  // never more than that
	MemoryBytes  int64
	PIDs         int64
	ShmBytes     int64 // of /dev/shm, which counts as memory too
	ScratchBytes int64 // of the container's own layer
}

// How the kernel counts CPU time: a weight of 1024 is one CPU's, and a quota is
// for each period of this many microseconds.
const (
	sharesPerCPU  = 1024
	minShares     = 2       // the kernel's bounds of a weight
	maxShares     = 1 << 18 //
	cpuPeriodUsec = 100_000
)

// limit writes the resources into a spec. A weight, not a quota, is what guards a
// neighbour: it binds only when the CPUs are fought for, and an idle box's CPUs
// would help nobody.
func limit(spec *specs.Spec, res Resources, swap bool) {
	r := spec.Linux.Resources
	if r == nil {
		r = &specs.LinuxResources{}
		spec.Linux.Resources = r
	}
	if res.MilliCPUs > 0 {
		shares := uint64(min(max(res.MilliCPUs*sharesPerCPU/1000, minShares), maxShares))
		r.CPU = &specs.LinuxCPU{Shares: &shares}
		if res.FixedCPUs {
			period, quota := uint64(cpuPeriodUsec), res.MilliCPUs*cpuPeriodUsec/1000
			r.CPU.Period, r.CPU.Quota = &period, &quota
		}
	}
	if res.MemoryBytes > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &res.MemoryBytes}
		if swap {
			r.Memory.Swap = &res.MemoryBytes // memory and swap together
		}
	}
	if res.PIDs > 0 {
		r.Pids = &specs.LinuxPids{Limit: &res.PIDs}
	}
	if res.ShmBytes > 0 {
		for n, m := range spec.Mounts {
			if m.Destination != "/dev/shm" {
				continue
			}
			m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, "size=") })
			spec.Mounts[n].Options = append(m.Options, fmt.Sprintf("size=%d", res.ShmBytes))
		}
	}
}

// swapCounted tells whether this machine swaps and its kernel can limit that for
// each container. Without either a limit of swap is refused by some runtimes.
func swapCounted() bool {
	areas, err := os.ReadFile("/proc/swaps")
	if err != nil || strings.Count(strings.TrimSpace(string(areas)), "\n") == 0 { // only the heading
		return false
	}
	if memory := cgroupMemory(); memory != cgroupRoot {
		_, err := os.Stat(filepath.Join(memory, "memory.memsw.limit_in_bytes"))
		return err == nil
	}
	return true
}

const cgroupRoot = "/sys/fs/cgroup"

// cgroupMemory is the hierarchy of control groups that counts memory: the only
// one of version 2, or one of several of version 1.
func cgroupMemory() string {
	dir := filepath.Join(cgroupRoot, "memory")
	if _, err := os.Stat(filepath.Join(dir, "memory.limit_in_bytes")); err == nil {
		return dir
	}
	return cgroupRoot
}

// oomKills counts the processes of a container that the kernel has ended for want
// of memory; 0 when that can't be told. The group is gone with the container's
// process.
func (r *Runtime) oomKills(id string) int64 {
	group := filepath.Join(cgroupMemory(), r.cfg.Namespace, id)
	for _, name := range []string{"memory.oom_control", "memory.events"} { // of version 1, of version 2
		raw, err := os.ReadFile(filepath.Join(group, name))
		if err == nil {
			return oomKillsIn(string(raw))
		}
	}
	return 0
}

// oomKillsIn reads the line `oom_kill N` of either file.
func oomKillsIn(text string) int64 {
	for line := range strings.Lines(text) {
		var n int64
		if got, _ := fmt.Sscanf(line, "oom_kill %d", &n); got == 1 {
			return n
		}
	}
	return 0
}

// writeTo has an overlay keep what is written in another folder than the
// snapshot's, which then only keeps the image's layers from being collected.
func writeTo(layer string, rootfs []mount.Mount) ([]mount.Mount, error) {
	if len(rootfs) != 1 || rootfs[0].Type != "overlay" {
		return nil, fmt.Errorf("its mounts are not one overlay: %v", rootfs)
	}
	overlay := rootfs[0]
	overlay.Options = slices.Clone(overlay.Options)
	for name, option := range map[string]string{"upper": "upperdir=", "work": "workdir="} {
		dir := filepath.Join(layer, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		n := slices.IndexFunc(overlay.Options, func(o string) bool { return strings.HasPrefix(o, option) })
		if n < 0 {
			return nil, fmt.Errorf("its overlay has no %s: %v", option, overlay.Options)
		}
		overlay.Options[n] = option + dir
	}
	return []mount.Mount{overlay}, nil
}

// dropGroups removes the control groups that held our containers' own, once there
// are none: nobody else would. One that has any left can't be removed.
func (r *Runtime) dropGroups() {
	for _, pattern := range []string{cgroupRoot + "/*/", cgroupRoot + "/"} {
		dirs, _ := filepath.Glob(pattern + r.cfg.Namespace) // a fixed pattern
		for _, dir := range dirs {
			_ = unix.Rmdir(dir)
		}
	}
}
