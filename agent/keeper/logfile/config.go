package logfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
)

// Role is the value of the `role` argument that selects the log writer.
const Role = "log"

// Limits of a Config.
const (
	minMaxBytes = 4 << 10
	maxFiles    = 100
)

// Config says where a container's log goes and how much of it is kept.
type Config struct {
	// Dir is the log's folder, absolute. The writer creates it, mode 0700.
	Dir string
	// MaxBytes is the size at which a file is rotated, 4096 at least.
	MaxBytes int64
	// Files is how many files are kept, current.log included, 1 to 100. So a
	// log takes Files × MaxBytes on the disk at most; with a MaxBytes that is
	// smaller than a record (MaxTextBytes), a file holds one record instead.
	Files int
}

// Args returns the arguments of ecolink-keeper that ParseConfig understands, as
// the query of the shim's "binary://" URI wants them.
func (c Config) Args() map[string]string {
	return map[string]string{
		"role":      Role,
		"dir":       c.Dir,
		"max_bytes": strconv.FormatInt(c.MaxBytes, 10),
		"files":     strconv.Itoa(c.Files),
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
		case "max_bytes":
			if c.MaxBytes, err = strconv.ParseInt(value, 10, 64); err != nil {
				return Config{}, fmt.Errorf("log writer: max_bytes: %w", err)
			}
		case "files":
			if c.Files, err = strconv.Atoi(value); err != nil {
				return Config{}, fmt.Errorf("log writer: files: %w", err)
			}
		default:
			return Config{}, fmt.Errorf("log writer: unknown argument %q", key)
		}
	}
	if role != Role {
		return Config{}, fmt.Errorf("log writer: role must be %s, got %q", Role, role)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("log writer: %w", err)
	}
	return c, nil
}

func (c Config) check() error {
	switch {
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("dir must be an absolute path, got %q", c.Dir)
	case c.MaxBytes < minMaxBytes:
		return fmt.Errorf("max_bytes must be %d at least, got %d", minMaxBytes, c.MaxBytes)
	case c.Files < 1:
		return errors.New("files must be 1 at least")
	case c.Files > maxFiles:
		return fmt.Errorf("files must be %d at most, got %d", maxFiles, c.Files)
	}
	return nil
}

// currentName is the file that is being written.
const currentName = "current.log"

// path returns the nth newest file of the log in dir; 0 is the current one.
func path(dir string, n int) string {
	if n == 0 {
		return filepath.Join(dir, currentName)
	}
	return filepath.Join(dir, strconv.Itoa(n)+".log")
}
