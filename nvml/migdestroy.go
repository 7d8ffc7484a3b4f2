package nvml

import (
	"fmt"
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Destroy takes a slice away, with its device: exactly the slice that Create or
// Read described. If another is there by now, or it has devices that s does not
// name, it is MIGGone and stays. A slice that a process uses is MIGInUse and stays
// whole. When the device goes but the slice does not, calling again goes on.
func (p *Partitioner) Destroy(gpu string, s MIGSlice) error {
	_, err := askMIG(p, "destroy MIG slice "+s.Profile, gpu, migChangeLimit, func(d gonvml.Device) (struct{}, error) {
		return struct{}{}, p.destroy(d, s)
	})
	return err
}

func (p *Partitioner) destroy(d gonvml.Device, s MIGSlice) error {
	gi, err := p.find(d, s)
	if err != nil {
		return err
	}
	computeInstances, err := computeInstancesOf(gi)
	if err != nil {
		return err
	}
	if len(computeInstances) > 1 {
		return &MIGError{Kind: MIGInUse, Detail: fmt.Sprintf("it has %d devices, which EcoLink does not make: destroy them by nvidia-smi mig -dci", len(computeInstances))}
	}
	for _, ci := range computeInstances {
		if code := ci.Destroy(); code != gonvml.SUCCESS {
			return migFault("destroying its device", code)
		}
	}
	if code := gi.Destroy(); code != gonvml.SUCCESS {
		return migFault("destroying it", code)
	}
	// Success with the slice still there was seen on an H100 (go-nvml issue 146).
	if _, code := d.GetGpuInstanceById(s.DriverID); code == gonvml.SUCCESS {
		return &MIGError{Kind: MIGFailed, Detail: "the driver says that it is destroyed and still lists it: try again, and look at nvidia-smi mig -lgi"}
	}
	return nil
}

// find gives the driver's handle of the slice, if it is still the same one.
func (p *Partitioner) find(d gonvml.Device, s MIGSlice) (gonvml.GpuInstance, error) {
	profiles, err := p.profiles(d)
	if err != nil {
		return nil, err
	}
	gi, code := d.GetGpuInstanceById(s.DriverID)
	switch code {
	case gonvml.SUCCESS:
	case gonvml.ERROR_NOT_FOUND:
		return nil, &MIGError{Kind: MIGGone, Err: code, Detail: "it is not there: read the GPU's MIG state again"}
	case gonvml.ERROR_NOT_SUPPORTED:
		return nil, &MIGError{Kind: MIGModeOff, Err: code, Detail: "the GPU is not in MIG mode, and so has no slices: read its MIG state again"}
	default:
		return nil, migFault("finding it", code)
	}
	info, code := gi.GetInfo()
	if code != gonvml.SUCCESS {
		return nil, migFault("reading it", code)
	}
	devices, err := readMIGDevices(d)
	if err != nil {
		return nil, err
	}
	profile := ""
	for _, offer := range profiles {
		if offer.info.Id == info.ProfileId {
			profile = offer.profile.Name
		}
	}
	now := migSlice(gi, info, profile, devices)
	same := now.Profile == s.Profile && now.Placement == s.Placement
	for _, device := range now.Devices {
		same = same && slices.Contains(s.Devices, device)
	}
	if !same {
		return nil, &MIGError{Kind: MIGGone, Detail: fmt.Sprintf("another slice, %s at %d, is there instead: read the GPU's MIG state again", now.Profile, now.Placement.Start)}
	}
	return gi, nil
}

func computeInstancesOf(gi gonvml.GpuInstance) ([]gonvml.ComputeInstance, error) {
	var out []gonvml.ComputeInstance
	seen := map[uint32]bool{}
	for index := range maxMIGProfiles {
		info, code := gi.GetComputeInstanceProfileInfo(index, gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
		switch {
		case code == gonvml.ERROR_INVALID_ARGUMENT:
			return out, nil
		case code == gonvml.ERROR_NOT_SUPPORTED || code == gonvml.SUCCESS && (info.InstanceCount == 0 || seen[info.Id]):
			continue
		case code != gonvml.SUCCESS:
			return nil, migFault("reading the profiles of its devices", code)
		}
		seen[info.Id] = true
		some, code := gi.GetComputeInstances(&info)
		if code != gonvml.SUCCESS {
			return nil, migFault("listing its devices", code)
		}
		out = append(out, some...)
	}
	return out, nil
}
