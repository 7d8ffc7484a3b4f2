package mig

// Progress is how far a recorded slice had come when it was last written.
type Progress int

const (
	// Making was written before the driver was asked to make the slice.
	Making Progress = iota
	// Made was written with the UUID of the slice's device.
	Made
	// Destroying was written before the driver was asked to destroy it.
	Destroying
)

// Record is a slice of ours as the database has it.
type Record struct {
	ID         int64
	GPU        string // UUID
	Place      Place
	DeviceUUID string // empty while Making
	Progress   Progress
}

// Found is a slice as the driver has it.
type Found struct {
	GPU         string // UUID
	Place       Place
	DeviceUUIDs []string // of the MIG devices in it
}

// Match is a record with the slice that it is about.
type Match struct {
	Record Record
	Found  Found
}

// Report is how database and driver differ. Every record is in exactly one of its
// lists, and so is every slice.
type Report struct {
	// Kept are ours and there.
	Kept []Match
	// Missing are ours and no longer there: after a reboot, or when somebody
	// destroyed them or the GPU was replaced.
	Missing []Record
	// Leftovers are slices of which the making or the destroying was cut off. They
	// are ours: to be destroyed, or, if Adoptable, to be kept instead.
	Leftovers []Match
	// Settled were being made or destroyed and nothing of them is there: the record
	// can go.
	Settled []Record
	// Unknown are on GPUs that did not answer. Nothing can be said of them, and
	// nothing may be done.
	Unknown []Record
	// Foreign are slices that we did not make. They are shown and counted as taken,
	// and never destroyed.
	Foreign []Found
}

// Adoptable says that a leftover was completely made: it can be recorded as Made
// with this device.
func (m Match) Adoptable() (deviceUUID string, ok bool) {
	if m.Record.Progress != Making || len(m.Found.DeviceUUIDs) != 1 {
		return "", false
	}
	return m.Found.DeviceUUIDs[0], true
}

// Reconcile compares the records with what the driver has, after a restart or at
// any time when nothing is being made or destroyed. answered are the UUIDs of the
// GPUs whose slices were read; found are those slices.
//
// A slice is ours when a record names its GPU, its place and its profile, and, if
// it was Made, its device. So one that somebody put in the place of ours is
// foreign, and ours is missing.
func Reconcile(records []Record, answered []string, found []Found) Report {
	read := map[string]bool{}
	for _, gpu := range answered {
		read[gpu] = true
	}
	type key struct {
		gpu   string
		place Place
	}
	at := map[key]int{} // index of found
	for i, f := range found {
		at[key{f.GPU, f.Place}] = i
	}
	var r Report
	ours := map[int]bool{}
	for _, record := range records {
		if !read[record.GPU] {
			r.Unknown = append(r.Unknown, record)
			continue
		}
		i, there := at[key{record.GPU, record.Place}]
		mine := there && !ours[i] && record.owns(found[i])
		switch {
		case mine && record.Progress == Made:
			r.Kept = append(r.Kept, Match{record, found[i]})
		case mine:
			r.Leftovers = append(r.Leftovers, Match{record, found[i]})
		case record.Progress == Made:
			r.Missing = append(r.Missing, record)
		default:
			r.Settled = append(r.Settled, record)
		}
		if mine {
			ours[i] = true
		}
	}
	for i, f := range found {
		if !ours[i] {
			r.Foreign = append(r.Foreign, f)
		}
	}
	return r
}

// owns reports whether a slice at the record's place is the record's. We make
// slices of one device: what was cut off has one or none, and more is somebody
// else's work.
func (r Record) owns(f Found) bool {
	switch {
	case len(f.DeviceUUIDs) > 1:
		return false
	case r.Progress == Made:
		return len(f.DeviceUUIDs) == 1 && f.DeviceUUIDs[0] == r.DeviceUUID
	case r.Progress == Destroying && len(f.DeviceUUIDs) == 1:
		return f.DeviceUUIDs[0] == r.DeviceUUID
	}
	return true
}
