package policy

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-3 }

// By hand: tasks of one kind, of which one comes each time.
func TestHoleIsWorthWhatTheWorkloadComesToUseOfIt(t *testing.T) {
	h := newHoles(Workload{{Task{CPU: 4000, GPUs: 1, Share: WholeGPU}, 1}}, 1)
	for _, test := range []struct {
		cpu  int64
		free int
		want float64
	}{
		{4000, WholeGPU, 1000 / (1 + haste)}, // it comes to an end with the chance of haste
		{3999, WholeGPU, 0},                  // the CPU is too little
		{64_000, 990, 0},
		{8000, 2 * WholeGPU, 1000 / (1 + haste)}, // the CPU of a GPU is half
		{7999, 2 * WholeGPU, 0},
	} {
		size := min(test.free, WholeGPU) / shareStep
		if got := float64(h.row(test.cpu, test.free)[size]) / WholeGPU; !near(got, test.want) {
			t.Errorf("with %d of CPU and %d free it is %v, want %v", test.cpu, test.free, got, test.want)
		}
	}
}

func TestHoleWaitsForTheBetterTaskUnlessItCannot(t *testing.T) {
	offers := []offer{{worth: 1000, chance: 0.5}, {worth: 400, chance: 0.5}}
	if got, want := wait(offers, 0), 1000.0; !near(got, want) {
		t.Errorf("with all the time it is %v, want %v", got, want)
	}
	// Taking both is worth (500+200)/2, waiting 500/1.5: less.
	if got, want := wait(offers, 1), 350.0; !near(got, want) {
		t.Errorf("in a hurry it is %v, want %v", got, want)
	}
	offers[1].forced = true
	if got, want := wait(offers, 0), 700.0; !near(got, want) {
		t.Errorf("when both must be taken it is %v, want %v", got, want)
	}
	if got := wait(nil, haste); got != 0 {
		t.Errorf("when nothing comes it is %v", got)
	}
}

// By hand: of five tasks four leave 190 thousandths and one would fill that, so one
// hole of four is filled: with a chance of 0.2 each time, that is an end of 0.6.
func TestHolesThatOutnumberTheirTasksComeToAnEndSooner(t *testing.T) {
	end, unwanted := scarcity([]filler{{size: 19, chance: 0.2}, {size: 81, chance: 0.8}})
	if !near(end[19], 0.6) || !near(end[5], 0.6) || end[20] != haste || end[81] != haste || end[100] != haste {
		t.Errorf("the ends are %v", end)
	}
	if unwanted != 81 {
		t.Errorf("tasks are unwanted from %d on, want 81", unwanted)
	}
	end, unwanted = scarcity([]filler{{size: 30, chance: 0.5}, {size: 70, chance: 0.5}})
	if end[30] != haste || end[1] != haste || unwanted != sizes {
		t.Errorf("all holes find a task, and yet: %v, %d", end, unwanted)
	}
	// The one task that fits is taken by the smaller hole.
	end, unwanted = scarcity([]filler{{size: 10, chance: 0.2}, {size: 85, chance: 0.4}, {size: 90, chance: 0.2}})
	if end[15] != neverFilled || end[16] != haste || unwanted != 85 {
		t.Errorf("a task fills two holes: %v, %d", end, unwanted)
	}
	end, unwanted = scarcity([]filler{{size: 70, chance: 1}})
	if end[30] != neverFilled || unwanted != 70 {
		t.Errorf("no hole finds a task, and yet: %v, %d", end, unwanted)
	}
}

func TestNoHoleIsWorthMoreThanItsSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Typical(rapid.SliceOfN(rapid.Custom(drawTask), 1, 8).Draw(t, "workload"), 1)
		h := newHoles(w, w.tasks())
		for row := range h.worth {
			for size, worth := range h.worth[row] {
				if worth < 0 || int(worth) > size*shareStep*WholeGPU {
					t.Fatalf("%d for a hole of %d and %d of CPU", worth, size*shareStep, row*cpuStep)
				}
			}
		}
	})
}

func TestWorthPutsTasksWhereTheyCostLeast(t *testing.T) {
	w := Workload{
		{Task{CPU: 8000, GPUs: 1, Share: WholeGPU}, 6}, {Task{CPU: 3000, GPUs: 1, Share: 810}, 2},
		{Task{CPU: 1000, GPUs: 1, Share: 190}, 1}, {Task{CPU: 8000}, 1},
	}
	for _, test := range []struct {
		name  string
		task  Task
		nodes []Node
		want  string
	}{
		{"the small share fills the small hole", Task{CPU: 1000, GPUs: 1, Share: 190},
			[]Node{{CPU: 32_000, GPUs: gpus(1000, 1000)}, {CPU: 32_000, GPUs: gpus(1000, 190)}}, "{1 [1]}"},
		{"no CPU is taken from idle GPUs", Task{CPU: 8000},
			[]Node{{CPU: 16_000, GPUs: gpus(1000, 1000)}, {CPU: 16_000, GPUs: gpus(0, 0)}}, "{1 []}"},
		{"CPU is divided by the GPUs that need it", Task{CPU: 8000},
			[]Node{{CPU: 16_000, GPUs: gpus(1000, 1000)}, {CPU: 16_000, GPUs: gpus(1000, 0)}}, "{1 []}"},
		{"an idle node is kept whole", Task{CPU: 8000, GPUs: 1, Share: WholeGPU},
			[]Node{{CPU: 64_000, GPUs: gpus(1000, 1000)}, {CPU: 64_000, GPUs: gpus(600, 1000, 600)}}, "{1 [1]}"},
		{"of equals the fullest", Task{},
			[]Node{{CPU: 64_000, GPUs: gpus(1000, 1000)}, {CPU: 64_000, GPUs: gpus(1000, 0)}}, "{1 []}"},
	} {
		on, ok := NewWorth(w).Choose(newCluster(t, test.nodes...), test.task)
		if got := fmt.Sprint(on); !ok || got != test.want {
			t.Errorf("%s: it took %s, want %s", test.name, got, test.want)
		}
	}
}

// What Choose sums up for speed is the difference of the worths before and after.
func TestCostIsWhatTheNodeIsWorthLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := rapid.SliceOfN(rapid.Custom(drawTask), 1, 6).Draw(t, "workload")
		h := newHoles(Typical(tasks, 1).on("a"), len(tasks))
		c, err := New([]Node{{CPU: 20_000, Memory: MaxMemory, Model: "a", GPUs: gpus(1000, 1000, 1000, 1000)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range append(tasks, drawTask(t)) {
			task.Models = nil
			n := &c.nodes[0]
			if !n.fits(&task, ^uint64(0)) {
				continue
			}
			cost, gpu := h.cost(n, &task)
			on := Choice{0, n.firstWhole(task.GPUs)}
			if task.partial() {
				on.GPUs = []int{gpu}
			}
			before := h.sum(n)
			if err := c.Take(task, on); err != nil {
				t.Fatal(err)
			}
			if want := before - h.sum(n); cost != want {
				t.Fatalf("it costs %d, want %d", cost, want)
			}
		}
	})
}

func (h *holes) sum(n *node) (sum int64) {
	for _, free := range n.GPUs {
		sum += int64(h.row(n.CPU, n.free)[free/shareStep])
	}
	return sum + pairWorth*pairs(n.whole)
}
