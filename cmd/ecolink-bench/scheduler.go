package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"ecolink/scheduler/placement/policy"
	"ecolink/scheduler/placement/trace"
)

// The experiment of the FGD paper: its first seed, and what is submitted, as a part
// of the cluster's GPUs.
const (
	firstSeed    = 42
	submittedGPU = 1.3
)

// Goals of the scheduler.
const (
	goalPaper    = 0.3 // points that a known policy may lie from the paper's figure
	goalFGD      = 1   // of what FGD leaves unallocated
	aimFGD       = 0.75
	goalDecision = time.Millisecond // p99
)

// decisionTries is how often each decision that is timed is made; the fastest counts,
// so that what else the machine does is left out.
const decisionTries = 3

const nodesFile = "openb_node_list_gpu_node.csv"

// replayed is a list of tasks of the trace.
type replayed struct {
	name, file string
	paperGPUs  map[string]float64 // that each policy leaves unallocated, from the authors' result files
}

// paperCluster is how many GPUs those are of.
const paperCluster = 6212

func replayedLists() []replayed {
	return []replayed{
		{"default", "openb_pod_list_default.csv", map[string]float64{
			"random fit": 778, "dot product": 568, "GPU clustering": 505, "GPU packing": 497, "best fit": 430, "FGD": 286,
		}},
		{"gpuspec33", "openb_pod_list_gpuspec33.csv", map[string]float64{
			"random fit": 841, "dot product": 674, "GPU clustering": 490, "GPU packing": 421, "best fit": 429, "FGD": 339,
		}},
	}
}

// policyOf makes the policy for the draw of a seed. What policies know of the workload is shared.
type policyOf func(seed int64) policy.Policy

func placementPolicies(tasks []policy.Task) []policyOf {
	always := func(p policy.Policy) policyOf { return func(int64) policy.Policy { return p } }
	return []policyOf{
		func(seed int64) policy.Policy { return policy.NewRandom(uint64(seed)) },
		always(policy.DotProduct{}), always(policy.Clustering{}), always(policy.Packing{}), always(policy.BestFit{}),
		always(policy.NewFGD(policy.Typical(tasks, policy.FGDShare))),
		always(policy.NewWorth(policy.Typical(tasks, 1))),
	}
}

// measureScheduler replays the openb trace with every placement policy.
func measureScheduler(ctx context.Context, opts options) (report, error) {
	nodes, err := readList(opts.trace, nodesFile, trace.ReadNodes)
	if err != nil {
		return report{}, err
	}
	var rep report
	for _, list := range replayedLists() {
		tasks, err := readList(opts.trace, list.file, trace.ReadTasks)
		if err != nil {
			return rep, err
		}
		all := placementPolicies(tasks)
		outcomes, err := replayAll(ctx, nodes, tasks, all, opts.rounds)
		if err != nil {
			return rep, err
		}
		reportReplays(&rep, list, outcomes)
		took, err := timeDecisions(ctx, nodes, tasks, all[len(all)-1](firstSeed))
		if err != nil {
			return rep, err
		}
		rep.within(fmt.Sprintf("%s, ours: decision among %d nodes, p99", list.name, len(nodes)), quantile(took, 0.99), goalDecision)
		rep.noise = append(rep.noise, fmt.Sprintf("noise: %s, ours: decision: %s", list.name, took.spread()))
	}
	return rep, nil
}

