package policy

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var models = []string{"a", "b", "c"}

func drawTask(t *rapid.T) Task {
	task := Task{
		CPU:    rapid.Int64Range(0, 8).Draw(t, "cores") * 1000,
		Memory: rapid.Int64Range(0, 8).Draw(t, "gib") * 1024,
		GPUs:   rapid.SampledFrom([]int{0, 1, 1, 1, 2, 4}).Draw(t, "gpus"),
		Models: rapid.SliceOfNDistinct(rapid.SampledFrom(append(models, "unknown")), 0, 2, rapid.ID).Draw(t, "models"),
	}
	if task.GPUs > 0 {
		task.Share = WholeGPU
	}
	if task.GPUs == 1 {
		task.Share = rapid.SampledFrom([]int{1, 55, 190, 470, 500, 530, 810, WholeGPU}).Draw(t, "share")
	}
	return task
}

func drawNodes(t *rapid.T) []Node {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Node {
		n := Node{
			CPU:    rapid.Int64Range(0, 20).Draw(t, "cores") * 1000,
			Memory: rapid.Int64Range(0, 20).Draw(t, "gib") * 1024,
			Model:  rapid.SampledFrom(models).Draw(t, "model"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "gpus") {
			n.GPUs = append(n.GPUs, WholeGPU)
		}
		return n
	}), 0, 5).Draw(t, "nodes")
}

func all(w Workload) []Policy {
	return []Policy{NewRandom(1), BestFit{}, DotProduct{}, Packing{}, Clustering{}, NewFGD(w), NewWorth(w)}
}

// placed is a task that runs.
type placed struct {
	task Task
	on   Choice
}

// leftOf is what idle nodes have less all that runs on them, found without the
// cluster's own sums.
func leftOf(nodes []Node, running []placed) []Node {
	var left []Node
	for _, n := range nodes {
		n.GPUs = slices.Clone(n.GPUs)
		left = append(left, n)
	}
	for _, p := range running {
		n := &left[p.on.Node]
		n.CPU -= p.task.CPU
		n.Memory -= p.task.Memory
		for _, gpu := range p.on.GPUs {
			n.GPUs[gpu] -= p.task.Share
		}
	}
	return left
}

// couldRun says it as a reader of the request would.
func couldRun(n Node, t Task) bool {
	enough := 0
	for _, free := range n.GPUs {
		if free >= t.Share {
			enough++
		}
	}
	accepted := len(t.Models) == 0 || slices.Contains(t.Models, n.Model)
	return accepted && n.CPU >= t.CPU && n.Memory >= t.Memory && enough >= t.GPUs
}

// Whatever comes and goes: nothing is given twice, only models that the task accepts,
// and a task is refused only if no node could take it.
func TestEveryPolicyPlacesWhateverFitsAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t)
		w := Typical(rapid.SliceOfN(rapid.Custom(drawTask), 0, 6).Draw(t, "workload"), 1)
		p := rapid.SampledFrom(all(w)).Draw(t, "policy")
		c, err := New(nodes)
		if err != nil {
			t.Fatal(err)
		}
		var running []placed
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			if len(running) > 0 && rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				if err := c.Release(running[i].task, running[i].on); err != nil {
					t.Fatalf("%s: %v", p.Name(), err)
				}
				running = slices.Delete(running, i, i+1)
			}
			task := drawTask(t)
			left := leftOf(nodes, running)
			on, ok := p.Choose(c, task)
			if could := slices.ContainsFunc(left, func(n Node) bool { return couldRun(n, task) }); could != ok {
				t.Fatalf("%s says %v for %+v among %+v", p.Name(), ok, task, left)
			}
			if !ok {
				continue
			}
			if err := c.Take(task, on); err != nil {
				t.Fatalf("%s chose %+v: %v", p.Name(), on, err)
			}
			running = append(running, placed{task, on})
			checkFree(t, c, leftOf(nodes, running))
		}
	})
}

func checkFree(t *rapid.T, c *Cluster, want []Node) {
	free := 0
	for i, n := range want {
		if n.CPU < 0 || n.Memory < 0 || len(n.GPUs) > 0 && slices.Min(n.GPUs) < 0 {
			t.Fatalf("node %d has less than nothing left: %+v", i, n)
		}
		if got := c.Node(i); fmt.Sprint(got) != fmt.Sprint(n) {
			t.Fatalf("node %d has %+v left, want %+v", i, got, n)
		}
		for _, left := range n.GPUs {
			free += left
		}
	}
	if c.Free() != free {
		t.Fatalf("%d thousandths are free, want %d", c.Free(), free)
	}
}

