package scheduler

import (
	"fmt"
	"strconv"
	"strings"

	"ecolink/agent"
)

// Policy is how much of the machine goes with each GPU: the operator's word. A
// field that is 0 means an equal part of what the machine has, one below 0 no
// limit.
type Policy struct {
	MilliCPUs    int64
	MemoryBytes  int64
	PIDs         int64
	ShmBytes     int64
	ScratchBytes int64
	// FixedCPUs keeps an instance to its CPUs also while others leave theirs idle.
	FixedCPUs bool
}

// Bounds of what is worked out. The least is what a shell and a package manager
// need: simulated GPUs may outnumber a small machine.
const (
	minMilliCPUs    = 100
	minMemoryBytes  = 512 << 20
	minPIDs         = 512
	maxPIDs         = 32768
	minScratchBytes = 1 << 30
	maxScratchBytes = 1 << 40
	scratchPart     = 4 // of the free disk, a quarter

	hostMemoryPart = 10      // the machine keeps a tenth for itself,
	hostMemoryMin  = 1 << 30 // or this
)

// PerGPU works out what goes with each of a machine's GPUs. CPUs are divided whole,
// as they are only guaranteed and not set aside; of memory the machine keeps some
// for itself. Of the free disk a quarter is for scratch: images and drives need the
// rest, and what is promised here nobody else can have. As many scratch disks as
// are prepared ahead take a part of it too. /dev/shm is half of the memory, as Linux
// has it.
func (p Policy) PerGPU(have agent.Capacity, gpus, prepared int) agent.Resources {
	n := int64(max(gpus, 1))
	scratch := have.DiskBytes / scratchPart / (n + int64(max(prepared, 0)))
	memory := have.MemoryBytes - max(have.MemoryBytes/hostMemoryPart, hostMemoryMin)
	r := agent.Resources{
		MilliCPUs:    choose(p.MilliCPUs, max(minMilliCPUs, tidy(int64(have.CPUs)*1000/n, 1000, 100))),
		FixedCPUs:    p.FixedCPUs,
		MemoryBytes:  choose(p.MemoryBytes, max(minMemoryBytes, tidy(memory/n, 1<<30, 64<<20))),
		PIDs:         choose(p.PIDs, min(max(minPIDs, have.PIDs/2/n), maxPIDs)),
		ScratchBytes: choose(p.ScratchBytes, min(max(minScratchBytes, tidy(scratch, 1<<30, 64<<20)), maxScratchBytes)),
	}
	r.ShmBytes = choose(p.ShmBytes, r.MemoryBytes/2)
	return r
}

// choose takes the operator's figure, none for one below 0, or what is worked out.
func choose(said, worked int64) int64 {
	switch {
	case said > 0:
		return said
	case said < 0:
		return 0
	default:
		return worked
	}
}

// tidy rounds down to a figure that people can read: whole units from four of
// them on, else multiples of fine.
func tidy(n, unit, fine int64) int64 {
	if n >= 4*unit {
		return n / unit * unit
	}
	return n / fine * fine
}

// times is what several GPUs bring.
func times(r agent.Resources, gpus int) agent.Resources {
	n := int64(gpus)
	return agent.Resources{
		MilliCPUs: r.MilliCPUs * n, FixedCPUs: r.FixedCPUs, MemoryBytes: r.MemoryBytes * n, PIDs: r.PIDs * n,
		ShmBytes: r.ShmBytes * n, ScratchBytes: r.ScratchBytes * n,
	}
}

// Spell says what resources are for people: "4 CPUs, 32 GiB of memory, 100 GiB of
// scratch disk"; "" for no limits.
func Spell(r agent.Resources) string {
	var words []string
	if r.MilliCPUs > 0 {
		n := strconv.FormatFloat(float64(r.MilliCPUs)/1000, 'f', -1, 64)
		words = append(words, n+" CPU"+plural(r.MilliCPUs != 1000))
	}
	if r.MemoryBytes > 0 {
		words = append(words, spellBytes(r.MemoryBytes)+" of memory")
	}
	if r.ScratchBytes > 0 {
		words = append(words, spellBytes(r.ScratchBytes)+" of scratch disk")
	}
	return strings.Join(words, ", ")
}

func plural(many bool) string {
	if many {
		return "s"
	}
	return ""
}

// spellBytes writes a size with one digit behind the point at most.
func spellBytes(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}} {
		if n >= unit.size {
			s := strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(unit.size)), ".0")
			return s + " " + unit.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Option changes a scheduler that New makes.
type Option func(*Scheduler)

// WithResources gives each instance so much of the machine for each of its GPUs,
// as Policy.PerGPU works it out. Without it instances have no limits.
func WithResources(perGPU agent.Resources) Option {
	return func(s *Scheduler) { s.perGPU = perGPU }
}
