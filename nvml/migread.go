package nvml

import (
	"cmp"
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Read asks the driver how a GPU, named by its UUID, is and can be partitioned.
// A GPU that cannot be is a MIGNotSupported error.
func (p *Partitioner) Read(gpu string) (MIGState, error) {
	return askMIG(p, "read MIG state", gpu, queryLimit, func(d gonvml.Device) (MIGState, error) { return p.read(d, gpu) })
}

func (p *Partitioner) read(d gonvml.Device, gpu string) (MIGState, error) {
	current, pending, code := d.GetMigMode()
	if code != gonvml.SUCCESS {
		return MIGState{}, migFault("reading the MIG mode", code)
	}
	profiles, err := p.profiles(d)
	if err != nil {
		return MIGState{}, err
	}
	s := MIGState{
		GPU: gpu, Enabled: current == gonvml.DEVICE_MIG_ENABLE, ResetPending: pending != current,
		Profiles: []MIGProfile{}, Slices: []MIGSlice{},
	}
	for _, offer := range profiles {
		if offer.profile.Name != "" {
			s.Profiles = append(s.Profiles, offer.profile)
		}
	}
	if s.Enabled {
		s.Slices, err = readSlices(d, profiles)
	}
	return s, err
}

// migOffer is a profile in our words and in the driver's.
type migOffer struct {
	profile MIGProfile
	info    gonvml.GpuInstanceProfileInfo
}

// profiles lists what the driver offers on a GPU, in the way that its
// documentation gives: ask for 0, 1, 2… until the number is invalid. Two numbers
// of one name would both be asked for by it, so the second has none.
func (p *Partitioner) profiles(d gonvml.Device) ([]migOffer, error) {
	memory, code := d.GetMemoryInfo()
	if code != gonvml.SUCCESS {
		return nil, migFault("reading the memory size", code)
	}
	var out []migOffer
	named := map[string]bool{}
	for index := range maxMIGProfiles {
		info, code := d.GetGpuInstanceProfileInfo(index)
		switch {
		case code == gonvml.ERROR_INVALID_ARGUMENT:
			return out, nil
		case code == gonvml.ERROR_NOT_SUPPORTED || code == gonvml.SUCCESS && info.InstanceCount == 0:
			continue
		case code != gonvml.SUCCESS:
			return nil, migFault("reading the MIG profiles", code)
		}
		places, code := d.GetGpuInstancePossiblePlacements(&info)
		if code != gonvml.SUCCESS {
			return nil, migFault("reading the placements of MIG profiles", code)
		}
		name := nameMIGProfile(p.driversName(d, index), index, info, memory.Total)
		if named[name] {
			name = ""
		}
		named[name] = true
		out = append(out, migOffer{profile: migProfile(name, info, places), info: info})
	}
	return out, nil
}

// driversName is what the driver calls a profile; empty when it does not tell.
func (p *Partitioner) driversName(d gonvml.Device, index int) string {
	if !p.library.has("nvmlDeviceGetGpuInstanceProfileInfoV") {
		return ""
	}
	info, code := d.GetGpuInstanceProfileInfoV(index).V2()
	if code != gonvml.SUCCESS {
		return ""
	}
	return cString(info.Name[:])
}

func migProfile(name string, info gonvml.GpuInstanceProfileInfo, places []gonvml.GpuInstancePlacement) MIGProfile {
	p := MIGProfile{
		Name:            name,
		ComputeSlices:   int(info.SliceCount),
		MemoryBytes:     info.MemorySizeMB << 20,
		Multiprocessors: int(info.MultiprocessorCount),
		CopyEngines:     int(info.CopyEngineCount),
		Decoders:        int(info.DecoderCount),
		Encoders:        int(info.EncoderCount),
		JPEGEngines:     int(info.JpegCount),
		OFAEngines:      int(info.OfaCount),
		MaxSlices:       int(info.InstanceCount),
		Placements:      []MIGPlacement{},
	}
	for _, place := range places {
		p.Placements = append(p.Placements, MIGPlacement{Start: int(place.Start), Size: int(place.Size)})
	}
	slices.SortFunc(p.Placements, func(a, b MIGPlacement) int { return cmp.Compare(a.Start, b.Start) })
	return p
}

// readSlices lists the slices of a GPU in MIG mode with their devices.
func readSlices(d gonvml.Device, profiles []migOffer) ([]MIGSlice, error) {
	devices, err := readMIGDevices(d)
	if err != nil {
		return nil, err
	}
	out := []MIGSlice{}
	for _, offer := range profiles {
		instances, code := d.GetGpuInstances(&offer.info)
		if code != gonvml.SUCCESS {
			return nil, migFault("listing the MIG slices", code)
		}
		for _, gi := range instances {
			info, code := gi.GetInfo()
			if code != gonvml.SUCCESS {
				return nil, migFault("reading a MIG slice", code)
			}
			out = append(out, migSlice(gi, info, offer.profile.Name, devices))
		}
	}
	slices.SortFunc(out, func(a, b MIGSlice) int { return cmp.Compare(a.Placement.Start, b.Placement.Start) })
	return out, nil
}

// migSlice describes gi. Of its devices it takes those that the slice has: the
// list by index was seen to go on naming destroyed ones (NVIDIA/libcudacxx issue
// 224).
func migSlice(gi gonvml.GpuInstance, info gonvml.GpuInstanceInfo, profile string, devices map[int][]MIGDevice) MIGSlice {
	s := MIGSlice{
		DriverID:  int(info.Id),
		Profile:   profile,
		Placement: MIGPlacement{Start: int(info.Placement.Start), Size: int(info.Placement.Size)},
		Devices:   []MIGDevice{},
	}
	for _, device := range devices[s.DriverID] {
		if _, code := gi.GetComputeInstanceById(device.DriverID); code == gonvml.SUCCESS {
			s.Devices = append(s.Devices, device)
		}
	}
	return s
}

// readMIGDevices lists a GPU's MIG devices by the GPU instance that they are in.
func readMIGDevices(d gonvml.Device) (map[int][]MIGDevice, error) {
	count, code := d.GetMaxMigDeviceCount()
	if code != gonvml.SUCCESS {
		return nil, migFault("counting the MIG devices", code)
	}
	out := map[int][]MIGDevice{}
	for index := range count {
		m, code := d.GetMigDeviceHandleByIndex(index)
		switch code {
		case gonvml.ERROR_NOT_FOUND, gonvml.ERROR_INVALID_ARGUMENT: // no device of this number
			continue
		case gonvml.SUCCESS:
		default:
			return nil, migFault("listing the MIG devices", code)
		}
		uuid, uuidCode := m.GetUUID()
		gi, giCode := m.GetGpuInstanceId()
		ci, ciCode := m.GetComputeInstanceId()
		switch code := cmp.Or(uuidCode, giCode, ciCode); code {
		case gonvml.SUCCESS:
			out[gi] = append(out[gi], MIGDevice{UUID: uuid, DriverID: ci})
		case gonvml.ERROR_NOT_FOUND, gonvml.ERROR_INVALID_ARGUMENT: // it is gone
		default:
			return nil, migFault("reading a MIG device", code)
		}
	}
	return out, nil
}
