package nvml

// MIGState is how one GPU is partitioned, and how it can be.
type MIGState struct {
	GPU string `json:"gpu"` // UUID
	// Enabled says that the GPU is in MIG mode now; ResetPending that it will be in
	// the other mode after its next reset.
	Enabled      bool `json:"enabled"`
	ResetPending bool `json:"reset_pending"`
	// Profiles are the sizes of slice that the driver offers on this GPU, in its
	// order, whether MIG is on or not.
	Profiles []MIGProfile `json:"profiles"`
	// Slices are those that exist, whoever made them, in order of placement.
	Slices []MIGSlice `json:"slices"`
}

// MIGProfile is a size of slice that the driver offers on one GPU.
type MIGProfile struct {
	// Name is such as 1g.10gb or 1g.10gb+me; no two profiles of a GPU share it.
	Name string `json:"name"`
	// ComputeSlices is the share of the multiprocessors: 3 in 3g.40gb.
	ComputeSlices   int    `json:"compute_slices"`
	MemoryBytes     uint64 `json:"memory_bytes"`
	Multiprocessors int    `json:"multiprocessors"`
	CopyEngines     int    `json:"copy_engines"`
	Decoders        int    `json:"decoders"`
	Encoders        int    `json:"encoders"`
	JPEGEngines     int    `json:"jpeg_engines"`
	OFAEngines      int    `json:"ofa_engines"` // optical flow
	// MaxSlices is how many of it the GPU has at most when it has nothing else.
	MaxSlices int `json:"max_slices"`
	// Placements are where a slice of it can be.
	Placements []MIGPlacement `json:"placements"`
}

// MIGPlacement is which of a GPU's memory slices a MIG slice has: Size of them,
// from Start. Two slices never share one.
type MIGPlacement struct {
	Start int `json:"start"`
	Size  int `json:"size"`
}

// MIGSlice is a part of a GPU that exists; NVML calls it a GPU instance.
type MIGSlice struct {
	// DriverID is the driver's number of it, which it uses again after the slice is
	// gone: it means nothing without Profile and Placement.
	DriverID int `json:"driver_id"`
	// Profile is empty when the driver's profile has no name here.
	Profile   string       `json:"profile"`
	Placement MIGPlacement `json:"placement"`
	// Devices are what programs can use of it. A slice that Create made has one; one
	// that was made by hand may have several, or none.
	Devices []MIGDevice `json:"devices"`
}

// MIGDevice is what a program uses: all of a slice, or a share of its
// multiprocessors. NVML calls it a compute instance.
type MIGDevice struct {
	UUID     string `json:"uuid"`      // as NVML writes it, MIG-xxxxxxxx-…
	DriverID int    `json:"driver_id"` // within its slice
}

// Profile finds a profile by its name.
func (s MIGState) Profile(name string) (MIGProfile, bool) {
	for _, p := range s.Profiles {
		if p.Name == name {
			return p, true
		}
	}
	return MIGProfile{}, false
}