func readList[T any](dir, name string, read func(io.Reader) ([]T, error)) (list []T, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("%w: get the openb trace (cluster-trace-gpu-v2023 of github.com/alibaba/clusterdata) and name its folder with -trace", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	list, err = read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return list, nil
}

// outcome is what a policy has made of its draws.
type outcome struct {
	name        string
	unallocated []float64 // percent of the cluster's GPUs, by draw
	refused     []float64 // tasks of several GPUs, by draw
}

// replayAll lets every policy place the same draws, as many at once as there are
// cores.
func replayAll(ctx context.Context, nodes []policy.Node, tasks []policy.Task, all []policyOf, rounds int) ([]outcome, error) {
	outcomes := make([]outcome, len(all))
	failed := make([]error, rounds)
	cores := make(chan struct{}, runtime.GOMAXPROCS(0))
	var draws sync.WaitGroup
	for i, made := range all {
		outcomes[i] = outcome{made(firstSeed).Name(), make([]float64, rounds), make([]float64, rounds)}
	}
	for round := range rounds {
		draws.Go(func() {
			cores <- struct{}{}
			defer func() { <-cores }()
			seed := firstSeed + int64(round)
			ordered, drawn := trace.Draw(nodes, tasks, submittedGPU, seed)
			for i, made := range all {
				if failed[round] == nil {
					failed[round] = replay(ctx, ordered, drawn, made(seed), &outcomes[i].unallocated[round], &outcomes[i].refused[round])
				}
			}
		})
	}
	draws.Wait()
	return outcomes, errors.Join(failed...)
}

// replay submits the tasks to an idle cluster, one after another.
func replay(ctx context.Context, nodes []policy.Node, tasks []policy.Task, p policy.Policy, unallocated, refused *float64) error {
	c, err := policy.New(nodes)
	if err != nil {
		return err
	}
	all := c.Free()
	for _, t := range tasks {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, ok := p.Choose(c, t)
		if !ok {
			if t.GPUs > 1 {
				*refused++
			}
			continue
		}
		if err := c.Take(t, to); err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	*unallocated = 100 * float64(c.Free()) / float64(max(all, 1))
	return nil
}

// timeDecisions times each decision of one draw, on one core.
func timeDecisions(ctx context.Context, nodes []policy.Node, tasks []policy.Task, p policy.Policy) (timings, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ordered, drawn := trace.Draw(nodes, tasks, submittedGPU, firstSeed)
	c, err := policy.New(ordered)
	if err != nil {
		return nil, err
	}
	took := make(timings, 0, len(drawn))
	for _, t := range drawn {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var to policy.Choice
		var ok bool
		fastest := time.Duration(math.MaxInt64)
		for range decisionTries {
			begun := time.Now()
			to, ok = p.Choose(c, t)
			fastest = min(fastest, time.Since(begun))
		}
		took = append(took, fastest)
		if !ok {
			continue
		}
		if err := c.Take(t, to); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	return took, nil
}

// reportReplays puts the known policies beside the paper, and ours, the last, beside
// FGD, the one before.
func reportReplays(rep *report, list replayed, outcomes []outcome) {
	ours, fgd := outcomes[len(outcomes)-1], outcomes[len(outcomes)-2]
	known := outcomes[:len(outcomes)-1]
	for _, o := range known {
		paper := 100 * list.paperGPUs[o.name] / paperCluster
		rep.beside(fmt.Sprintf("%s, %s: GPUs unallocated", list.name, o.name), "%", mean(o.unallocated), less, "paper", paper, 0)
		rep.limit(fmt.Sprintf("%s, %s: difference to the paper", list.name, o.name), "points", math.Abs(mean(o.unallocated)-paper), goalPaper)
	}
	rep.beside(list.name+", ours: GPUs unallocated", "%", mean(ours.unallocated), less, fgd.name, mean(fgd.unallocated), goalFGD)
	rep.beside(list.name+", ours: tasks of several GPUs refused", "tasks", mean(ours.refused), less, fgd.name, mean(fgd.refused), 0)
	rep.noise = append(rep.noise, fmt.Sprintf("aim: %s, ours: at most %.2f of what %s leaves unallocated; it is %.2f",
		list.name, aimFGD, fgd.name, mean(ours.unallocated)/mean(fgd.unallocated)))
	for _, o := range slices.Concat(known, []outcome{ours}) {
		rep.noise = append(rep.noise, fmt.Sprintf("noise: %s, %s: GPUs unallocated: %s", list.name, o.name, spread(o.unallocated, "%")))
	}
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(len(values), 1))
}
