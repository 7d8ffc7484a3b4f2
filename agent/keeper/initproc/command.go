package initproc

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is searched when the container's environment has no PATH, as
// container engines do.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// start runs argv in its own session with our stdio and returns its pid, which
// is also its process group.
//
// It uses ForkExec and not os/exec: os/exec waits for its own child, and that
// wait would race with the wait4(-1) that reaps everything.
func start(argv []string) (pid int, err error) {
	path, err := lookPath(argv[0])
	if err != nil {
		return 0, err
	}
	pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return pid, nil
}

// lookPath finds name as execvp(3) would: a name with a slash is taken as it
// is, any other is searched in PATH. An entry that exists but can't be executed
// is reported only when nothing better follows.
func lookPath(name string) (string, error) {
	if name == "" {
		return "", errors.New("the command's name is empty")
	}
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, set := os.LookupEnv("PATH")
	if !set {
		path = defaultPath
	}
	var denied error
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "." // POSIX: an empty entry is the working directory
		}
		candidate := dir + "/" + name
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		if err := unix.Access(candidate, unix.X_OK); err != nil {
			denied = fmt.Errorf("%s: %w", candidate, err)
			continue
		}
		return candidate, nil
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("%s: not found in PATH (%s)", name, path)
}

// outcome says how the start command ended.
func outcome(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("was ended by signal %d (%s)", int(status.Signal()), status.Signal())
	}
	return fmt.Sprintf("exited with status %d", status.ExitStatus())
}
