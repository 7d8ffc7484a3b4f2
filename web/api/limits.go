package api

import "time"

// Limits.
const (
	// maxBody is the largest request body. The largest useful one is a launch with
	// 32 KiB of command and 32 KiB of environment.
	maxBody = 1 << 20
	// bodyTime is how long a body may take to arrive.
	bodyTime = 30 * time.Second

	maxIdempotencyKey = 255

	// keepAlive is how often a quiet stream says that it is still there: proxies
	// drop what is silent for a minute, and only a write finds a client gone.
	keepAlive = 15 * time.Second
	// writeTime is how long a client of a stream may not read before it is cut off.
	writeTime = 30 * time.Second
	// gatherTime is the least time from one reading of a watcher to the next.
	gatherTime = 10 * time.Millisecond
	// lastWords is how long a followed log may be silent, once its instance is
	// over, before the stream ends.
	lastWords = time.Second
	// maxLogBatch is how many log lines go out in one write.
	maxLogBatch = 64
)
