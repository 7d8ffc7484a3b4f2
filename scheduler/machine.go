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
	Services
	Doors
	Volumes
	Snapshots
	// Changes gives the name of a workload whenever something may have happened
	// to it, and "" when anything may have happened to any.
	Changes() <-chan string
}

// Images finds and fetches container images.
type Images interface {
	// ResolveImage gives the digest that a name means now, if whoever has the log-in
	// may have the image.
	ResolveImage(ctx context.Context, i agent.Image) (digest string, err error)
	// PullImage brings the image here; at once when it is here already.
	PullImage(ctx context.Context, i agent.Image, progress func(agent.PullProgress)) error
	// PruneImages removes images that nobody has used for long, and none that inUse
	// names.
	PruneImages(ctx context.Context, inUse []string) ([]agent.StoredImage, error)
	// ImportedImages lists those that the operator has brought here.
	ImportedImages(ctx context.Context) ([]agent.StoredImage, error)
}

// Workloads runs containers.
type Workloads interface {
	// Run makes the workload's container run, from whatever is there of it.
	Run(ctx context.Context, w agent.Workload) (agent.Observation, error)
	// Observe looks at the workload. Its boot may be told although an error says
	// that nothing else is known.
	Observe(ctx context.Context, id string) (agent.Observation, error)
	// Stop ends the workload as Remove does, and keeps all that Run goes on with. Its
	// GPUs are anybody's afterwards.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Remove ends the workload, with SIGTERM and, after grace, SIGKILL, and leaves
	// nothing of it on the machine.
	Remove(ctx context.Context, id string, grace time.Duration) error
	// List names every workload of which anything is on the machine.
	List(ctx context.Context) ([]string, error)
}

// Volumes keeps what drives and shared filesystems are made of.
type Volumes interface {
	// CreateVolume makes a volume of so many bytes, all of which are its own.
	CreateVolume(ctx context.Context, id string, bytes int64) error
	// GrowVolume makes it larger, mounted or not; never smaller.
	GrowVolume(ctx context.Context, id string, bytes int64) error
	// DeleteVolume removes it and its snapshots. One that somebody uses is an error.
	DeleteVolume(ctx context.Context, id string) error
	// VolumeSpace tells what is left for others.
	VolumeSpace(ctx context.Context) (agent.VolumeSpace, error)
	// VolumeUsage tells how full it is.
	VolumeUsage(ctx context.Context, id string) (agent.VolumeUsage, error)
	// OpenVolume gives its files, attached to a container or not.
	OpenVolume(ctx context.Context, id string) (*agent.OpenVolume, error)
}

// Snapshots keeps what volumes had at an instant.
type Snapshots interface {
	// SnapshotVolume keeps what is in the volume now under a name. That there is one
	// of this name already is fine.
	SnapshotVolume(ctx context.Context, id, name string) error
	VolumeSnapshots(ctx context.Context, id string) ([]agent.VolumeSnapshot, error)
	DeleteVolumeSnapshot(ctx context.Context, id, name string) error
	// RestoreVolume puts back what a snapshot has. Nobody may use the volume.
	RestoreVolume(ctx context.Context, id, name string) error
	// CloneVolume makes a new volume with what a snapshot has or, with "" for it,
	// with what is in the other volume now.
	CloneVolume(ctx context.Context, from, snapshot, to string) error
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
