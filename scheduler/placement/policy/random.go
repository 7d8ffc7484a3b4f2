package policy

import "math/rand/v2"

// Random takes any node with room, and any GPU with room on it. It isn't safe for
// concurrent use.
type Random struct{ from *rand.Rand }

// NewRandom is a Random whose choices follow from the seed.
func NewRandom(seed uint64) *Random { return &Random{from: rand.New(rand.NewPCG(seed, 0))} }

// Name is "random fit".
func (*Random) Name() string { return "random fit" }

// Choose does what Policy says.
func (r *Random) Choose(c *Cluster, t Task) (Choice, bool) {
	accepted := c.accepted(&t)
	node := r.any(len(c.nodes), func(i int) bool { return c.nodes[i].fits(&t, accepted) })
	if node < 0 {
		return Choice{}, false
	}
	n := &c.nodes[node]
	if !t.partial() {
		return Choice{Node: node, GPUs: n.firstWhole(t.GPUs)}, true
	}
	gpu := r.any(len(n.GPUs), func(i int) bool { return n.GPUs[i] >= t.Share })
	return Choice{Node: node, GPUs: []int{gpu}}, true
}

// any is one of the indexes below n that pass, each as likely, or -1.
func (r *Random) any(n int, passes func(int) bool) int {
	found, passed := -1, 0
	for i := range n {
		if passes(i) {
			if passed++; r.from.IntN(passed) == 0 {
				found = i
			}
		}
	}
	return found
}
