package doctor

import "slices"

// Kind is what sort of thing is not as it should be.
type Kind string

// The kinds of findings.
const (
	Workload Kind = "workload" // what is left of a workload that should not be there
	Mount    Kind = "mount"    // mounted for nobody
	Loop     Kind = "loop"     // a loop device of ours that nothing has mounted
	Network  Kind = "network"  // a namespace, cable or bridge without a record
	Pipes    Kind = "pipes"    // of commands that run no more
	Volume   Kind = "volume"   // a drive's or filesystem's image
	Program  Kind = "program"  // that EcoLink needs is not there
	Kernel   Kind = "kernel"   // lacks something
	Disk     Kind = "disk"     // is nearly full
	Books    Kind = "books"    // do not agree
	Daemon   Kind = "daemon"   // containerd
	Clock    Kind = "clock"    // is wrong, or nothing keeps it right
	Uploads  Kind = "uploads"  // of files, that nobody goes on with
)

// Finding is something that is not as it should be.
type Finding struct {
	Kind  Kind     `json:"kind"`
	Name  string   `json:"name"`  // what it is called
	Where []string `json:"where"` // paths, processes, devices
	Why   string   `json:"why"`   // what is wrong with it
	// Repair is what putting it right does; empty when only a person can.
	Repair string `json:"repair,omitempty"`
	// Advice is what a person can do.
	Advice string `json:"advice,omitempty"`
	// LosesFiles says that users' files go with the repair.
	LosesFiles bool `json:"loses_files,omitempty"`
	// Minor says that the box can well go on with it.
	Minor bool `json:"minor,omitempty"`
}

// same tells whether two looks have found the same thing.
func (f Finding) same(g Finding) bool { return f.Kind == g.Kind && f.Name == g.Name }

// Lasting is what was found in both of two looks: the rest was work under way.
func Lasting(first, second []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(second), func(f Finding) bool { return !slices.ContainsFunc(first, f.same) })
}
