package agent

import (
	"bytes"
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// Capacity is what this machine has for all its workloads and itself.
type Capacity struct {
	CPUs        int
	MemoryBytes int64
	PIDs        int64 // processes and threads that the kernel allows
	DiskBytes   int64 // free where workloads keep their files
}

// MachineCapacity asks the kernel. Workloads keep their files below dir.
func MachineCapacity(dir string) (c Capacity, err error) {
	c.CPUs = goruntime.NumCPU()
	if c.MemoryBytes, err = memoryTotal(); err != nil {
		return c, err
	}
	for n, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			return c, err
		}
		var most int64
		if _, err := fmt.Sscan(string(raw), &most); err != nil {
			return c, fmt.Errorf("read %s: %w", file, err)
		}
		if n == 0 || most < c.PIDs {
			c.PIDs = most
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return c, fmt.Errorf("%s: %w", dir, err)
	}
	c.DiskBytes = int64(st.Bavail) * st.Bsize
	return c, nil
}

// memoryTotal reads the line `MemTotal: N kB` of /proc/meminfo (proc(5)).
func memoryTotal() (int64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(raw) {
		var kib int64
		if n, _ := fmt.Sscanf(string(line), "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo does not say how much memory there is")
}
