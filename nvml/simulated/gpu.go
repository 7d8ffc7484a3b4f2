package simulated

import (
	"fmt"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/google/uuid"
)

// gpu is a mock device with what the mock lacks: a stable identity, a place on
// the PCI bus, a NUMA node, NVLinks and MIG.
type gpu struct {
	*server.Device
	*Telemetry
	node int
	mig  partitions
}

var _ gonvml.Device = (*gpu)(nil)

func newGPU(m model, d *server.Device, index int) *gpu {
	d.UUID = stableUUID(m.gpuType, index)
	board, slot := index/boardGPUs, index%boardGPUs // a board has a PCI domain of its own
	d.PciBusID = fmt.Sprintf("%08X:%02X:00.0", board, m.buses[slot])
	d.Minor = index
	answerNotSupported(&d.Device)

	info := gonvml.PciInfo{Domain: uint32(board), Bus: m.buses[slot], PciDeviceId: d.Config.PciDeviceId}
	copyCString(info.BusId[:], d.PciBusID)
	copyCString(info.BusIdLegacy[:], d.PciBusID[4:])
	d.GetPciInfoFunc = func() (gonvml.PciInfo, gonvml.Return) { return info, gonvml.SUCCESS }

	// go-nvml calls its A100 "Mock NVIDIA A100…"; that it is simulated is said
	// elsewhere, and the name has to read as NVML's does.
	name := strings.TrimPrefix(d.Config.Name, "Mock ")
	d.GetNameFunc = func() (string, gonvml.Return) { return name, gonvml.SUCCESS }

	d.IsMigDeviceHandleFunc = func() (bool, gonvml.Return) { return false, gonvml.SUCCESS }

	g := &gpu{Device: d, node: m.nodes[slot]}
	g.Telemetry = newTelemetry(m.gpuType, index, d.MemoryInfo.Total, g.partitioned)
	return g
}

// stableUUID depends on the type and the place alone, so that h100x4 is the
// first half of h100x8 and a machine that grows keeps its records. It is a
// version 5 UUID (RFC 9562): the hash of a name.
func stableUUID(gpuType string, index int) string {
	space := uuid.NewSHA1(uuid.NameSpaceDNS, []byte("simulated-gpu.ecolink.dev"))
	return "GPU-" + uuid.NewSHA1(space, fmt.Appendf(nil, "%s/%d", gpuType, index)).String()
}

// GetMemoryAffinity is nvmlDeviceGetMemoryAffinity: a bit for each NUMA node
// that is near. nodes is the greatest number of nodes that the caller reads.
func (g *gpu) GetMemoryAffinity(nodes int, _ gonvml.AffinityScope) ([]uint, gonvml.Return) {
	if nodes <= g.node {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	return []uint{1 << g.node}, gonvml.SUCCESS
}

// GetP2PStatus is nvmlDeviceGetP2PStatus: in a DGX every GPU reaches every other
// through NVSwitch.
func (g *gpu) GetP2PStatus(other gonvml.Device, _ gonvml.GpuP2PCapsIndex) (gonvml.GpuP2PStatus, gonvml.Return) {
	o, ok := other.(*gpu)
	if !ok || o == g {
		return gonvml.P2P_STATUS_UNKNOWN, gonvml.ERROR_INVALID_ARGUMENT
	}
	return gonvml.P2P_STATUS_OK, gonvml.SUCCESS
}

// copyCString fills a C char array; what is left of dst stays zero.
func copyCString(dst []int8, s string) {
	for i := range min(len(s), len(dst)-1) {
		dst[i] = int8(s[i])
	}
}
