package runtime

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is USER_HZ, in which /proc counts; the kernel's ABI fixes it at 100
// on every architecture that Go knows.
const clockTick = 10 * time.Millisecond

// startOf is when a process began, to clockTick; zero when that can't be told.
// containerd does not say it, and after a crash between starting a container
// and writing that down, the bill depends on it.
func startOf(pid uint32) time.Time {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}
	}
	ticks, ok := startTicks(raw)
	if !ok {
		return time.Time{}
	}
	var sinceBoot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &sinceBoot); err != nil {
		return time.Time{}
	}
	age := time.Duration(sinceBoot.Nano()) - time.Duration(ticks)*clockTick
	return time.Now().Add(-max(0, age))
}

// startTicks reads field 22 of /proc/PID/stat (proc(5)). The second field is the
// program's name in parentheses, which may hold anything.
func startTicks(stat []byte) (ticks int64, ok bool) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, false
	}
	fields := bytes.Fields(stat[end+1:])
	const field = 22 - 3 // counted from the third
	if len(fields) <= field {
		return 0, false
	}
	n, err := strconv.ParseInt(string(fields[field]), 10, 64)
	return n, err == nil && n >= 0
}
