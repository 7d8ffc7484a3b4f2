package policy

import "slices"

// Policy decides where a task runs. It only looks at the cluster: Take places what
// it has chosen.
type Policy interface {
	// Name is what people call it.
	Name() string
	// Choose gives a node and GPUs for a task that Check has nothing against; false:
	// no node has room for it.
	Choose(*Cluster, Task) (Choice, bool)
}

// accepted is the models of the cluster that a task accepts, a bit for each.
func (c *Cluster) accepted(t *Task) uint64 {
	if len(t.Models) == 0 {
		return ^uint64(0)
	}
	var set uint64
	for i, model := range c.models {
		if slices.Contains(t.Models, model) {
			set |= 1 << i
		}
	}
	return set
}

// fits is the filter in front of every policy: what passes has room.
func (n *node) fits(t *Task, accepted uint64) bool {
	if n.CPU < t.CPU || n.Memory < t.Memory || accepted&(1<<n.model) == 0 {
		return false
	}
	switch {
	case t.GPUs == 0:
		return true
	case t.partial():
		return n.most >= t.Share
	default:
		return n.whole >= t.GPUs
	}
}

// best is the node with the highest score of those with room, the first of equals,
// or -1.
func best(c *Cluster, t *Task, score func(*node) int64) int {
	accepted := c.accepted(t)
	found, highest := -1, int64(0)
	for i := range c.nodes {
		n := &c.nodes[i]
		if !n.fits(t, accepted) {
			continue
		}
		if s := score(n); found < 0 || s > highest {
			found, highest = i, s
		}
	}
	return found
}

// tightly is the choice of a node that best has found, with the GPU on it that has
// the least room to spare.
func tightly(c *Cluster, t *Task, found int) (Choice, bool) {
	if found < 0 {
		return Choice{}, false
	}
	n := &c.nodes[found]
	if !t.partial() {
		return Choice{Node: found, GPUs: n.firstWhole(t.GPUs)}, true
	}
	return Choice{Node: found, GPUs: []int{n.tightest(t.Share)}}, true
}

// firstWhole is the first GPUs that nobody uses.
func (n *node) firstWhole(count int) []int {
	gpus := make([]int, 0, count)
	for i, free := range n.GPUs {
		if free == WholeGPU && len(gpus) < count {
			gpus = append(gpus, i)
		}
	}
	return gpus
}

// tightest is the GPU with the least room of those that a share fits in.
func (n *node) tightest(share int) int {
	found := -1
	for i, free := range n.GPUs {
		if free >= share && (found < 0 || free < n.GPUs[found]) {
			found = i
		}
	}
	return found
}
