package policy

// The policies that FGD's paper compares with, scored as its simulator scores them:
// in whole points of a hundred, so that nodes which differ little are equal.

// What scores are measured with: the largest node, and the highest score.
const (
	largestCPU   = 128_000
	largestMilli = 8 * WholeGPU
	points       = 100
)

// BestFit leaves the least behind: half of it CPU, half of it GPUs, each as a part
// of the largest node.
type BestFit struct{}

// Name is "best fit".
func (BestFit) Name() string { return "best fit" }

// Choose does what Policy says.
func (BestFit) Choose(c *Cluster, t Task) (Choice, bool) {
	return tightly(c, &t, best(c, &t, func(n *node) int64 {
		left := float64(n.CPU-t.CPU)/largestCPU/2 + float64(n.free-t.Milli())/largestMilli/2
		return int64((1 - left) * points)
	}))
}

// DotProduct takes the node whose free CPU and GPUs, multiplied with what the task
// asks for of each, come to the least.
type DotProduct struct{}

// Name is "dot product".
func (DotProduct) Name() string { return "dot product" }

// Choose does what Policy says.
func (DotProduct) Choose(c *Cluster, t Task) (Choice, bool) {
	cpu, milli := float64(t.CPU)/largestCPU, float64(t.Milli())/largestMilli
	return tightly(c, &t, best(c, &t, func(n *node) int64 {
		product := cpu*float64(n.CPU)/largestCPU + milli*float64(n.free)/largestMilli
		return int64((1 - product/2) * points)
	}))
}

// Packing takes room on GPUs in use, then idle GPUs of nodes in use, then idle
// nodes, the smallest first.
type Packing struct{}

// Name is "GPU packing".
func (Packing) Name() string { return "GPU packing" }

// Choose does what Policy says.
func (Packing) Choose(c *Cluster, t Task) (Choice, bool) {
	return tightly(c, &t, best(c, &t, func(n *node) int64 {
		if t.GPUs == 0 {
			return 0
		}
		if n.whole == len(n.GPUs) {
			return max(points/3-int64(n.whole), int64(n.whole))
		}
		free := WholeGPU
		if t.partial() {
			free = n.GPUs[n.tightest(t.Share)]
		}
		if free == WholeGPU {
			return max(points/2-int64(t.GPUs), points/3)
		}
		return points - int64(free)/100
	}))
}

// Clustering brings tasks of one kind together: it takes nodes where only such run,
// then nodes where such run among others, then idle ones; of each the fullest.
type Clustering struct{}

// Name is "GPU clustering".
func (Clustering) Name() string { return "GPU clustering" }

// Choose does what Policy says.
func (Clustering) Choose(c *Cluster, t Task) (Choice, bool) {
	kind := t.kind()
	return tightly(c, &t, best(c, &t, func(n *node) int64 {
		if kind == kindCPU {
			return 0
		}
		running := 0
		for _, tasks := range n.running[kindShare:] {
			if tasks > 0 {
				running++
			}
		}
		full := points / 4 * int64(largestMilli-n.free) / largestMilli
		switch {
		case n.running[kind] > 0 && running == 1:
			return points*3/4 + full
		case n.running[kind] > 0:
			return points*2/4 + full
		case running == 0:
			return points/4 + full
		default:
			return full
		}
	}))
}
