package simulated

import (
	"fmt"
	"slices"
	"sync"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// partitions is what one GPU knows of its own MIG state. The mock's own would
// give the same memory twice and destroy a slice under its user.
type partitions struct {
	mu               sync.Mutex
	current, pending int  // MIG mode
	inUse            bool // by a process on the whole GPU
	made             []*gpuInstance
}

// SetInUse says whether a process uses d, which is a whole GPU or a MIG device
// of a simulated machine. What is in use cannot be destroyed and cannot change
// its mode.
func SetInUse(d gonvml.Device, inUse bool) error {
	switch d := d.(type) {
	case *gpu:
		d.mig.mu.Lock()
		defer d.mig.mu.Unlock()
		d.mig.inUse = inUse
		return nil
	case *migDevice:
		g := d.of.in.on
		g.mig.mu.Lock()
		defer g.mig.mu.Unlock()
		if !d.of.exists() {
			return fmt.Errorf("set MIG device in use: it was destroyed")
		}
		d.of.inUse = inUse
		return nil
	}
	return fmt.Errorf("set device in use: a %T is not of a simulated machine", d)
}

// GetMigMode is nvmlDeviceGetMigMode: the mode now, and after the next reset.
func (g *gpu) GetMigMode() (current, pending int, _ gonvml.Return) {
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	return g.mig.current, g.mig.pending, gonvml.SUCCESS
}

// SetMigMode is nvmlDeviceSetMigMode. Its first result says whether the mode is
// active already; the reset that makes it so takes every slice away.
func (g *gpu) SetMigMode(mode int) (activation, code gonvml.Return) {
	if mode != gonvml.DEVICE_MIG_DISABLE && mode != gonvml.DEVICE_MIG_ENABLE {
		return gonvml.SUCCESS, gonvml.ERROR_INVALID_ARGUMENT
	}
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	g.mig.pending = mode
	if mode == g.mig.current {
		return gonvml.SUCCESS, gonvml.SUCCESS
	}
	if g.mig.inUse || slices.ContainsFunc(g.mig.made, (*gpuInstance).inUse) {
		return gonvml.ERROR_IN_USE, gonvml.SUCCESS
	}
	for _, d := range g.migDevices() {
		g.dropSlice(d.Telemetry)
	}
	g.mig.current, g.mig.made = mode, nil
	return gonvml.SUCCESS, gonvml.SUCCESS
}

// CreateGpuInstance is nvmlDeviceCreateGpuInstance: at the first place that is free.
func (g *gpu) CreateGpuInstance(profile *gonvml.GpuInstanceProfileInfo) (gonvml.GpuInstance, gonvml.Return) {
	places, code := g.GetGpuInstancePossiblePlacements(profile)
	if code != gonvml.SUCCESS {
		return nil, code
	}
	for i := range places {
		made, code := g.CreateGpuInstanceWithPlacement(profile, &places[i])
		if code != gonvml.ERROR_INSUFFICIENT_RESOURCES {
			return made, code
		}
	}
	return nil, gonvml.ERROR_INSUFFICIENT_RESOURCES
}

// CreateGpuInstanceWithPlacement is nvmlDeviceCreateGpuInstanceWithPlacement. As
// its documentation says, memory slices that are taken are not given again.
func (g *gpu) CreateGpuInstanceWithPlacement(profile *gonvml.GpuInstanceProfileInfo, place *gonvml.GpuInstancePlacement) (gonvml.GpuInstance, gonvml.Return) {
	places, code := g.GetGpuInstancePossiblePlacements(profile)
	if code != gonvml.SUCCESS {
		return nil, code
	}
	if place == nil || !slices.Contains(places, *place) {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if g.mig.current != gonvml.DEVICE_MIG_ENABLE {
		return nil, gonvml.ERROR_NOT_SUPPORTED
	}
	index, info, _ := g.profileByID(profile.Id)
	if !g.hasRoom(info, *place) {
		return nil, gonvml.ERROR_INSUFFICIENT_RESOURCES
	}
	made := newGPUInstance(g, index, info, *place)
	g.mig.made = append(g.mig.made, made)
	return made, gonvml.SUCCESS
}

// hasRoom is called with the lock.
func (g *gpu) hasRoom(profile gonvml.GpuInstanceProfileInfo, place gonvml.GpuInstancePlacement) bool {
	same := uint32(0)
	for _, gi := range g.mig.made {
		if gi.place.Start < place.Start+place.Size && place.Start < gi.place.Start+gi.place.Size {
			return false
		}
		if gi.profile.Id == profile.Id {
			same++
		}
	}
	return same < profile.InstanceCount
}

// GetGpuInstanceRemainingCapacity is nvmlDeviceGetGpuInstanceRemainingCapacity:
// how many of the places for profile are free, each taken by itself.
func (g *gpu) GetGpuInstanceRemainingCapacity(profile *gonvml.GpuInstanceProfileInfo) (int, gonvml.Return) {
	places, code := g.GetGpuInstancePossiblePlacements(profile)
	if code != gonvml.SUCCESS {
		return 0, code
	}
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if g.mig.current != gonvml.DEVICE_MIG_ENABLE {
		return 0, gonvml.ERROR_NOT_SUPPORTED
	}
	_, info, _ := g.profileByID(profile.Id)
	free := 0
	for _, place := range places {
		if g.hasRoom(info, place) {
			free++
		}
	}
	return min(free, int(info.InstanceCount)), gonvml.SUCCESS
}

// GetGpuInstances is nvmlDeviceGetGpuInstances: those of one profile.
func (g *gpu) GetGpuInstances(profile *gonvml.GpuInstanceProfileInfo) ([]gonvml.GpuInstance, gonvml.Return) {
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if g.mig.current != gonvml.DEVICE_MIG_ENABLE {
		return nil, gonvml.ERROR_NOT_SUPPORTED
	}
	if _, _, known := g.profileByID(profile.Id); !known {
		return nil, gonvml.ERROR_INVALID_ARGUMENT
	}
	var out []gonvml.GpuInstance
	for _, gi := range g.mig.made {
		if gi.profile.Id == profile.Id {
			out = append(out, gi)
		}
	}
	return out, gonvml.SUCCESS
}

// GetGpuInstanceById is nvmlDeviceGetGpuInstanceById.
func (g *gpu) GetGpuInstanceById(id int) (gonvml.GpuInstance, gonvml.Return) {
	g.mig.mu.Lock()
	defer g.mig.mu.Unlock()
	if g.mig.current != gonvml.DEVICE_MIG_ENABLE {
		return nil, gonvml.ERROR_NOT_SUPPORTED
	}
	for _, gi := range g.mig.made {
		if gi.id == id {
			return gi, gonvml.SUCCESS
		}
	}
	return nil, gonvml.ERROR_NOT_FOUND
}

// lowestFree is the lowest number, 0 and up, that taken does not hold. The
// driver uses numbers again.
func lowestFree(taken []int) int {
	for n := 0; ; n++ {
		if !slices.Contains(taken, n) {
			return n
		}
	}
}
