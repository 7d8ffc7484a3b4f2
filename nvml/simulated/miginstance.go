package simulated

import (
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
)

// gpuInstance is a part of a GPU with memory of its own, NVML's
// nvmlGpuInstance_t. Its GPU's lock guards it.
type gpuInstance struct {
	mock.GpuInstance
	on      *gpu
	id      int
	index   int // GPU_INSTANCE_PROFILE_…
	profile gonvml.GpuInstanceProfileInfo
	place   gonvml.GpuInstancePlacement
	made    []*computeInstance
}

// computeInstance is a share of a GPU instance's compute slices, NVML's
// nvmlComputeInstance_t. It is what a program sees, as a MIG device.
type computeInstance struct {
	mock.ComputeInstance
	in      *gpuInstance
	id      int
	profile gonvml.ComputeInstanceProfileInfo
	inUse   bool // by a process
	device  *migDevice
}

// newGPUInstance is called with the GPU's lock.
func newGPUInstance(g *gpu, index int, profile gonvml.GpuInstanceProfileInfo, place gonvml.GpuInstancePlacement) *gpuInstance {
	var taken []int
	for _, gi := range g.mig.made {
		taken = append(taken, gi.id)
	}
	gi := &gpuInstance{on: g, id: lowestFree(taken), index: index, profile: profile, place: place}
	answerNotSupported(&gi.GpuInstance)
	return gi
}

func (gi *gpuInstance) exists() bool { return slices.Contains(gi.on.mig.made, gi) }

func (gi *gpuInstance) inUse() bool {
	return slices.ContainsFunc(gi.made, func(ci *computeInstance) bool { return ci.inUse })
}

// GetInfo is nvmlGpuInstanceGetInfo.
func (gi *gpuInstance) GetInfo() (gonvml.GpuInstanceInfo, gonvml.Return) {
	gi.on.mig.mu.Lock()
	defer gi.on.mig.mu.Unlock()
	if !gi.exists() {
		return gonvml.GpuInstanceInfo{}, gonvml.ERROR_INVALID_ARGUMENT
	}
	return gonvml.GpuInstanceInfo{Device: gi.on, Id: uint32(gi.id), ProfileId: gi.profile.Id, Placement: gi.place}, gonvml.SUCCESS
}

// Destroy is nvmlGpuInstanceDestroy. A compute instance in it is a use of it.
func (gi *gpuInstance) Destroy() gonvml.Return {
	gi.on.mig.mu.Lock()
	defer gi.on.mig.mu.Unlock()
	switch {
	case !gi.exists():
		return gonvml.ERROR_INVALID_ARGUMENT
	case len(gi.made) > 0:
		return gonvml.ERROR_IN_USE
	}
	gi.on.mig.made = slices.DeleteFunc(gi.on.mig.made, func(other *gpuInstance) bool { return other == gi })
	return gonvml.SUCCESS
}

// GetComputeInstanceProfileInfo is nvmlGpuInstanceGetComputeInstanceProfileInfo.
func (gi *gpuInstance) GetComputeInstanceProfileInfo(index, engines int) (gonvml.ComputeInstanceProfileInfo, gonvml.Return) {
	if index < 0 || index >= gonvml.COMPUTE_INSTANCE_PROFILE_COUNT || engines != gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED {
		return gonvml.ComputeInstanceProfileInfo{}, gonvml.ERROR_INVALID_ARGUMENT
	}
	info, known := gi.on.Config.MIGProfiles.ComputeInstanceProfiles[gi.index][index]
	if !known {
		return gonvml.ComputeInstanceProfileInfo{}, gonvml.ERROR_NOT_SUPPORTED
	}
	return info, gonvml.SUCCESS
}

// CreateComputeInstance is nvmlGpuInstanceCreateComputeInstance.
func (gi *gpuInstance) CreateComputeInstance(profile *gonvml.ComputeInstanceProfileInfo) (gonvml.ComputeInstance, gonvml.Return) {
	info, known := gi.computeProfileByID(profile.Id)
	if !known {
		return nil, gonvml.ERROR_NOT_SUPPORTED
	}
	gi.on.mig.mu.Lock()
	defer gi.on.mig.mu.Unlock()
	if !gi.exists() {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	var taken []int
	left := gi.profile.SliceCount
	for _, ci := range gi.made {
		taken = append(taken, ci.id)
		left -= ci.profile.SliceCount
	}
	if info.SliceCount > left {
		return nil, gonvml.ERROR_INSUFFICIENT_RESOURCES
	}
	ci := &computeInstance{in: gi, id: lowestFree(taken), profile: info}
	answerNotSupported(&ci.ComputeInstance)
	ci.device = newMIGDevice(ci)
	gi.made = append(gi.made, ci)
	return ci, gonvml.SUCCESS
}

func (gi *gpuInstance) computeProfileByID(id uint32) (gonvml.ComputeInstanceProfileInfo, bool) {
	for _, info := range gi.on.Config.MIGProfiles.ComputeInstanceProfiles[gi.index] {
		if info.Id == id {
			return info, true
		}
	}
	return gonvml.ComputeInstanceProfileInfo{}, false
}

// GetComputeInstances is nvmlGpuInstanceGetComputeInstances: those of one profile.
func (gi *gpuInstance) GetComputeInstances(profile *gonvml.ComputeInstanceProfileInfo) ([]gonvml.ComputeInstance, gonvml.Return) {
	gi.on.mig.mu.Lock()
	defer gi.on.mig.mu.Unlock()
	if !gi.exists() {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	var out []gonvml.ComputeInstance
	for _, ci := range gi.made {
		if ci.profile.Id == profile.Id {
			out = append(out, ci)
		}
	}
	return out, gonvml.SUCCESS
}

// GetComputeInstanceById is nvmlGpuInstanceGetComputeInstanceById.
func (gi *gpuInstance) GetComputeInstanceById(id int) (gonvml.ComputeInstance, gonvml.Return) {
	gi.on.mig.mu.Lock()
	defer gi.on.mig.mu.Unlock()
	if !gi.exists() {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	for _, ci := range gi.made {
		if ci.id == id {
			return ci, gonvml.SUCCESS
		}
	}
	return nil, gonvml.ERROR_NOT_FOUND
}

func (ci *computeInstance) exists() bool { return ci.in.exists() && slices.Contains(ci.in.made, ci) }

// GetInfo is nvmlComputeInstanceGetInfo.
func (ci *computeInstance) GetInfo() (gonvml.ComputeInstanceInfo, gonvml.Return) {
	ci.in.on.mig.mu.Lock()
	defer ci.in.on.mig.mu.Unlock()
	if !ci.exists() {
		return gonvml.ComputeInstanceInfo{}, gonvml.ERROR_INVALID_ARGUMENT
	}
	return gonvml.ComputeInstanceInfo{Device: ci.in.on, GpuInstance: ci.in, Id: uint32(ci.id), ProfileId: ci.profile.Id}, gonvml.SUCCESS
}

// Destroy is nvmlComputeInstanceDestroy.
func (ci *computeInstance) Destroy() gonvml.Return {
	ci.in.on.mig.mu.Lock()
	defer ci.in.on.mig.mu.Unlock()
	switch {
	case !ci.exists():
		return gonvml.ERROR_INVALID_ARGUMENT
	case ci.inUse:
		return gonvml.ERROR_IN_USE
	}
	ci.in.on.dropSlice(ci.device.Telemetry)
	ci.in.made = slices.DeleteFunc(ci.in.made, func(other *computeInstance) bool { return other == ci })
	return gonvml.SUCCESS
}
