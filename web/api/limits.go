package api

import "time"

// Limits.
const (
	// maxBody is the largest request body. The largest useful one is a launch with
	// 32 KiB of command and 32 KiB of environment.
	maxBody = 1 << 20

	maxIdempotencyKey = 255

	// keepAlive is how often a quiet stream says that it is still there: proxies
	// drop what is silent for a minute, and only a write finds a client gone.
	keepAlive = 15 * time.Second
	// maxKept is the largest buffer that a stream keeps for its next event.
	maxKept = 16 << 10
	// gatherTime is the least time from one reading of a watcher to the next.
	gatherTime = 10 * time.Millisecond
	// lastWords is how long a followed log may be silent, once its instance is
	// over, before the stream ends.
	lastWords = time.Second
	// maxLogBatch is how many log lines go out in one write.
	maxLogBatch = 64
)