func TestEveryPolicyAnswersTheSameQuestionTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t)
		tasks := rapid.SliceOfN(rapid.Custom(drawTask), 1, 15).Draw(t, "tasks")
		run := func(p Policy) (chosen []string) {
			c, err := New(nodes)
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range tasks {
				on, ok := p.Choose(c, task)
				chosen = append(chosen, fmt.Sprint(on, ok))
				if ok {
					if err := c.Take(task, on); err != nil {
						t.Fatal(err)
					}
				}
			}
			return chosen
		}
		again := all(Typical(tasks, 1))
		for i, p := range all(Typical(tasks, 1)) {
			if first, second := run(p), run(again[i]); !slices.Equal(first, second) {
				t.Fatalf("%s: %v, then %v", p.Name(), first, second)
			}
		}
	})
}

func gpus(free ...int) []int { return free }

// newCluster is a cluster that has some of its GPUs used: nodes begin idle, so a task
// without CPU takes what isn't free.
func newCluster(t *testing.T, nodes ...Node) *Cluster {
	t.Helper()
	idle := slices.Clone(nodes)
	for i := range idle {
		idle[i].GPUs = slices.Repeat([]int{WholeGPU}, len(nodes[i].GPUs))
	}
	c, err := New(idle)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		for gpu, free := range n.GPUs {
			if free == WholeGPU {
				continue
			}
			if err := c.Take(Task{GPUs: 1, Share: WholeGPU - free}, Choice{i, []int{gpu}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

func TestKnownPoliciesChooseAsTheyAreDescribed(t *testing.T) {
	var (
		empty  = Node{CPU: 64_000, Memory: 1, GPUs: gpus(1000, 1000)}
		half   = Node{CPU: 64_000, Memory: 1, GPUs: gpus(500, 1000)}
		nearly = Node{CPU: 64_000, Memory: 1, GPUs: gpus(1000, 200)}
		large  = Node{CPU: 128_000, Memory: 1, GPUs: gpus(1000, 1000, 1000, 1000)}
		small  = Task{CPU: 1000, GPUs: 1, Share: 200}
		whole  = Task{CPU: 1000, GPUs: 1, Share: WholeGPU}
	)
	for _, test := range []struct {
		policy Policy
		task   Task
		nodes  []Node
		want   string
	}{
		{BestFit{}, small, []Node{empty, half, nearly}, "{2 [1]}"},
		{BestFit{}, whole, []Node{large, empty}, "{1 [0]}"},
		{DotProduct{}, Task{CPU: 32_000, GPUs: 1, Share: WholeGPU}, []Node{large, empty}, "{1 [0]}"},
		{Packing{}, small, []Node{empty, half, nearly}, "{2 [1]}"},
		{Packing{}, whole, []Node{empty, half}, "{1 [1]}"},
		{Packing{}, whole, []Node{large, empty}, "{1 [0]}"},
		{Clustering{}, small, []Node{empty, half}, "{1 [0]}"},
		{Clustering{}, whole, []Node{half, empty}, "{1 [0]}"}, // the half is a share's
		{Clustering{}, Task{CPU: 1000}, []Node{empty, half}, "{0 []}"},
	} {
		c := newCluster(t, test.nodes...)
		on, ok := test.policy.Choose(c, test.task)
		if got := fmt.Sprint(on); !ok || got != test.want {
			t.Errorf("%s takes %s for %+v, want %s", test.policy.Name(), got, test.task, test.want)
		}
	}
}

func TestRandomReachesEveryNodeAndGPU(t *testing.T) {
	c := newCluster(t, Node{GPUs: gpus(1000, 1000)}, Node{GPUs: gpus(1000, 100)})
	p := NewRandom(7)
	seen := map[string]bool{}
	for range 200 {
		on, _ := p.Choose(c, Task{GPUs: 1, Share: 300})
		seen[fmt.Sprint(on)] = true
	}
	if len(seen) != 3 || !seen["{0 [0]}"] || !seen["{0 [1]}"] || !seen["{1 [0]}"] {
		t.Fatalf("it took %v", seen)
	}
}
