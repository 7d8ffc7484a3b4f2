package api

import "ecolink/agent"

// resources are what an instance has of the machine beside its GPUs; 0 is no limit.
type resources struct {
	CPUs         float64 `json:"cpus" doc:"Guaranteed. What others leave idle may be used beyond them, unless cpus_fixed. 0: no limit, here and below." example:"4"`
	CPUsFixed    bool    `json:"cpus_fixed" doc:"It never gets more CPU time than that."`
	MemoryBytes  int64   `json:"memory_bytes" doc:"A process is ended when all of them together need more." example:"34359738368"`
	PIDs         int64   `json:"pids" doc:"Processes and threads at once." example:"16384"`
	ShmBytes     int64   `json:"shm_bytes" doc:"Size of /dev/shm, whose contents count as memory." example:"17179869184"`
	ScratchBytes int64   `json:"scratch_bytes" doc:"What it may write outside of mounted drives." example:"107374182400"`
}

func resourcesOf(r agent.Resources) resources {
	return resources{
		CPUs: float64(r.MilliCPUs) / 1000, CPUsFixed: r.FixedCPUs, MemoryBytes: r.MemoryBytes,
		PIDs: r.PIDs, ShmBytes: r.ShmBytes, ScratchBytes: r.ScratchBytes,
	}
}
