package policy

import (
	"fmt"
	"slices"
)

// Limits of a cluster.
const (
	MaxNodes  = 1 << 20
	MaxModels = 64 // of GPU
)

// Node is what a machine has free.
type Node struct {
	CPU    int64  // thousandths of a core
	Memory int64  // MiB
	Model  string // of its GPUs, which are all alike
	GPUs   []int  // thousandths free of each
}

// Choice is the node that a task goes to, by its place in the cluster, and the
// indexes of the GPUs that it gets there.
type Choice struct {
	Node int
	GPUs []int
}

// Cluster is all nodes and what is left of them, with the sums beside that each
// decision asks for. It isn't safe for concurrent use.
type Cluster struct {
	nodes  []node
	models []string // what a node's model is the index of
}

// node is a Node and what follows from it.
type node struct {
	Node
	model int
	free  int // thousandths of all its GPUs
	whole int // GPUs that nobody uses
	most  int // thousandths of its freest GPU

	had     Node       // when it was idle
	running [kinds]int // tasks of each kind
}

// New is a cluster of idle nodes: what they have free is all that they have.
// Policies take the first of equal nodes, so the order matters.
func New(nodes []Node) (*Cluster, error) {
	if len(nodes) > MaxNodes {
		return nil, fmt.Errorf("a cluster has %d nodes: give at most %d", len(nodes), MaxNodes)
	}
	c := &Cluster{nodes: make([]node, 0, len(nodes))}
	for i, had := range nodes {
		if err := had.check(); err != nil {
			return nil, fmt.Errorf("node %d: %w", i, err)
		}
		model := slices.Index(c.models, had.Model)
		if model < 0 {
			model = len(c.models)
			c.models = append(c.models, had.Model)
		}
		if model == MaxModels {
			return nil, fmt.Errorf("node %d: its %q is one model more than the %d that a cluster may have", i, had.Model, MaxModels)
		}
		had.GPUs = slices.Clone(had.GPUs)
		n := node{Node: had, model: model, had: had}
		n.GPUs = slices.Clone(had.GPUs)
		n.sum()
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

func (n Node) check() error {
	if n.CPU < 0 || n.CPU > MaxCPU || n.Memory < 0 || n.Memory > MaxMemory || len(n.GPUs) > MaxGPUs {
		return fmt.Errorf("it has %d thousandths of a core, %d MiB and %d GPUs: give no less than 0 and at most %d, %d and %d",
			n.CPU, n.Memory, len(n.GPUs), int64(MaxCPU), int64(MaxMemory), MaxGPUs)
	}
	for i, free := range n.GPUs {
		if free < 0 || free > WholeGPU {
			return fmt.Errorf("its GPU %d has %d thousandths free: give between 0 and %d", i, free, WholeGPU)
		}
	}
	return nil
}

func (n *node) sum() {
	n.free, n.whole, n.most = 0, 0, 0
	for _, free := range n.GPUs {
		n.free += free
		n.most = max(n.most, free)
		if free == WholeGPU {
			n.whole++
		}
	}
}

// Len is the number of nodes.
func (c *Cluster) Len() int { return len(c.nodes) }

// Node is what a node has free now.
func (c *Cluster) Node(i int) Node {
	n := c.nodes[i].Node
	n.GPUs = slices.Clone(n.GPUs)
	return n
}

// Free is what is free of all GPUs, in thousandths.
func (c *Cluster) Free() int {
	free := 0
	for i := range c.nodes {
		free += c.nodes[i].free
	}
	return free
}

// Take gives a task what a policy has chosen for it. An error says that there is no
// room, and changes nothing.
func (c *Cluster) Take(t Task, to Choice) error {
	if err := t.Check(); err != nil {
		return err
	}
	n, err := c.at(&t, to)
	if err != nil {
		return err
	}
	if !n.fits(&t, c.accepted(&t)) {
		return fmt.Errorf("node %d has no room for the task: choose again", to.Node)
	}
	for _, gpu := range to.GPUs {
		if n.GPUs[gpu] < t.Share {
			return fmt.Errorf("GPU %d of node %d has %d thousandths free and the task asks for %d: choose again", gpu, to.Node, n.GPUs[gpu], t.Share)
		}
	}
	n.move(&t, to, -1)
	return nil
}

// Release takes back what Take gave for the same choice. An error says that the node
// never gave it, and changes nothing.
func (c *Cluster) Release(t Task, from Choice) error {
	n, err := c.at(&t, from)
	if err != nil {
		return err
	}
	over := n.CPU+t.CPU > n.had.CPU || n.Memory+t.Memory > n.had.Memory || n.running[t.kind()] == 0
	for _, gpu := range from.GPUs {
		over = over || n.GPUs[gpu]+t.Share > n.had.GPUs[gpu]
	}
	if over {
		return fmt.Errorf("node %d would have more than when it was idle: release what was taken, and once", from.Node)
	}
	n.move(&t, from, 1)
	return nil
}

// at is the node of a choice that names different GPUs of it, as many as the task
// asks for.
func (c *Cluster) at(t *Task, choice Choice) (*node, error) {
	if choice.Node < 0 || choice.Node >= len(c.nodes) {
		return nil, fmt.Errorf("there is no node %d of %d: choose again", choice.Node, len(c.nodes))
	}
	n := &c.nodes[choice.Node]
	if len(choice.GPUs) != t.GPUs {
		return nil, fmt.Errorf("%d GPUs are chosen for a task that asks for %d: choose again", len(choice.GPUs), t.GPUs)
	}
	for i, gpu := range choice.GPUs {
		if gpu < 0 || gpu >= len(n.GPUs) || slices.Contains(choice.GPUs[:i], gpu) {
			return nil, fmt.Errorf("GPU %d of node %d is chosen twice or isn't there: choose again", gpu, choice.Node)
		}
	}
	return n, nil
}

func (n *node) move(t *Task, at Choice, sign int) {
	n.CPU += int64(sign) * t.CPU
	n.Memory += int64(sign) * t.Memory
	for _, gpu := range at.GPUs {
		n.GPUs[gpu] += sign * t.Share
	}
	n.running[t.kind()] -= sign
	n.sum()
}
