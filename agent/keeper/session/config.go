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
	// maxClients bounds the connections to one terminal; each costs about
	// 80 KiB.
	maxClients = 64
	// outputBytes is the most that is read from the PTY, or sent to a client,
	// at once.
	outputBytes = 64 << 10
	// inputBytes is the most input of one client that is taken at once and
	// written before another client's. The kernel hands over a client's write
	// of some KiB whole or not at all, so a read that does not fill this buffer
	// ends where a piece of the client's ends.
	inputBytes = 16 << 10
	// lineBytes is the longest first line in either direction.
	lineBytes = 256
	// handshakeTimeout is how long either side waits for the other's line.
	handshakeTimeout = 5 * time.Second
	// drainTimeout is how long clients have for the rest of the output once the
	// terminal has ended.
	drainTimeout = 5 * time.Second
	// blockedCheck is how often input that waits for its program looks whether
	// its client is still there.
	blockedCheck = time.Second
)

// Offsets with a meaning of their own, for Dial.
const (
	// FromOldest asks for everything that is still kept.
	FromOldest int64 = -1
	// FromNow asks for nothing old.
	FromNow int64 = -2
)

// Config describes one terminal to its host.
type Config struct {
	// Dir is the terminal's folder, absolute, which the caller has created with
	// mode 0700; the socket and the end mark appear in it.
	Dir string
	// Stdin is the FIFO that the shim reads the terminal's input from,
	// absolute; the caller creates it.
	Stdin string
	// ScrollbackBytes is how much output is kept, 4 KiB to 64 MiB.
	ScrollbackBytes int
}

// Args returns the arguments of ecolink-keeper that ParseConfig understands, as
// the query of the shim's "binary://" URI wants them.
func (c Config) Args() map[string]string {
	return map[string]string{
		"role":             Role,
		"dir":              c.Dir,
		"stdin":            c.Stdin,
		"scrollback_bytes": strconv.Itoa(c.ScrollbackBytes),
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
		case "stdin":
			c.Stdin = value
		case "scrollback_bytes":
			if c.ScrollbackBytes, err = strconv.Atoi(value); err != nil {
				return Config{}, fmt.Errorf("terminal host: scrollback_bytes: %w", err)
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
	case !filepath.IsAbs(c.Stdin):
		return fmt.Errorf("stdin must be an absolute path, got %q", c.Stdin)
	case c.ScrollbackBytes < minScrollbackBytes || c.ScrollbackBytes > maxScrollbackBytes:
		return fmt.Errorf("scrollback_bytes must be %d to %d, got %d", minScrollbackBytes, maxScrollbackBytes, c.ScrollbackBytes)
	}
	return nil
}
