package files

import "time"

// Limits.
const (
	maxArchives        = 16        // zips that are written at once; each takes a core
	maxAccountArchives = 4         // of them, of one account
	maxFinished        = 20_000    // uploads that are remembered after their end
	keepFinished       = time.Hour // and how long
	sweepEvery         = time.Hour
	firstSweep         = time.Minute // after the start, which has better things to do
	// recheckEvery is how often a transfer looks whether its volume may still be used.
	recheckEvery = 5 * time.Second
	// networkPatience is how long an upload may bring nothing before it is cut off;
	// it goes on from there with the next request.
	networkPatience = 45 * time.Second
	// lockPatience is how long a request waits for the one before it, of the same
	// upload, to let go: that one is told to.
	lockPatience = 15 * time.Second
	// lastWrites is how long what a lost connection brought may take to be written.
	lastWrites = 2 * time.Second
)
