package endtoend

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// settle ends everything in order and looks at what is left.
func (c *chaos) settle() {
	c.t.Helper()
	c.endAll()
	for d := range c.files {
		r := c.request(fmt.Sprintf("reader-%d", d))
		r["drives"] = []any{map[string]any{"id": d, "path": "/data"}}
		var i instance
		if f := c.api(http.MethodPost, "/v1/gpu-instances", r, &i); f != nil {
			c.t.Fatalf("drive %d can't be attached in the end: %+v", d, f)
		}
		i = c.await(i.ID, "running")
		if err := c.compare(i, d); err != nil {
			c.t.Errorf("drive %d can't be read in the end: %v", d, err)
		}
		c.counts["synced files found again"] += len(c.files[d])
		c.terminate(i.ID)
	}
	c.eventually("all drives can be deleted", func() bool {
		all, ok := everything[drive](c, "/v1/drives")
		left := there(all)
		for _, d := range left {
			_ = c.try(http.MethodDelete, fmt.Sprintf("/v1/drives/%d", d.ID), nil, nil)
		}
		return ok && len(left) == 0
	})
	if x, code := c.doctor(); code != 0 {
		c.t.Errorf("the doctor finds %+v", x.Findings)
	}
	for what, found := range c.left() {
		c.t.Errorf("left: %s: %v", what, found)
	}
}

func (c *chaos) endAll() {
	c.eventually("all instances are over", func() bool {
		all, over := everything[instance](c, "/v1/gpu-instances")
		for _, i := range all {
			switch i.State {
			case "terminated", "failed":
				over = over && len(i.GPUs) == 0
			case "terminating":
				over = false
			default:
				over = false
				_ = c.try(http.MethodPost, fmt.Sprintf("/v1/gpu-instances/%d/terminate", i.ID), struct{}{}, nil)
			}
		}
		return over
	})
}

// left looks at the host for what instances and drives had.
func (c *chaos) left() map[string][]string {
	out := map[string][]string{}
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.Contains(string(raw), c.dir) && !strings.Contains(string(raw), "/warm-") {
			out["loop devices"] = append(out["loop devices"], f)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.namespace() + "/*/cgroup.procs")
	if len(groups) > 0 {
		out["control groups"] = groups
	}
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range lines {
		raw, _ := os.ReadFile(f)
		if line := string(raw); strings.Contains(line, "shim") && strings.Contains(line, c.namespace()) || strings.Contains(line, "ecolink-keeper") && strings.Contains(line, c.dir) {
			out["processes"] = append(out["processes"], strings.ReplaceAll(line, "\x00", " "))
		}
	}
	ports, _ := filepath.Glob(fmt.Sprintf("/sys/class/net/ecoe2e%d/brif/*", c.box.number))
	if len(ports) > 1 { // one lies ready
		out["cables"] = ports
	}
	return out
}
