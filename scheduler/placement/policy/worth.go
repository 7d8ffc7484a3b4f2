package policy

// Worth is our own: a task goes where it costs the least of what the free GPUs are
// worth. What a GPU is worth is how much of it the workload will come to use, with
// what its node has left of CPU; holes knows that.
//
// Other than FGD, which asks whether the next task can use what is left, it asks what
// all that come can make of it: which tasks fill one another's holes, and of which
// holes there will be more than tasks to fill them. And it gives each GPU only its
// part of the node's CPU, so that CPU isn't counted once for each of eight GPUs.
//
// Of memory it only knows whether there is enough, and of tasks of several GPUs only
// that unused GPUs of one node are worth a little more together.
//
// It is safe for concurrent use.
type Worth struct{ worths byModel[*holes] }

// NewWorth is a Worth for a cluster that gets the workload. Rare tasks matter where
// they alone fit: take all of them.
func NewWorth(w Workload) *Worth {
	total := w.tasks()
	return &Worth{learn(w, func(w Workload) *holes { return newHoles(w, total) })}
}

// Name is "worth".
func (*Worth) Name() string { return "worth" }

// Choose does what Policy says. Of equal nodes it takes the fullest.
func (w *Worth) Choose(c *Cluster, t Task) (Choice, bool) {
	worths := w.worths.of(c)
	accepted := c.accepted(&t)
	found, gpu := -1, -1
	var least int64
	for i := range c.nodes {
		n := &c.nodes[i]
		if !n.fits(&t, accepted) {
			continue
		}
		cost, on := worths[n.model].cost(n, &t)
		if found < 0 || cost < least || cost == least && n.free < c.nodes[found].free {
			found, gpu, least = i, on, cost
		}
	}
	if found < 0 || !t.partial() {
		return tightly(c, &t, found)
	}
	return Choice{Node: found, GPUs: []int{gpu}}, true
}

// pairWorth is what two unused GPUs of one node are worth more than two apart, in
// thousandths of thousandths of a GPU: little, so that it decides where the rest is
// nearly equal. It keeps nodes for tasks of several GPUs. It was chosen with the draws
// that haste was; with a fifth more, more GPUs stay unallocated on gpuspec33.
const pairWorth = WholeGPU

// pairs is how many there are of so many unused GPUs.
func pairs(whole int) int64 { return int64(whole) * int64(whole-1) / 2 }

// cost is what the node's GPUs are worth less with the task on it, and the GPU on
// which a part of one costs least.
func (h *holes) cost(n *node, t *Task) (cost int64, gpu int) {
	before := h.row(n.CPU, n.free)
	after := h.row(n.CPU-t.CPU, n.free-t.Milli())
	for _, free := range n.GPUs {
		cost += int64(before[free/shareStep]) - int64(after[free/shareStep])
	}
	if !t.partial() {
		cost += int64(t.GPUs) * int64(after[WholeGPU/shareStep])
		return cost + pairWorth*(pairs(n.whole)-pairs(n.whole-t.GPUs)), -1
	}
	var least int64
	gpu = -1
	for i, free := range n.GPUs {
		if free < t.Share {
			continue
		}
		less := int64(after[free/shareStep]) - int64(after[(free-t.Share)/shareStep])
		if free == WholeGPU {
			less += pairWorth * (pairs(n.whole) - pairs(n.whole-1))
		}
		if gpu < 0 || less < least {
			gpu, least = i, less
		}
	}
	return cost + least, gpu
}
