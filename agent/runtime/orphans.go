package runtime

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// endOrphans ends the shims of ours that containerd knows nothing of. EcoLink was
// killed while containerd was creating their containers: it gave up with us, and
// removed everything but the shim, which had not finished (seen with 1.6). What
// the next start of the same container would find is such a shim.
func (r *Runtime) endOrphans(ctx context.Context) error {
	shims, err := r.shims()
	if err != nil || len(shims) == 0 {
		return err
	}
	all, err := r.client.ContainerService().List(r.in(ctx)) // after the shims: a new one has its record first
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, c := range all {
		delete(shims, c.ID)
	}
	for id, pid := range shims {
		r.log.Warn("ending a shim without a container", "container", id, "pid", pid)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return fmt.Errorf("container %s: end its shim: %w", id, err)
		}
	}
	return nil
}

// shims finds the shims of our namespace by what containerd calls them with:
// containerd-shim-runc-v2 -namespace N -id ID -address A.
func (r *Runtime) shims() (map[string]int, error) {
	found := map[string]int{}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, path := range lines {
		raw, err := os.ReadFile(path)
		args := bytes.Split(raw, []byte{0})
		if err != nil || len(args) < 5 || filepath.Base(string(args[0])) != "containerd-shim-runc-v2" ||
			string(args[1]) != "-namespace" || string(args[2]) != r.cfg.Namespace || string(args[3]) != "-id" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		found[string(args[4])] = pid
	}
	return found, nil
}
