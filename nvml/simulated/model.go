package simulated

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// model is one of go-nvml's mock machines, with what it leaves out: where each
// of a board's eight GPUs is plugged in.
type model struct {
	gpuType string
	serve   func() *server.Server
	buses   [boardGPUs]uint32 // PCI bus, as nvidia-smi shows it on the real machine
	nodes   [boardGPUs]int    // NUMA node
}

// models is the table of machines. Bus numbers and NUMA nodes are those that
// `nvidia-smi topo -m` prints on NVIDIA's DGX of that generation: the A100 has
// two AMD sockets of four nodes each, the later ones two Intel sockets.
func models() []model {
	xeonBuses := [boardGPUs]uint32{0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf}
	xeonNodes := [boardGPUs]int{0, 0, 0, 0, 1, 1, 1, 1}
	return []model{
		{
			gpuType: "a100",
			serve:   dgxa100.New,
			buses:   [boardGPUs]uint32{0x07, 0x0f, 0x47, 0x4e, 0x87, 0x90, 0xb7, 0xbd},
			nodes:   [boardGPUs]int{3, 3, 1, 1, 7, 7, 5, 5},
		},
		{gpuType: "h100", serve: dgxh100.New, buses: xeonBuses, nodes: xeonNodes},
		{gpuType: "h200", serve: dgxh200.New, buses: xeonBuses, nodes: xeonNodes},
		{gpuType: "b200", serve: dgxb200.New, buses: xeonBuses, nodes: xeonNodes},
	}
}
