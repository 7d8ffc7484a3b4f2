package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"ecolink/ledger"
	"ecolink/ledger/price"
	"ecolink/ledger/store"
	"ecolink/nvml"
	"ecolink/scheduler"
	"ecolink/web"
)

// gpu is one GPU and, as far as the caller may know, who has it.
type gpu struct {
	UUID        string                `json:"uuid"`
	Index       int                   `json:"index" doc:"NVML's number; it may change at a reboot."`
	Type        string                `json:"type" doc:"What a launch names as gpu_type." example:"h100"`
	Name        string                `json:"name" example:"NVIDIA H100 80GB HBM3"`
	PCIAddress  string                `json:"pci_address" example:"0000:1b:00.0"`
	MemoryBytes uint64                `json:"memory_bytes" doc:"0 when unknown, or shared with the CPU."`
	NUMANode    int                   `json:"numa_node" doc:"-1 when unknown, or several are as near."`
	NVLinkPeers []int                 `json:"nvlink_peers" nullable:"true" doc:"Indexes of the GPUs that NVLink reaches; null when unknown."`
	MIGCapable  bool                  `json:"mig_capable"`
	MIGEnabled  bool                  `json:"mig_enabled"`
	Rate        *ledger.MicroUSD      `json:"rate" doc:"Price per hour; null while the operator has set none." example:"1.60"`
	State       string                `json:"state" enum:"free,used,yours,unavailable" doc:"Who has it: nobody, another account or yours. unavailable: it is here but not given to instances."`
	InstanceID  *scheduler.InstanceID `json:"instance_id" doc:"Which of your instances has it."`
}

type gpuProblem struct {
	Index  int    `json:"index"`
	Detail string `json:"detail"`
}

type gpuList struct {
	Simulated     bool         `json:"simulated" doc:"The GPUs do not exist; EcoLink imitates them."`
	SimulatedAs   string       `json:"simulated_as" doc:"The machine that is imitated; empty when the GPUs are real." example:"h100x8"`
	DriverVersion string       `json:"driver_version" doc:"Empty when unknown." example:"550.54.15"`
	CUDAVersion   string       `json:"cuda_version" doc:"The newest CUDA that the driver runs." example:"12.4"`
	Note          string       `json:"note" doc:"Why there are no GPUs and what to do; empty when there are some."`
	Problems      []gpuProblem `json:"problems" nullable:"false" doc:"GPUs that the driver counts but does not describe."`
	Data          []gpu        `json:"data" nullable:"false"`
}

type gpusOutput struct{ Body gpuList }

func (a *api) addGPUs() {
	register(a, huma.Operation{
		OperationID: "list-gpus", Method: http.MethodGet, Path: "/v1/gpus", Tags: []string{tagGPUs},
		Summary: "List the GPUs", Description: "Every GPU of the box, its price and whether it is free.",
	}, a.gpus)
}

func (a *api) gpus(ctx context.Context, _ *struct{}) (*gpusOutput, error) {
	owners, err := a.Scheduler.GPUs()
	if err != nil {
		return nil, err
	}
	byUUID := map[string]scheduler.GPU{}
	for _, g := range owners {
		byUUID[g.UUID] = g
	}
	var rates map[string]ledger.MicroUSD
	if err := a.Store.View(func(tx *store.Tx) (err error) { rates, err = price.GPURates(tx, time.Now()); return err }); err != nil {
		return nil, err
	}
	inv := a.Inventory
	out := gpuList{
		Simulated: inv.Simulated, SimulatedAs: inv.SimulatedAs,
		DriverVersion: inv.DriverVersion, CUDAVersion: inv.CUDAVersion, Note: inv.Note,
		Problems: []gpuProblem{}, Data: []gpu{},
	}
	for _, p := range inv.Problems {
		out.Problems = append(out.Problems, gpuProblem(p))
	}
	for _, g := range inv.GPUs {
		shown := gpuOf(g)
		if rate, ok := rates[g.Type]; ok {
			shown.Rate = &rate
		}
		if owner, ok := byUUID[g.UUID]; ok {
			shown.show(owner, web.CallerOf(ctx))
		}
		out.Data = append(out.Data, shown)
	}
	return &gpusOutput{out}, nil
}

func gpuOf(g nvml.GPU) gpu {
	return gpu{
		UUID: g.UUID, Index: g.Index, Type: g.Type, Name: g.Name, PCIAddress: g.PCIAddress,
		MemoryBytes: g.MemoryBytes, NUMANode: g.NUMANode, NVLinkPeers: g.NVLinkPeers,
		MIGCapable: g.MIGCapable, MIGEnabled: g.MIGEnabled, State: "unavailable",
	}
}

// show tells who has the GPU: which instance only to its own account.
func (g *gpu) show(owner scheduler.GPU, c web.Caller) {
	switch {
	case owner.Instance == 0:
		g.State = "free"
	case owner.Account == c.Account:
		g.State, g.InstanceID = "yours", &owner.Instance
	default:
		g.State = "used"
	}
}
