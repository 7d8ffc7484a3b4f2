package agent

import "time"

// Workload is what is to run: everything about a container that EcoLink decides
// and the image does not.
type Workload struct {
	ID    string // "instance-142"; names every object made for it
	Image string // as the user wrote it
	// ImageDigest is what Image meant when it was launched: that it runs, whatever
	// the name means by now. "" runs what the name means on this machine.
	ImageDigest string
	ImageLogin  *RegistryLogin    // for the case that the image must be fetched again
	Hostname    string            // inside the container
	Command     []string          // replaces the image's entrypoint and command when not empty
	Env         map[string]string // added to the image's
	GPUs        []string          // UUIDs that it may use, and no others
	Labels      map[string]string // whose it is; on every object
	Mounts      []Mount           // volumes in it
	Files       []File            // read-only, over whatever the image has there

	Resources Resources
}

// File is a small file that EcoLink puts into a workload.
type File struct {
	Path    string // absolute, in the container
	Content []byte
}

// Resources are how much of the machine a workload gets; 0 is no limit.
type Resources struct {
	// MilliCPUs are guaranteed: a workload may use what others leave idle beyond
	// them, unless FixedCPUs says that this is all.
	MilliCPUs    int64 `json:"milli_cpus,omitempty"`
	FixedCPUs    bool  `json:"fixed_cpus,omitempty"`
	MemoryBytes  int64 `json:"memory_bytes,omitempty"`  // of all its processes, /dev/shm included; no swap beyond it
	PIDs         int64 `json:"pids,omitempty"`          // processes and threads at once
	ShmBytes     int64 `json:"shm_bytes,omitempty"`     // size of /dev/shm
	ScratchBytes int64 `json:"scratch_bytes,omitempty"` // what it may write outside its mounts
}

// CommandEnd is how a workload's start command ended, which the workload itself
// outlives. The container reports it: it is the user's word, not the machine's.
type CommandEnd struct {
	At     time.Time
	Code   int    // exit code, when Signal is 0 and Error is empty
	Signal int    // that ended it; 0 for none
	Error  string // why it could not even start; empty when it did
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
	// OOMKills counts the processes that the kernel ended because the workload
	// had used up its memory.
	OOMKills int64
	// Command is how the start command ended; nil while it runs or when unknown.
	Command *CommandEnd
	BootID  string // of the machine now; differs after a reboot
}
