package ssh

import "time"

// Limits of the server.
const (
	maxConnections = 1024 // of people who are in
	maxLoggingIn   = 128  // of who is not yet
	maxPerAddress  = 256  // connections
	maxBeginning   = 32   // of them not yet in: one address must not take all of maxLoggingIn
	maxAuthTries   = 12   // keys that a client may offer: an agent has many
	maxFailures    = 20   // connections that found no key, of one address, in throttle.Window
	maxChannels    = 64   // sessions and forwarded connections of one connection
	maxRefusals    = 256  // of channels, which the client has not read yet
	maxListeners   = 16   // ports that one connection listens on
	maxEnv         = 64   // variables of a session
	maxEnvBytes    = 4 << 10
	maxUserBytes   = 128
	maxTermBytes   = 64
	maxSide        = 2000 // columns or rows of a window

	outputBytes = 32 << 10 // passed on at once; the largest packet

	loginTime      = time.Minute      // for all of the handshake: a person may have to touch a key
	connectTime    = 10 * time.Second // for a forwarded connection to begin
	keepAliveEvery = 30 * time.Second
	silence        = 3 * time.Minute        // without an answer, a client is gone
	recheckPause   = 200 * time.Millisecond // between two looks at who may stay
	farewell       = 2 * time.Second        // for a client to take its last words
	exitPatience   = time.Second            // for a shell's exit code to be known
	resizeTime     = 5 * time.Second
)

// times are those of the limits that tests shorten.
type times struct {
	login     time.Duration // loginTime
	keepAlive time.Duration // keepAliveEvery
	silence   time.Duration
}

func usualTimes() times {
	return times{login: loginTime, keepAlive: keepAliveEvery, silence: silence}
}
