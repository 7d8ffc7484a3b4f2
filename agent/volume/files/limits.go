package files

import "time"

// Limits.
const (
	MaxPathBytes = 4096 // of a path; Linux's PATH_MAX
	MaxNameBytes = 255  // of one name in it; ext4's
	MaxPage      = 1000 // entries of a folder that are listed at once
	// MaxDepth is how many folders deep removing and archiving go, with one open
	// file for each.
	MaxDepth = 512
	// UploadAge is how long an upload may stand still before it is swept away.
	UploadAge = 24 * time.Hour
	// sweepGrace is how much later it is left over: sweeps are hourly.
	sweepGrace = 2 * time.Hour
	// partAge is how old an upload's bytes may be while nothing says whose they are.
	partAge = time.Hour
	// maxFailures is how many files that can't be removed are named at most.
	maxFailures = 10
	// MinModTime and MaxModTime are the bounds of a file's time of modification, in
	// seconds since 1970: ext4's, from 1901 to 2446.
	MinModTime = -1 << 31
	MaxModTime = 1<<34 - 1<<31 - 1

	readBatch      = 1024     // entries of a folder that are read at once
	maxNoteBytes   = 32 << 10 // of what is noted of an upload
	maxUploads     = 4096     // unfinished, in a volume
	beginTries     = 100
	copyBytes      = 256 << 10
	writebackBytes = 32 << 20 // written before the disk is told to begin
	maxTargetBytes = 4096     // of a symbolic link
)
