package policy

import (
	"strings"
	"testing"
)

func TestClusterRefusesWhatDoesNotFitAndStaysAsItWas(t *testing.T) {
	nodes := []Node{{CPU: 4000, Memory: 1024, Model: "a", GPUs: gpus(1000, 1000)}, {CPU: 4000, Memory: 1024, Model: "b"}}
	c, err := New(nodes)
	if err != nil {
		t.Fatal(err)
	}
	half := Task{CPU: 1000, Memory: 512, GPUs: 1, Share: 500}
	if err := c.Take(half, Choice{0, []int{0}}); err != nil {
		t.Fatal(err)
	}
	before := c.Free()
	for name, take := range map[string]func() error{
		"no such node":         func() error { return c.Take(half, Choice{2, []int{0}}) },
		"no such GPU":          func() error { return c.Take(half, Choice{0, []int{2}}) },
		"no GPU there":         func() error { return c.Take(half, Choice{1, []int{0}}) },
		"too few GPUs":         func() error { return c.Take(half, Choice{0, nil}) },
		"one GPU twice":        func() error { return c.Take(Task{GPUs: 2, Share: 1000}, Choice{0, []int{1, 1}}) },
		"a GPU in use":         func() error { return c.Take(Task{GPUs: 1, Share: 1000}, Choice{0, []int{0}}) },
		"too much CPU":         func() error { return c.Take(Task{CPU: 3001}, Choice{0, nil}) },
		"too much memory":      func() error { return c.Take(Task{Memory: 513}, Choice{0, nil}) },
		"a model not accepted": func() error { return c.Take(Task{Models: []string{"b"}}, Choice{0, nil}) },
		"shares of two GPUs":   func() error { return c.Take(Task{GPUs: 2, Share: 500}, Choice{0, []int{0, 1}}) },
		"another GPU's":        func() error { return c.Release(half, Choice{0, []int{1}}) },
		"another kind's":       func() error { return c.Release(Task{CPU: 1000, Memory: 512}, Choice{0, nil}) },
		"more than was taken":  func() error { return c.Release(Task{CPU: 1001, GPUs: 1, Share: 500}, Choice{0, []int{0}}) },
	} {
		if err := take(); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
	if n := c.Node(0); c.Free() != before || n.CPU != 3000 || n.Memory != 512 {
		t.Fatalf("it has changed: %+v", n)
	}
	if err := c.Release(half, Choice{0, []int{0}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Release(half, Choice{0, []int{0}}); err == nil || c.Free() != 2000 {
		t.Fatalf("released twice: %v, %d free", err, c.Free())
	}
}

func TestNodesAndTasksOutOfBoundsAreRefused(t *testing.T) {
	many := make([]Node, MaxModels+1)
	for i := range many {
		many[i].Model = strings.Repeat("x", i+1)
	}
	for name, nodes := range map[string][]Node{
		"CPU below 0":     {{CPU: -1}},
		"too much memory": {{Memory: MaxMemory + 1}},
		"too many GPUs":   {{GPUs: make([]int, MaxGPUs+1)}},
		"more than a GPU": {{GPUs: gpus(1001)}},
		"less than none":  {{GPUs: gpus(-1)}},
		"too many models": many,
		"too many nodes":  make([]Node, MaxNodes+1),
	} {
		if _, err := New(nodes); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
	if _, err := New(many[1:]); err != nil {
		t.Error(err)
	}
	for _, task := range []Task{
		{CPU: -1}, {CPU: MaxCPU + 1}, {Memory: -1}, {Memory: MaxMemory + 1}, {GPUs: -1}, {GPUs: MaxGPUs + 1},
		{Share: 1}, {GPUs: 1}, {GPUs: 1, Share: 1001}, {GPUs: 2, Share: 999},
	} {
		if task.Check() == nil {
			t.Errorf("%+v is no error", task)
		}
	}
}
