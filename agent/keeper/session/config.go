package session

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// Role is the value of the `role` argument that selects the terminal host.
const Role = "session"

// Limits of the host and the client.
const (
	minScrollbackBytes = 4 << 10
	maxScrollbackBytes = 64 << 20
	// memoryBytes is how much is kept when the disk takes nothing any more.
	memoryBytes = 256 << 10
	// historyBytes is how much output from before a full-screen program was
	// started such a viewer gets, when what the program has drawn is too much.
	historyBytes     = 64 << 10
	maxPrologueBytes = historyBytes + 4<<10
	// maxClients bounds the connections to one terminal; each costs about
	// 80 KiB.
	maxClients = 64
	// maxLost bounds the places of viewers that were cut off.
	maxLost = 64
	// outputBytes is the most that is read from the PTY, or sent to a client,
	// at once.
	outputBytes = 64 << 10
	// fewBytes is what is sent at once to a client that gets little.
	fewBytes = 4 << 10
	// echoBytes is the longest piece of output that may be a key's echo.
	echoBytes = 512
	// lastBytes is the most that is taken once the shell has exited. The kernel keeps
	// less of a PTY's output (see paceFull), so that the rest is others'.
	lastBytes = 64 << 10
	// inputBytes is the most input in one frame, which is typed undivided.
	inputBytes = 16 << 10
	// keyBytes is the most that is typed without the host, and touchTime how often
	// the host is told that somebody does.
	keyBytes  = 256
	touchTime = time.Second
	// lineBytes is the longest first line in either direction.
	lineBytes = 512
	// handshakeTimeout is how long either side waits for the other's line.
	handshakeTimeout = 5 * time.Second
	// adoptTimeout is how long a shell may take to show its PTY.
	adoptTimeout = 10 * time.Second
	// drainTimeout is how long clients have for the rest of the output once the
	// terminal has ended.
	drainTimeout = 5 * time.Second
	// leaveTimeout is how long saying good-bye may take.
	leaveTimeout = 100 * time.Millisecond
	// blockedCheck is how often input that waits for its program looks whether
	// its client is still there.
	blockedCheck = time.Second
	// holdCheck is how often output that waits for its viewers looks whether
	// their time is over.
	holdCheck = 50 * time.Millisecond
	// wiggleTime is how long a window is a row shorter to have its program draw
	// all of it again. A program that looks only after both changes sees none.
	wiggleTime = 100 * time.Millisecond
	// gatherTime is how long a viewer's output collects while a program floods its
	// terminal, unless gatherBytes come before: everybody on the way then wakes for
	// pieces and not for crumbs. An eye sees 10 ms at best.
	gatherTime  = 2 * time.Millisecond
	gatherBytes = outputBytes / 2
	// idleCheck is how often a host looks whether its shell is forgotten.
	idleCheck = 10 * time.Minute
)

// usualAllowance is with viewers; see doc.go.
var usualAllowance = allowance{stall: 15 * time.Second, shared: 5 * time.Second, lost: 30 * time.Second, reserve: 2 << 20, screen: 1 << 20}

// Offsets with a meaning of their own, for Dial.
const (
	// FromOldest asks for everything that is still kept.
	FromOldest int64 = -1
	// FromNow asks for nothing old.
	FromNow int64 = -2
	// FromScreen asks for what an empty screen needs to show what the others'
	// show.
	FromScreen int64 = -3
)

// Window is the size of a terminal's window. Zero is no window.
type Window struct{ Cols, Rows uint16 }

// Config describes one terminal to its host.
type Config struct {
	// Dir is the terminal's folder, absolute, which the caller has created with
	// mode 0700; the socket, the scrollback and the end mark appear in it.
	Dir string
	// ScrollbackBytes is how much output is kept, 4 KiB to 64 MiB.
	ScrollbackBytes int
	// IdleSeconds is how long a shell may sit at its prompt, without a viewer
	// and without a process that it has started, until it is ended. 0: for ever.
	IdleSeconds int
}

// Args returns the arguments of ecolink-keeper that ParseConfig understands, as
// the query of the shim's "binary://" URI wants them.
func (c Config) Args() map[string]string {
	return map[string]string{
		"role":             Role,
		"dir":              c.Dir,
		"scrollback_bytes": strconv.Itoa(c.ScrollbackBytes),
		"idle_seconds":     strconv.Itoa(c.IdleSeconds),
	}
}

// ParseConfig is the reverse of Args. All keys must be there and no other.
func ParseConfig(args map[string]string) (Config, error) {
	var c Config
	var role string
	var err error
	for key, value := range args {
		switch key {
		case "role":
			role = value
		case "dir":
			c.Dir = value
		case "scrollback_bytes":
			if c.ScrollbackBytes, err = strconv.Atoi(value); err != nil {
				return Config{}, fmt.Errorf("terminal host: scrollback_bytes: %w", err)
			}
		case "idle_seconds":
			if c.IdleSeconds, err = strconv.Atoi(value); err != nil {
				return Config{}, fmt.Errorf("terminal host: idle_seconds: %w", err)
			}
		default:
			return Config{}, fmt.Errorf("terminal host: unknown argument %q", key)
		}
	}
	if role != Role {
		return Config{}, fmt.Errorf("terminal host: role must be %s, got %q", Role, role)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("terminal host: %w", err)
	}
	return c, nil
}

func (c Config) check() error {
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("dir must be an absolute path, got %q", c.Dir)
	case c.ScrollbackBytes < minScrollbackBytes || c.ScrollbackBytes > maxScrollbackBytes:
		return fmt.Errorf("scrollback_bytes must be %d to %d, got %d", minScrollbackBytes, maxScrollbackBytes, c.ScrollbackBytes)
	case c.IdleSeconds < 0:
		return fmt.Errorf("idle_seconds must not be negative, got %d", c.IdleSeconds)
	}
	return nil
}
