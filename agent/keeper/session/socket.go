package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	socketName = "sock"
	endedName  = "ended"
)

// maxSocketPath is what fits into sockaddr_un.sun_path with its final zero
// (unix(7)).
const maxSocketPath = 107

// socketAddress returns a path for dir/sock that fits into a socket address.
// For a long dir that is a path through an open descriptor of dir, which
// release closes once the address has been used.
func socketAddress(dir string) (address string, release func(), err error) {
	plain := filepath.Join(dir, socketName)
	if len(plain) <= maxSocketPath {
		return plain, func() {}, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, socketName), func() { _ = unix.Close(fd) }, nil
}

// markEnded writes dir/ended in one step.
func markEnded(dir string, total int64, reason string) error {
	text := strconv.FormatInt(total, 10) + "\n"
	if reason != "" {
		text += strings.ReplaceAll(reason, "\n", " ") + "\n"
	}
	temporary := filepath.Join(dir, "."+endedName)
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, endedName))
}

// Ended reports whether the terminal in dir has come to its end, how many bytes
// it printed in all, and why it ended if not by its program's end. A host that
// was killed leaves no such mark; Dial finds that out.
func Ended(dir string) (total int64, reason string, ended bool) {
	text, err := os.ReadFile(filepath.Join(dir, endedName))
	if err != nil {
		return 0, "", false
	}
	number, reason, _ := strings.Cut(string(text), "\n")
	total, err = strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, "the end mark is unreadable", true
	}
	return total, strings.TrimSpace(reason), true
}

// removeIfThere removes a file of an earlier host.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
