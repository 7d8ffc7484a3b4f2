package simulated

import (
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// memorySlices is into how many parts MIG divides the memory of the GPUs that
// are simulated; a placement is counted in them.
const memorySlices = 8

// profileIDs are the numbers by which the driver creates and lists GPU instances
// (`nvidia-smi mig -lgip` prints them). They differ from the numbers by which
// profiles are asked for, GPU_INSTANCE_PROFILE_…; the mock uses the latter for
// both, which would hide a mix-up.
func profileIDs() map[int]uint32 {
	return map[int]uint32{
		gonvml.GPU_INSTANCE_PROFILE_7_SLICE:      0,
		gonvml.GPU_INSTANCE_PROFILE_4_SLICE:      5,
		gonvml.GPU_INSTANCE_PROFILE_3_SLICE:      9,
		gonvml.GPU_INSTANCE_PROFILE_2_SLICE:      14,
		gonvml.GPU_INSTANCE_PROFILE_1_SLICE_REV2: 15,
		gonvml.GPU_INSTANCE_PROFILE_1_SLICE:      19,
		gonvml.GPU_INSTANCE_PROFILE_1_SLICE_REV1: 20,
	}
}

// GetGpuInstanceProfileInfo is nvmlDeviceGetGpuInstanceProfileInfo. It answers
// whether MIG is on or not.
func (g *gpu) GetGpuInstanceProfileInfo(index int) (gonvml.GpuInstanceProfileInfo, gonvml.Return) {
	if index < 0 || index >= gonvml.GPU_INSTANCE_PROFILE_COUNT {
		return gonvml.GpuInstanceProfileInfo{}, gonvml.ERROR_INVALID_ARGUMENT
	}
	info, known := g.Config.MIGProfiles.GpuInstanceProfiles[index]
	id, numbered := profileIDs()[index]
	if !known || !numbered {
		return gonvml.GpuInstanceProfileInfo{}, gonvml.ERROR_NOT_SUPPORTED
	}
	info.Id = id
	return info, gonvml.SUCCESS
}

// GetGpuInstancePossiblePlacements is nvmlDeviceGetGpuInstancePossiblePlacements.
//
// A placement's size is in memory slices (nvml.h). The mock's A100 says so; its
// later GPUs give compute slices instead, 3 for 3g.40gb, by which seven slices
// could hold more memory than the GPU has. So the size follows from the memory
// here, and places that it does not divide fall away.
func (g *gpu) GetGpuInstancePossiblePlacements(profile *gonvml.GpuInstanceProfileInfo) ([]gonvml.GpuInstancePlacement, gonvml.Return) {
	if profile == nil {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	index, info, known := g.profileByID(profile.Id)
	if !known {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	total := g.MemoryInfo.Total >> 20
	size := uint32((info.MemorySizeMB*memorySlices + total/2) / total)
	var out []gonvml.GpuInstancePlacement
	for _, place := range g.Config.MIGProfiles.GpuInstancePlacements[index] {
		if place.Start%size == 0 && place.Start+size <= memorySlices {
			out = append(out, gonvml.GpuInstancePlacement{Start: place.Start, Size: size})
		}
	}
	return out, gonvml.SUCCESS
}

// profileByID finds the profile with the driver's number id, and the number by
// which it is asked for.
func (g *gpu) profileByID(id uint32) (index int, info gonvml.GpuInstanceProfileInfo, known bool) {
	for index := range gonvml.GPU_INSTANCE_PROFILE_COUNT {
		if info, code := g.GetGpuInstanceProfileInfo(index); code == gonvml.SUCCESS && info.Id == id {
			return index, info, true
		}
	}
	return 0, gonvml.GpuInstanceProfileInfo{}, false
}

// simulates reports whether an NVML call can be answered here. What hands out a
// versioned handler cannot: the handler would go on to call NVIDIA's library.
func simulates(symbol string) bool {
	return !slices.Contains([]string{
		"nvmlDeviceGetGpuInstanceProfileInfoV",
		"nvmlGpuInstanceGetComputeInstanceProfileInfoV",
	}, symbol)
}
