package policy

import (
	"fmt"
	"math/bits"
)

// WholeGPU is a whole GPU in thousandths, the unit of shares.
const WholeGPU = 1000

// Limits of what a node has and a task asks for, so that no sum overflows.
const (
	MaxGPUs   = 64
	MaxCPU    = 1 << 40 // thousandths of a core
	MaxMemory = 1 << 40 // MiB
)

// Task is a request for a part of one node.
type Task struct {
	CPU    int64    // thousandths of a core
	Memory int64    // MiB
	GPUs   int      // how many; 0: it runs without
	Share  int      // thousandths of each; less than a whole of one GPU only
	Models []string // of GPU that it accepts; none: any, and nodes without GPUs
}

// Milli is what the task takes of all its GPUs together, in thousandths.
func (t Task) Milli() int { return t.GPUs * t.Share }

// partial: it takes a part of one GPU.
func (t *Task) partial() bool { return t.GPUs == 1 && t.Share < WholeGPU }

// Check says what is wrong with a task that could be placed nowhere.
func (t Task) Check() error {
	switch {
	case t.CPU < 0 || t.CPU > MaxCPU:
		return fmt.Errorf("a task asks for %d thousandths of a core: give between 0 and %d", t.CPU, int64(MaxCPU))
	case t.Memory < 0 || t.Memory > MaxMemory:
		return fmt.Errorf("a task asks for %d MiB: give between 0 and %d", t.Memory, int64(MaxMemory))
	case t.GPUs < 0 || t.GPUs > MaxGPUs:
		return fmt.Errorf("a task asks for %d GPUs: give between 0 and %d", t.GPUs, MaxGPUs)
	case t.GPUs == 0 && t.Share != 0:
		return fmt.Errorf("a task without a GPU asks for %d thousandths of one: give it a GPU or no share", t.Share)
	case t.GPUs > 0 && (t.Share < 1 || t.Share > WholeGPU):
		return fmt.Errorf("a task asks for %d thousandths of a GPU: give between 1 and %d", t.Share, WholeGPU)
	case t.GPUs > 1 && t.Share != WholeGPU:
		return fmt.Errorf("a task asks for %d thousandths of each of %d GPUs: only one GPU can be shared", t.Share, t.GPUs)
	}
	return nil
}

// Kinds of tasks, as GPU clustering tells them apart: without a GPU, with a part
// of one, and by the number of whole ones, doubling.
const (
	kindCPU = iota
	kindShare
	kindWhole // one GPU; then 2 to 3, 4 to 7, up to 64
	kinds     = kindWhole + 7
)

func (t *Task) kind() int {
	switch {
	case t.GPUs == 0:
		return kindCPU
	case t.partial():
		return kindShare
	default:
		return kindWhole + bits.Len(uint(t.GPUs)) - 1
	}
}
