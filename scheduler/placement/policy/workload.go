package policy

import (
	"cmp"
	"slices"
	"strings"
)

// Workload is the tasks that a cluster gets, alike ones counted together, the most
// frequent first. Tasks that differ only in memory are alike.
type Workload []Frequent

// Frequent is a task and how often it comes.
type Frequent struct {
	Task  Task
	Count int
}

// Typical is the most frequent tasks that make up a share of all, between 0 and 1.
func Typical(tasks []Task, share float64) Workload {
	type shape struct {
		cpu         int64
		gpus, milli int
		models      string
	}
	counts := map[shape]int{}
	for _, t := range tasks {
		counts[shape{t.CPU, t.GPUs, t.Share, strings.Join(t.Models, "|")}]++
	}
	shapes := make([]shape, 0, len(counts))
	for s := range counts {
		shapes = append(shapes, s)
	}
	slices.SortFunc(shapes, func(a, b shape) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(b.cpu, a.cpu), cmp.Compare(b.milli, a.milli),
			cmp.Compare(b.gpus, a.gpus), cmp.Compare(b.models, a.models))
	})
	var w Workload
	seen := 0
	for _, s := range shapes {
		if float64(seen) >= share*float64(len(tasks)) {
			break
		}
		seen += counts[s]
		t := Task{CPU: s.cpu, GPUs: s.gpus, Share: s.milli}
		if s.models != "" {
			t.Models = strings.Split(s.models, "|")
		}
		w = append(w, Frequent{t, counts[s]})
	}
	return w
}

// tasks is how many come in all.
func (w Workload) tasks() int {
	sum := 0
	for _, f := range w {
		sum += f.Count
	}
	return sum
}

// on is the part of the workload that uses GPUs of a model.
func (w Workload) on(model string) Workload {
	var part Workload
	for _, f := range w {
		if f.Task.GPUs > 0 && (len(f.Task.Models) == 0 || slices.Contains(f.Task.Models, model)) {
			part = append(part, f)
		}
	}
	return part
}

// byModel is what a policy knows of each model that a workload names, and of all
// others.
type byModel[T any] struct {
	named  map[string]T
	others T
}

// learn makes what there is to know from the part of the workload for each model.
func learn[T any](w Workload, make func(Workload) T) byModel[T] {
	known := byModel[T]{named: map[string]T{}, others: make(w.on(""))}
	for _, f := range w {
		for _, model := range f.Task.Models {
			if _, done := known.named[model]; !done {
				known.named[model] = make(w.on(model))
			}
		}
	}
	return known
}

// of is what is known of the cluster's models, in their order.
func (known *byModel[T]) of(c *Cluster) []T {
	all := make([]T, len(c.models))
	for i, model := range c.models {
		all[i] = known.others
		if t, named := known.named[model]; named {
			all[i] = t
		}
	}
	return all
}
