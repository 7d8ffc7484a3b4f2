package drives

// Limits.
const (
	// BytesPerGB is what a GB has.
	BytesPerGB = 1_000_000_000
	// maxGB is metering's: a petabyte.
	maxGB = 1_000_000
	// maxPerAccount is how many drives and filesystems an account has at most,
	// and maxSnapshots how many snapshots each of them.
	maxPerAccount = 1000
	maxSnapshots  = 32
	// maxUsers is how many use a shared filesystem at once at most.
	maxUsers = 1000
	// maxHistory is how many changes a record keeps: the first, which tells how it
	// came to be, and the newest.
	maxHistory = 100
	// maxPathBytes and maxComponentBytes are Linux's PATH_MAX and NAME_MAX.
	maxPathBytes      = 4096
	maxComponentBytes = 255
	// maxProblemBytes bounds what a record keeps of an error's words.
	maxProblemBytes = 1024
)
