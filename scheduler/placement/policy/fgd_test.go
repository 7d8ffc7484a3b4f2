package policy

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// By hand, from the definition: two GPUs, one half free, and 8 cores.
func TestFragmentationOfANodeIsWhatTypicalTasksCannotUse(t *testing.T) {
	node := Node{CPU: 8000, Model: "a", GPUs: gpus(500, 1000)}
	for _, test := range []struct {
		name string
		task Task
		want int64 // thousandths of a GPU
	}{
		{"fits on both", Task{CPU: 8000, GPUs: 1, Share: 500}, 0},
		{"finds one too full", Task{CPU: 8000, GPUs: 1, Share: 501}, 500},
		{"wants a whole one", Task{CPU: 4000, GPUs: 1, Share: 1000}, 500},
		{"wants two", Task{CPU: 4000, GPUs: 2, Share: 1000}, 1500},
		{"lacks the CPU", Task{CPU: 8001, GPUs: 1, Share: 500}, 1500},
		{"wants another model", Task{GPUs: 1, Share: 500, Models: []string{"b"}}, 1500},
		{"takes this one too", Task{GPUs: 1, Share: 500, Models: []string{"b", "a"}}, 0},
		{"wants no GPU", Task{CPU: 1000}, 1500},
	} {
		if got := measured(t, Workload{{test.task, 1}}, node); got != test.want {
			t.Errorf("for a task that %s it is %d, want %d", test.name, got, test.want)
		}
	}
	// The mean of 0, 500, 1500 and 1500, and then with the first one twice as frequent.
	w := Workload{
		{Task{CPU: 4000, GPUs: 1, Share: 500}, 1}, {Task{CPU: 4000, GPUs: 1, Share: 1000}, 1},
		{Task{CPU: 16000, GPUs: 1, Share: 1000}, 1}, {Task{CPU: 1000}, 1},
	}
	if got := measured(t, w, node); got != 3500 {
		t.Errorf("four times the mean is %d, want 3500", got)
	}
	w[0].Count = 2
	if got := measured(t, w, node); got != 3500 {
		t.Errorf("five times the mean is %d, want 3500", got)
	}
}

// measured is the measure of a node times the number of tasks.
func measured(t interface{ Fatal(...any) }, w Workload, n Node) int64 {
	c, err := New([]Node{{Model: n.Model}})
	if err != nil {
		t.Fatal(err)
	}
	return NewFGD(w).measures.of(c)[0].of(n.CPU, n.GPUs)
}

func TestFragmentationTablesAgreeWithTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Typical(rapid.SliceOfN(rapid.Custom(drawTask), 1, 10).Draw(t, "workload"), 1)
		n := Node{
			CPU: rapid.Int64Range(0, 10_000).Draw(t, "cpu"), Memory: MaxMemory, Model: rapid.SampledFrom(models).Draw(t, "model"),
			GPUs: rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 55, 190, 500, 530, 1000, 1000}), 0, 5).Draw(t, "free"),
		}
		want := int64(0)
		for _, f := range w {
			for _, free := range n.GPUs {
				if f.Task.GPUs == 0 || !couldRun(n, f.Task) || free < f.Task.Share {
					want += int64(f.Count) * int64(free)
				}
			}
		}
		if got := measured(t, w, n); got != want {
			t.Fatalf("it is %d, want %d", got, want)
		}
	})
}

func TestFGDKeepsWhatTheTypicalTaskNeeds(t *testing.T) {
	w := Workload{{Task{CPU: 4000, GPUs: 1, Share: WholeGPU}, 9}, {Task{CPU: 1000, GPUs: 1, Share: 300}, 1}}
	c := newCluster(t,
		Node{CPU: 8000, GPUs: gpus(1000, 1000)},
		Node{CPU: 8000, GPUs: gpus(1000, 400)},
	)
	on, ok := NewFGD(w).Choose(c, Task{CPU: 1000, GPUs: 1, Share: 300})
	if got := fmt.Sprint(on); !ok || got != "{1 [1]}" {
		t.Fatalf("it took %s", got)
	}
}

func TestTypicalTasksAreTheMostFrequentThatMakeUpTheShare(t *testing.T) {
	var tasks []Task
	for cpu, count := range []int{1, 6, 3} {
		tasks = append(tasks, slices.Repeat([]Task{{CPU: int64(cpu), Memory: int64(cpu)}}, count)...)
	}
	tasks[2].Memory = 7 // alike all the same
	for share, want := range map[float64]string{0: "[]", 0.6: "[1×6]", 0.61: "[1×6 2×3]", 0.9: "[1×6 2×3]", 1: "[1×6 2×3 0×1]"} {
		var got []string
		for _, f := range Typical(tasks, share) {
			got = append(got, fmt.Sprintf("%d×%d", f.Task.CPU, f.Count))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%v: %v, want %s", share, got, want)
		}
	}
}
