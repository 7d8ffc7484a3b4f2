// Package latency has the kernel run a process soon after it is woken, also while
// programs keep every CPU busy. For processes that pass on what somebody types and
// sees: EcoLink and the terminals' hosts. And it makes system calls that keep the Go
// runtime asleep, for what is over at once.
//
// It gives nobody more of the CPUs than before.
package latency

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// slice is the shortest that Linux gives (kernel/sched/syscalls.c).
const slice = 100 * time.Microsecond

// AskForShortSlices makes the turns of this process short, and of the threads that it
// will start: a thread that is woken may then interrupt one whose turns are longer
// (sched_setattr(2), Linux 6.12 and later; an earlier one ignores it). What the
// kernel refuses stays as it is.
func AskForShortSlices() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		attr, err := unix.SchedGetAttr(id, 0)
		if err != nil || attr.Policy != unix.SCHED_NORMAL {
			continue
		}
		attr.Runtime = uint64(slice)
		_ = unix.SchedSetAttr(id, attr, 0)
	}
}
