package nvml

import (
	"fmt"
	"strconv"
	"sync"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Inventory asks the driver for everything, all GPUs at the same time. A GPU
// that fails or hangs becomes a Problem and holds up the others for 10 seconds
// at most; no driver or no GPU becomes a Note. It is an error when the driver as
// a whole hangs or fails to list its GPUs, and after Close.
func (l *Library) Inventory() (Inventory, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	inv := Inventory{Simulated: l.simulatedAs != "", SimulatedAs: l.simulatedAs, GPUs: []GPU{}}
	if l.closed {
		return inv, fmt.Errorf("read GPU inventory: %w", errClosed)
	}
	why, err := l.start()
	if err != nil {
		return inv, fmt.Errorf("read GPU inventory: %w", err)
	}
	if why != "" {
		inv.Note = why
		return inv, nil
	}
	system, err := ask(&l.waiting, driver, queryLimit, l.readSystem)
	if err != nil {
		return inv, fmt.Errorf("read GPU inventory: %w", err)
	}
	inv.DriverVersion, inv.CUDAVersion = system.driverVersion, system.cudaVersion

	found := l.readGPUs(system.count)
	l.readPeers(found)
	for i, f := range found {
		if f.err != nil {
			inv.Problems = append(inv.Problems, Problem{Index: i, Detail: f.err.Error()})
			continue
		}
		inv.GPUs = append(inv.GPUs, f.gpu)
	}
	if len(inv.GPUs) == 0 {
		inv.Note = whyNoGPUs(inv)
	}
	return inv, nil
}

type system struct {
	driverVersion, cudaVersion string
	count                      int
}

func (l *Library) readSystem() (system, error) {
	var s system
	count, code := l.api.DeviceGetCount()
	if code != gonvml.SUCCESS {
		return s, fmt.Errorf("count the GPUs: %w", code)
	}
	s.count = count
	if v, code := l.api.SystemGetDriverVersion(); code == gonvml.SUCCESS {
		s.driverVersion = v
	}
	if l.has("nvmlSystemGetCudaDriverVersion") {
		if v, code := l.api.SystemGetCudaDriverVersion(); code == gonvml.SUCCESS {
			s.cudaVersion = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
		}
	}
	return s, nil
}

// found is a GPU, or what went wrong with it.
type found struct {
	handle gonvml.Device
	gpu    GPU
	err    error
}

// readGPUs describes each GPU by itself; the result's place is the GPU's index.
func (l *Library) readGPUs(count int) []found {
	out := make([]found, count)
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			f, err := ask(&l.waiting, gpuSubject(i), queryLimit, func() (found, error) { return l.readGPU(i) })
			f.err = err
			out[i] = f
		})
	}
	wg.Wait()
	return out
}

// readGPU fails only for what a GPU cannot be used without: its handle and its UUID.
func (l *Library) readGPU(index int) (found, error) {
	d, code := l.api.DeviceGetHandleByIndex(index)
	if code != gonvml.SUCCESS {
		return found{}, fmt.Errorf("open %s: %w", gpuSubject(index), code)
	}
	uuid, code := d.GetUUID()
	if code != gonvml.SUCCESS {
		return found{}, fmt.Errorf("read the UUID of %s: %w", gpuSubject(index), code)
	}
	g := GPU{Index: index, UUID: uuid, NUMANode: -1, Minor: -1}
	if name, code := d.GetName(); code == gonvml.SUCCESS {
		g.Name, g.Type = name, typeOf(name)
	}
	if info, code := d.GetPciInfo(); code == gonvml.SUCCESS {
		g.PCIAddress = pciAddress(info)
	}
	if memory, code := d.GetMemoryInfo(); code == gonvml.SUCCESS {
		g.MemoryBytes = memory.Total
	}
	if minor, code := d.GetMinorNumber(); code == gonvml.SUCCESS {
		g.Minor = minor
	}
	// nvmlDeviceGetNumaNodeId is not this: it is the node that a Grace Hopper's
	// own memory makes, and unsupported elsewhere.
	if l.has("nvmlDeviceGetMemoryAffinity") {
		if nodes, code := d.GetMemoryAffinity(maxNUMANodes, gonvml.AFFINITY_SCOPE_NODE); code == gonvml.SUCCESS {
			g.NUMANode = onlyNode(nodes)
		}
	}
	// A GPU that cannot do MIG answers ERROR_NOT_SUPPORTED.
	if l.has("nvmlDeviceGetMigMode") {
		if current, _, code := d.GetMigMode(); code == gonvml.SUCCESS {
			g.MIGCapable, g.MIGEnabled = true, current == gonvml.DEVICE_MIG_ENABLE
		}
	}
	return found{handle: d, gpu: g}, nil
}

// readPeers fills in NVLinkPeers among the GPUs that answered. It asks whether
// two GPUs reach each other by NVLink now, not which links are plugged in: with
// NVSwitch the first needs a fabric manager that runs, the second does not.
func (l *Library) readPeers(all []found) {
	if !l.has("nvmlDeviceGetP2PStatus") {
		return
	}
	var wg sync.WaitGroup
	for i := range all {
		if all[i].err != nil {
			continue
		}
		wg.Go(func() {
			// Without an answer the peers are unknown, and the GPU still usable.
			peers, err := ask(&l.waiting, gpuSubject(i), queryLimit, func() ([]int, error) { return nvlinkPeers(i, all), nil })
			if err == nil {
				all[i].gpu.NVLinkPeers = peers
			}
		})
	}
	wg.Wait()
}

// nvlinkPeers reads handles and errors alone, which readPeers does not write,
// since it may outlive it. Nil when no pair gave an answer.
func nvlinkPeers(index int, all []found) []int {
	peers, answers := []int{}, 0
	for other := range all {
		if other == index || all[other].err != nil {
			continue
		}
		status, code := all[index].handle.GetP2PStatus(all[other].handle, gonvml.P2P_CAPS_INDEX_NVLINK)
		if code != gonvml.SUCCESS {
			continue
		}
		answers++
		if status == gonvml.P2P_STATUS_OK {
			peers = append(peers, other)
		}
	}
	if answers == 0 && len(all) > 1 {
		return nil
	}
	return peers
}

// has reports whether the installed libnvidia-ml knows a call. Calling one that
// it does not know ends the process: go-nvml binds symbols when they are used.
func (l *Library) has(symbol string) bool {
	return l.api.Extensions().LookupSymbol(symbol) == nil
}

func gpuSubject(index int) string { return "GPU " + strconv.Itoa(index) }
