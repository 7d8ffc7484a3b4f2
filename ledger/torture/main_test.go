package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// The test binary plays several parts; the environment says which.
const (
	partEnv   = "ECOLINK_TORTURE_PART"
	inside    = "inside" // the tests, in their own mount namespace
	workPart  = "work"   // a process that works on a database until it is killed
	probePart = "probe"  // a process that opens damaged databases
	longEnv   = "ECOLINK_TORTURE"
)

// TestMain runs the tests in a mount namespace that ends with them: even when
// they are killed, no mount and no loop device outlives them.
func TestMain(m *testing.M) {
	switch os.Getenv(partEnv) {
	case workPart:
		os.Exit(work())
	case probePart:
		os.Exit(probe())
	case inside:
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // the child dies with the thread that made it
	cmd := self(inside, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(1, exit.ExitCode()))
	case err != nil:
		fmt.Fprintln(os.Stderr, "run the tests in a mount namespace:", err)
		os.Exit(1)
	}
}

// self is the test binary in another part. It dies with this process.
func self(part string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), partEnv+"="+part)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// needRoot ends a test that can't mount.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test mounts file systems and must run as root in CI")
	}
	t.Skip("this test mounts file systems: run it as root")
}

// times is how often a test does what it does: the short form's number, or that
// of `make torture`.
func times(short, long int) int {
	if os.Getenv(longEnv) != "" {
		return long
	}
	return short
}
