package history

// How far back, at one point a second and one a minute. A minute's seconds lie
// side by side, so the first is a multiple of 60.
const (
	FineSeconds   = 3600
	CoarseMinutes = 30 * 24 * 60

	minuteSeconds = 60
)

// Limits.
const (
	// MaxFigures is how many figures there can be: their numbers are below it.
	MaxFigures = 64
	// MaxDevices is how many devices a folder has files of. With 22 figures a file
	// has 9 MiB, with a MIG device's three 2 MiB.
	MaxDevices = 256
	// MaxPoints is how many points one query gives.
	MaxPoints = 5000
	// maxSetAside is how many damaged files are kept, for whoever looks for the cause.
	maxSetAside = 4
	// maxNameBytes is of a device's name, as a file name.
	maxNameBytes = 200
	// chunkRecords are read at a time, so that a long query holds up no append for long.
	chunkRecords = 2048
)
