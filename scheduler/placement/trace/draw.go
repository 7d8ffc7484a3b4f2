package trace

import (
	"math/rand"
	"slices"

	"ecolink/scheduler/placement/policy"
)

// Draw is the paper's experiment. The nodes come in a random order, which decides
// between nodes that a policy finds equal. The tasks come one after another: all of
// the trace in a random order, then more drawn from it one by one until they ask for
// load times the cluster's GPUs. Tasks of which none asks for a GPU only change order.
//
// The same seed gives the same draw. Its tasks are those that the paper's simulator
// submits for that seed, in the same order; the order of its nodes may be another.
func Draw(nodes []policy.Node, tasks []policy.Task, load float64, seed int64) ([]policy.Node, []policy.Task) {
	from := rand.New(rand.NewSource(seed))
	from.Int() // the simulator logs its first number
	drawn := slices.Clone(tasks)
	from.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })

	asked, capacity := 0, 0
	for _, t := range tasks {
		asked += t.Milli()
	}
	for _, n := range nodes {
		capacity += len(n.GPUs) * policy.WholeGPU
	}
	for asked > 0 {
		t := tasks[from.Intn(len(tasks))]
		if float64(asked+t.Share) > load*float64(capacity) { // of several GPUs, too, it counts one
			break
		}
		asked += t.Milli()
		drawn = append(drawn, t)
	}

	ordered := make([]policy.Node, len(nodes))
	for i, to := range from.Perm(len(nodes)) {
		ordered[to] = nodes[i]
	}
	return ordered, drawn
}
