package nvml

// GPU is one whole GPU as the driver describes it. What the driver would not
// tell has the value that its field names as unknown.
type GPU struct {
	// Index is NVML's number, 0 and up. It may change at a reboot; UUID does not.
	Index int `json:"index"`
	// UUID is as NVML writes it, GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx. Never empty.
	UUID string `json:"uuid"`
	// Name is the product name, such as "NVIDIA H100 80GB HBM3". Empty: unknown.
	Name string `json:"name"`
	// Type is the key that rates and requests use, such as "h100" or
	// "rtx-a6000": Name without brand, form factor and memory, in [a-z0-9-].
	// Empty when Name is.
	Type string `json:"type"`
	// PCIAddress is as Linux writes it in /sys/bus/pci/devices, such as
	// 0000:1b:00.0. Empty: unknown.
	PCIAddress string `json:"pci_address"`
	// MemoryBytes is the whole memory, used or not. 0: unknown, or shared with the CPU.
	MemoryBytes uint64 `json:"memory_bytes"`
	// NUMANode is the memory node nearest to the GPU. -1: unknown, or several are as near.
	NUMANode int `json:"numa_node"`
	// NVLinkPeers are the Index of each GPU that is reached by NVLink now,
	// directly or through NVSwitch, rising. Nil (left out of JSON): unknown.
	NVLinkPeers []int `json:"nvlink_peers,omitzero"`
	// MIGCapable says that it can be partitioned; MIGEnabled that it is now, and
	// so cannot be used whole.
	MIGCapable bool `json:"mig_capable"`
	MIGEnabled bool `json:"mig_enabled"`
	// Minor is the number in /dev/nvidiaN. -1: unknown.
	Minor int `json:"minor"`
}

// Problem is a GPU that the driver counts but does not describe. It is not in
// the inventory, and so cannot be used.
type Problem struct {
	Index  int    `json:"index"`
	Detail string `json:"detail"` // for people: what was asked and what came back
}

// Inventory is what the machine has at one moment.
type Inventory struct {
	// Simulated says that the GPUs do not exist, and SimulatedAs which machine
	// they imitate, such as h100x8. Whoever shows the one must say the other.
	Simulated   bool   `json:"simulated"`
	SimulatedAs string `json:"simulated_as,omitempty"`
	// DriverVersion is such as 550.54.15, CUDAVersion the newest CUDA that this
	// driver runs, such as 12.4. Empty: unknown or no driver.
	DriverVersion string `json:"driver_version"`
	CUDAVersion   string `json:"cuda_version"`
	// GPUs in order of Index; never nil.
	GPUs []GPU `json:"gpus"`
	// Problems are the GPUs that are missing from GPUs, in order of Index.
	Problems []Problem `json:"problems,omitempty"`
	// Note says why there are no GPUs and what to do, for people. Empty when
	// there are some.
	Note string `json:"note,omitempty"`
}

// GPU finds a GPU by its UUID.
func (inv Inventory) GPU(uuid string) (GPU, bool) {
	for _, g := range inv.GPUs {
		if g.UUID == uuid {
			return g, true
		}
	}
	return GPU{}, false
}
