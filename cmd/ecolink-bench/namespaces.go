package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideVariable marks the process that runs in the namespaces.
const insideVariable = "ECOLINK_BENCH_INSIDE"

// ownNamespaces runs this program again in network and mount namespaces of its
// own, so that bridges, firewall rules and mounts of the contenders are neither
// in the machine's way nor left behind. inside is true in that second process;
// in the first, code is how it ended.
func ownNamespaces() (inside bool, code int) {
	if os.Getenv(insideVariable) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "ecolink-bench: loopback:", err)
			return false, exitNotMeasured
		}
		return true, 0
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "ecolink-bench: containers need root: run it with sudo")
		return false, exitNotMeasured
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // the death signal comes when this thread ends
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, 0
	case errors.As(err, &exit):
		return false, exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "ecolink-bench: namespaces:", err)
		return false, exitNotMeasured
	}
}
