package scheduler

import (
	"context"
	"errors"
	"iter"
	"time"

	"ecolink/agent"
)

// Machine is what the scheduler needs of the box. All of it is idempotent: a
// call that was cut off by a crash is simply made again. An error that trying
// again can't mend has a method Permanent() bool that says so.
type Machine interface {
	Images
	Workloads
	Consoles
	// Changes gives the name of a workload whenever something may have happened
	// to it, and "" when anything may have happened to any.
	Changes() <-chan string
}

// Images finds and fetches container images.
type Images interface {
	// CheckImage returns nil when the image is here or its registry has it.
	CheckImage(ctx context.Context, image string) error
	// Pull brings the image here; at once when it is here already.
	Pull(ctx context.Context, image string, progress func(agent.PullProgress)) error
}

// Workloads runs containers.
type Workloads interface {
	// Run makes the workload's container run, from whatever is there of it.
	Run(ctx context.Context, w agent.Workload) (agent.Observation, error)
	// Observe looks at the workload. Its boot may be told although an error says
	// that nothing else is known.
	Observe(ctx context.Context, id string) (agent.Observation, error)
	// Remove ends the workload, with SIGTERM and, after grace, SIGKILL, and leaves
	// nothing of it on the machine.
	Remove(ctx context.Context, id string, grace time.Duration) error
	// List names every workload of which anything is on the machine.
	List(ctx context.Context) ([]string, error)
}

// Consoles shows what goes on inside a running workload, and lets a person in.
type Consoles interface {
	// Terminal attaches to the named shell session of a workload and starts it
	// when it is not there. Output is replayed from the absolute offset `from`;
	// below zero, from the oldest byte kept.
	Terminal(ctx context.Context, id, session string, from int64, cols, rows uint16) (agent.Terminal, error)
	// Exec runs a command inside the workload, without a terminal, and gives its
	// exit code. It ends with ctx.
	Exec(ctx context.Context, id string, argv []string, io agent.Stdio) (code int, err error)
	// Logs yields the container's output; with follow it goes on until ctx ends.
	Logs(ctx context.Context, id string, tail int, follow bool) iter.Seq2[agent.LogLine, error]
}

// permanent tells whether trying again is no use.
func permanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}
