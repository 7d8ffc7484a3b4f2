package endtoend

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sweep takes away by force what a test that failed has left on the host: its
// server, containers, mounts, bridge and rules. After a test that passed there is
// nothing to do, which end has checked.
func (b *box) sweep() {
	if b.serve != nil && b.serve.ProcessState == nil {
		_ = b.serve.Process.Kill()
		_ = b.serve.Wait()
	}
	if !b.t.Failed() {
		return
	}
	for try := 0; try < 50 && b.killAll() > 0; try++ {
		time.Sleep(20 * time.Millisecond)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		b.t.Error(err)
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines) // the newest first, which may lie on others
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], b.dir+"/") {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil {
				b.t.Errorf("unmount %s: %v", f[4], err)
			}
		}
	}
	bridge := fmt.Sprintf("ecoe2e%d", b.number)
	for _, command := range [][]string{{"ip", "link", "delete", bridge}, {"sh", "-c", "nft list tables | grep -w " + bridge + " | while read -r t; do nft delete $t; done"}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			b.t.Logf("%v: %v: %s", command, err, out)
		}
	}
}

// killAll kills every process that was started for the box, and those in its
// containers, and says how many there were.
func (b *box) killAll() (found int) {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		b.t.Error(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.t.Error(err)
	}
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		ours := strings.Contains(string(command), b.dir)
		if ns, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err == nil && ns != own {
			ours = ours || b.contains(dir)
		}
		if ours {
			found++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return found
}

// contains tells whether a process is in one of the box's containers: a file of the
// box is mounted there at a place of the container's own. A service of the host that
// merely has a copy of the host's mounts has none.
func (b *box) contains(proc string) bool {
	mounts, _ := os.ReadFile(filepath.Join(proc, "mountinfo"))
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.Contains(f[3], "/"+filepath.Base(b.dir)+"/") && !strings.HasPrefix(f[4], b.dir) {
			return true
		}
	}
	return false
}
