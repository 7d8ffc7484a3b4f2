package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecolink/scheduler/placement/policy"
)

// newTrace is a folder with a small trace: two kinds of nodes and of tasks.
func newTrace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	nodes, tasks := "cpu_milli,memory_mib,gpu,model\n", "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
	for range 4 {
		nodes += "32000,65536,4,T4\n16000,65536,1,A10\n"
		tasks += "4000,1024,1,1000,\n4000,1024,1,470,T4\n8000,1024,0,0,\n8000,1024,2,1000,\n"
	}
	files := map[string]string{nodesFile: nodes}
	for _, list := range replayedLists() {
		files[list.file] = tasks
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSchedulerShowsEveryPolicyOnBothLists(t *testing.T) {
	rep, err := measureScheduler(context.Background(), options{trace: newTrace(t), rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rep.rows {
		names = append(names, r.Name)
		if strings.HasSuffix(r.Name, "GPUs unallocated") && (r.Value < 0 || r.Value > 100 || r.PeerValue <= 0) {
			t.Errorf("%+v", r)
		}
	}
	for _, list := range replayedLists() {
		for name := range list.paperGPUs {
			for _, row := range []string{"GPUs unallocated", "difference to the paper"} {
				if want := fmt.Sprintf("%s, %s: %s", list.name, name, row); !strings.Contains(strings.Join(names, "\n"), want) {
					t.Errorf("there is no row %q among %q", want, names)
				}
			}
		}
		for _, row := range []string{"GPUs unallocated", "decision among 8 nodes, p99"} {
			if want := list.name + ", ours: " + row; !strings.Contains(strings.Join(names, "\n"), want) {
				t.Errorf("there is no row %q among %q", want, names)
			}
		}
	}
	if len(rep.rows) != 2*(2*6+3) {
		t.Errorf("there are %d rows", len(rep.rows))
	}
}

func TestSchedulerWithoutATraceSaysWhereToGetIt(t *testing.T) {
	dir := newTrace(t)
	if err := os.Remove(filepath.Join(dir, "openb_pod_list_gpuspec33.csv")); err != nil {
		t.Fatal(err)
	}
	for _, missing := range []string{filepath.Join(dir, "nowhere"), dir} {
		_, err := measureScheduler(context.Background(), options{trace: missing, rounds: 3})
		if err == nil || !strings.Contains(err.Error(), "cluster-trace-gpu-v2023") || !strings.Contains(err.Error(), "-trace") {
			t.Errorf("%s: %v", missing, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, nodesFile), []byte("gpu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := measureScheduler(context.Background(), options{trace: dir, rounds: 3}); err == nil || !strings.Contains(err.Error(), nodesFile) {
		t.Errorf("the file isn't named: %v", err)
	}
}

// By hand: two of four GPUs are taken, a task of two more is refused once its node
// is half full.
func TestReplayCountsWhatIsLeftAndRefused(t *testing.T) {
	nodes := []policy.Node{{CPU: 2000, Memory: 2, GPUs: []int{1000, 1000}}, {CPU: 1000, Memory: 2, GPUs: []int{1000, 1000}}}
	one, two := policy.Task{CPU: 1000, GPUs: 1, Share: 1000}, policy.Task{CPU: 1500, GPUs: 2, Share: 1000}
	var unallocated, refused float64
	if err := replay(context.Background(), nodes, []policy.Task{one, one, two}, policy.Packing{}, &unallocated, &refused); err != nil {
		t.Fatal(err)
	}
	if unallocated != 50 || refused != 1 {
		t.Errorf("%v%% and %v refused", unallocated, refused)
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if err := replay(stopped, nodes, []policy.Task{one}, policy.Packing{}, &unallocated, &refused); err == nil {
		t.Error("it goes on when it is stopped")
	}
}
