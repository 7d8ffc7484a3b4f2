package policy

import (
	"math"
	"slices"
	"sort"
)

// FGD is fragmentation gradient descent: a task goes where it takes the measure of
// fragmentation down most, or up least. It is safe for concurrent use.
//
// From "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
// Gradient Descent", USENIX ATC 2023.
type FGD struct{ measures byModel[*fragmentation] }

// FGDShare is the share of all tasks that the paper takes as typical.
const FGDShare = 0.95

// NewFGD is an FGD for a cluster that gets the workload.
func NewFGD(w Workload) *FGD {
	total := w.tasks()
	return &FGD{learn(w, func(w Workload) *fragmentation { return newFragmentation(w, total) })}
}

// Name is "FGD".
func (*FGD) Name() string { return "FGD" }

// Choose does what Policy says.
func (f *FGD) Choose(c *Cluster, t Task) (Choice, bool) {
	measures := f.measures.of(c)
	room := make([]int, MaxGPUs)
	found := best(c, &t, func(n *node) int64 {
		score, _ := measures[n.model].score(n, &t, room)
		return score
	})
	if found < 0 || !t.partial() {
		return tightly(c, &t, found)
	}
	n := &c.nodes[found]
	_, gpu := measures[n.model].score(n, &t, room)
	return Choice{Node: found, GPUs: []int{gpu}}, true
}

// fragmentation measures how much of a node's free GPUs the workload can't use.
//
// For one task that is all of it, when the node lacks the CPU, the GPUs or the model
// for the task; else what is free on GPUs that have too little for its share. The
// measure is the mean over the workload. Tasks without a GPU use none of it.
//
// The tables hold the sums over all tasks, so that it costs a look for each GPU.
type fragmentation struct {
	total int64   // tasks of the workload, on any model
	cpus  []int64 // that a task asks for, ascending
	// How many tasks ask for no more than cpus[row-1]: of one GPU at most so many
	// thousandths, and of just so many GPUs.
	one  [][WholeGPU + 1]int64
	many [][MaxGPUs + 1]int64
	most int // GPUs that a task asks for
}

func newFragmentation(w Workload, total int) *fragmentation {
	f := &fragmentation{total: int64(total)}
	for _, typical := range w {
		f.cpus = append(f.cpus, typical.Task.CPU)
		f.most = max(f.most, typical.Task.GPUs)
	}
	slices.Sort(f.cpus)
	f.cpus = slices.Compact(f.cpus)
	f.one = make([][WholeGPU + 1]int64, len(f.cpus)+1)
	f.many = make([][MaxGPUs + 1]int64, len(f.cpus)+1)
	for _, typical := range w {
		t, count := typical.Task, int64(typical.Count)
		for row := f.row(t.CPU); row < len(f.one); row++ {
			if t.GPUs > 1 {
				f.many[row][t.GPUs] += count
				continue
			}
			for milli := t.Share; milli <= WholeGPU; milli++ {
				f.one[row][milli] += count
			}
		}
	}
	return f
}

// row is the tables' row for a node with so much CPU.
func (f *fragmentation) row(cpu int64) int {
	return sort.Search(len(f.cpus), func(i int) bool { return f.cpus[i] > cpu })
}

// of is the measure, in thousandths of a GPU, times total.
func (f *fragmentation) of(cpu int64, gpus []int) int64 {
	row := f.row(cpu)
	one, many := &f.one[row], &f.many[row]
	free, whole, used := int64(0), 0, int64(0)
	for _, left := range gpus {
		free += int64(left)
		used += int64(left) * one[left]
		if left == WholeGPU {
			whole++
		}
	}
	for count := 2; count <= min(whole, f.most); count++ {
		used += int64(whole) * WholeGPU * many[count]
	}
	return free*f.total - used
}

// score is how far the task takes the measure down on a node, in points, and the
// GPU on which a part of one does it best. The room is for MaxGPUs numbers.
func (f *fragmentation) score(n *node, t *Task, room []int) (score int64, gpu int) {
	before := f.of(n.CPU, n.GPUs)
	after := room[:copy(room, n.GPUs)]
	if !t.partial() {
		for i, left := 0, t.GPUs; left > 0; i++ {
			if after[i] == WholeGPU {
				after[i] = 0
				left--
			}
		}
		return f.points(before - f.of(n.CPU-t.CPU, after)), -1
	}
	gpu = -1
	for i, free := range n.GPUs {
		if free < t.Share {
			continue
		}
		after[i] -= t.Share
		if s := f.points(before - f.of(n.CPU-t.CPU, after)); gpu < 0 || s > score {
			score, gpu = s, i
		}
		after[i] = free
	}
	return score, gpu
}

// points brings a gain between 0 and 100, with 50 for none.
func (f *fragmentation) points(gain int64) int64 {
	return int64(points / (1 + math.Exp(-float64(gain)/float64(max(f.total, 1))/WholeGPU)))
}
