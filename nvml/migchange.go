package nvml

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Create makes a slice of a profile that Read names, in the place that begins at
// start, with one device that has all of it. It makes both or neither: what fails
// half way is taken back, and so is what is ready only after the time-out. If
// that fails too, or the process ends meanwhile, Read shows the rest.
func (p *Partitioner) Create(gpu, profile string, start int) (MIGSlice, error) {
	var c creation
	slice, err := askMIG(p, "create MIG slice "+profile, gpu, migChangeLimit, func(d gonvml.Device) (MIGSlice, error) {
		slice, undo, err := p.create(d, profile, start)
		if err != nil {
			return MIGSlice{}, err
		}
		if !c.keep(slice) {
			return MIGSlice{}, undo()
		}
		return slice, nil
	})
	if MIGErrorKindOf(err) == MIGNoAnswer {
		if slice, ready := c.abandon(); ready {
			return slice, nil
		}
	}
	return slice, err
}

// creation settles whether a slice that is ready about when its caller gives up
// is the caller's or is taken back.
type creation struct {
	mu               sync.Mutex
	slice            MIGSlice
	ready, abandoned bool
}

func (c *creation) keep(s MIGSlice) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.abandoned {
		return false
	}
	c.slice, c.ready = s, true
	return true
}

func (c *creation) abandon() (MIGSlice, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned = true
	return c.slice, c.ready
}

func (p *Partitioner) create(d gonvml.Device, profile string, start int) (slice MIGSlice, undo func() error, err error) {
	offer, place, err := p.choose(d, profile, start)
	if err != nil {
		return MIGSlice{}, nil, err
	}
	current, _, code := d.GetMigMode()
	switch {
	case code != gonvml.SUCCESS:
		return MIGSlice{}, nil, migFault("reading the MIG mode", code)
	case current != gonvml.DEVICE_MIG_ENABLE:
		return MIGSlice{}, nil, &MIGError{Kind: MIGModeOff, Detail: "the GPU is not in MIG mode: enable it for this GPU first"}
	}
	gi, code := d.CreateGpuInstanceWithPlacement(&offer.info, &place)
	if code != gonvml.SUCCESS {
		return MIGSlice{}, nil, migFault(fmt.Sprintf("making it at %d", start), code)
	}
	var ci gonvml.ComputeInstance
	undo = func() error { return takeBack(gi, ci) }
	if ci, err = createWholeComputeInstance(gi, offer.info.SliceCount); err == nil {
		slice, err = describeNew(d, gi, profile)
	}
	if err != nil {
		return MIGSlice{}, nil, joinMIG(err, undo())
	}
	return slice, undo, nil
}

// choose finds what the driver needs to know to make the slice.
func (p *Partitioner) choose(d gonvml.Device, profile string, start int) (migOffer, gonvml.GpuInstancePlacement, error) {
	var none gonvml.GpuInstancePlacement
	profiles, err := p.profiles(d)
	if err != nil {
		return migOffer{}, none, err
	}
	var names []string
	for _, offer := range profiles {
		if offer.profile.Name != "" {
			names = append(names, offer.profile.Name)
		}
	}
	if !slices.Contains(names, profile) {
		return migOffer{}, none, &MIGError{Kind: MIGUnknownProfile, Profiles: names,
			Detail: fmt.Sprintf("this GPU has no profile %q: choose one of %s", profile, strings.Join(names, ", "))}
	}
	offer := profiles[slices.IndexFunc(profiles, func(o migOffer) bool { return o.profile.Name == profile })]
	var starts []int
	for _, place := range offer.profile.Placements {
		if place.Start == start {
			return offer, gonvml.GpuInstancePlacement{Start: uint32(place.Start), Size: uint32(place.Size)}, nil
		}
		starts = append(starts, place.Start)
	}
	return migOffer{}, none, &MIGError{Kind: MIGBadPlacement,
		Detail: fmt.Sprintf("on this GPU the profile cannot begin at %d: choose one of %v", start, starts)}
}

// createWholeComputeInstance gives one device all the compute slices, by the
// first profile that the driver lists for that.
func createWholeComputeInstance(gi gonvml.GpuInstance, computeSlices uint32) (gonvml.ComputeInstance, error) {
	for index := range maxMIGProfiles {
		info, code := gi.GetComputeInstanceProfileInfo(index, gonvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
		switch {
		case code == gonvml.ERROR_INVALID_ARGUMENT:
			return nil, &MIGError{Kind: MIGFailed, Detail: "the driver offers no device that has the whole slice: create one by nvidia-smi mig -cgi … -C to see why"}
		case code == gonvml.ERROR_NOT_SUPPORTED || code == gonvml.SUCCESS && info.SliceCount != computeSlices:
			continue
		case code != gonvml.SUCCESS:
			return nil, migFault("reading the profiles of its devices", code)
		}
		ci, code := gi.CreateComputeInstance(&info)
		if code != gonvml.SUCCESS {
			return nil, migFault("making its device", code)
		}
		return ci, nil
	}
	return nil, &MIGError{Kind: MIGFailed, Detail: "the driver does not stop offering profiles of devices: update it"}
}

// describeNew reads a slice back, so that the caller has what Read will say.
func describeNew(d gonvml.Device, gi gonvml.GpuInstance, profile string) (MIGSlice, error) {
	info, code := gi.GetInfo()
	if code != gonvml.SUCCESS {
		return MIGSlice{}, migFault("reading the new slice", code)
	}
	devices, err := readMIGDevices(d)
	if err != nil {
		return MIGSlice{}, err
	}
	s := migSlice(gi, info, profile, devices)
	if len(s.Devices) != 1 {
		return MIGSlice{}, &MIGError{Kind: MIGFailed, Detail: fmt.Sprintf("the new slice has %d devices instead of one: look at nvidia-smi -L", len(s.Devices))}
	}
	return s, nil
}

// takeBack destroys a slice that was just made; ci may be nil.
func takeBack(gi gonvml.GpuInstance, ci gonvml.ComputeInstance) error {
	if ci != nil {
		if code := ci.Destroy(); code != gonvml.SUCCESS {
			return migFault("taking its device back", code)
		}
	}
	if code := gi.Destroy(); code != gonvml.SUCCESS {
		return migFault("taking it back", code)
	}
	return nil
}

// joinMIG adds to a failure that what it left could not be taken back.
func joinMIG(failed, undone error) error {
	e, ok := failed.(*MIGError)
	u, left := undone.(*MIGError)
	if ok && left {
		e.Detail += fmt.Sprintf("; a part of the slice is left, because %s", u.Detail)
	}
	return failed
}
