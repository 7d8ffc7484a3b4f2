package agent

import "time"

// Workload is what is to run: everything about a container that EcoLink decides
// and the image does not.
type Workload struct {
	ID       string            // "instance-142"; names every object made for it
	Image    string            // as the user wrote it
	Hostname string            // inside the container
	Command  []string          // replaces the image's entrypoint and command when not empty
	Env      map[string]string // added to the image's
	GPUs     []string          // UUIDs that it may use, and no others
	Labels   map[string]string // whose it is; on every object
}

// Presence is how a workload's container was found.
type Presence string

// The presences.
const (
	Absent  Presence = "absent"  // nothing runs and nothing is known of how it ended
	Running Presence = "running" // its first process lives
	Exited  Presence = "exited"  // its first process has ended
)

// Observation is a fact about a workload, read from the machine and not from memory.
type Observation struct {
	ID        string
	Presence  Presence
	StartedAt time.Time // zero when unknown
	ExitedAt  time.Time // zero unless Exited and known
	ExitCode  uint32
	BootID    string // of the machine now; differs after a reboot
}

// PullProgress tells how far a download is. Totals grow while layers are found.
type PullProgress struct {
	Layers, LayersDone int
	Bytes, TotalBytes  int64
}
