package initproc

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// anyoneHeedsTerm reports whether another process of the container is still
// running that does not ignore SIGTERM.
//
// Our own children are not everybody: what runs in a terminal was started from
// outside and has no parent in here. When process 1 exits the kernel kills all
// of them at once, and a training run in a terminal would lose the grace period
// in which it writes its checkpoint. Interactive shells ignore SIGTERM and would
// hold up every stop for the whole grace, so those are not waited for.
//
// Without a /proc of this PID namespace it answers false: then only children
// are waited for.
func anyoneHeedsTerm() bool {
	if self, err := os.Readlink("/proc/self"); err != nil || self != "1" {
		return false
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 {
			continue
		}
		status, err := os.ReadFile("/proc/" + entry.Name() + "/status")
		if err == nil && heedsTerm(status) {
			return true
		}
	}
	return false
}

// heedsTerm reads the text of a /proc/PID/status (proc(5)): State, where Z and
// X are dead already, and SigIgn, a hexadecimal mask with bit n-1 for signal n.
func heedsTerm(status []byte) bool {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return false
			}
		case "SigIgn":
			ignored, err := strconv.ParseUint(value, 16, 64)
			return err == nil && ignored&(1<<(syscall.SIGTERM-1)) == 0
		}
	}
	return false
}
