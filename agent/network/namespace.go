package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ecolink/agent/userns"
)

// createNamespace makes an empty network namespace with its loopback up and
// keeps it alive by a bind mount at path, which must not exist. With a user
// namespace, which it makes as well, it belongs to that: whoever is root there
// may have raw sockets and mount its /sys, and is nobody elsewhere.
//
// containerd's netns package does nearly this, but draws the path itself, and
// a record has to name the path before the namespace exists.
func createNamespace(path string, user userns.Mapping) error {
	if user != (userns.Mapping{}) {
		err := user.Create(path)
		if err == nil {
			err = inNamespace(path, prepareNamespace)
		}
		if err != nil {
			return fmt.Errorf("make network namespace %s: %w", path, err)
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	onOwnThread(func() (back bool) {
		back, err = onNewNamespace(func() error {
			if err := prepareNamespace(); err != nil {
				return err
			}
			return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		})
		return back
	})
	if err != nil {
		return fmt.Errorf("make network namespace %s: %w", path, err)
	}
	return nil
}

// inNamespace runs do in the namespace at path.
func inNamespace(path string, do func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	onOwnThread(func() (back bool) {
		back, err = onNamespace(func() error { return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) }, do)
		return back
	})
	return err
}

// prepareNamespace sets up the one that the thread is in.
func prepareNamespace() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	allowUnprivileged()
	return nil
}

// onOwnThread runs do on a thread that no other goroutine uses meanwhile. do
// reports whether the thread is as it was before; if not, the thread ends.
//
// A thread that can be used again is, rather than left to end: another
// goroutine may have started a child from it with a parent-death signal, and
// the kernel sends that when the thread ends, not the process (golang/go#27505).
//
// It is never the process's first thread: /proc/self, and with it /proc/net,
// show that one's namespaces, and Go cannot end it but parks it for good,
// wherever it is.
func onOwnThread(do func() (back bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onOwnThread(do) // on another thread, as this one is held
			runtime.UnlockOSThread()
			return
		}
		if do() {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

// onNewNamespace is onNamespace with a fresh one.
func onNewNamespace(do func() error) (back bool, err error) {
	return onNamespace(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, do)
}

// onNamespace runs do in the network namespace that enter goes to. It reports
// whether the thread, which the caller has locked, is back where it was.
func onNamespace(enter, do func() error) (back bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer home.Close()
	if err := enter(); err != nil {
		return true, err
	}
	err = do()
	if backErr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); backErr != nil {
		return false, errors.Join(err, backErr)
	}
	return true, err
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// allowUnprivileged lets any user in the namespace ping, and listen on ports
// below 1024, as Docker and Kubernetes do. A kernel without these settings, or
// a read-only /proc/sys, only means that such a program has to be root.
func allowUnprivileged() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

// namespaceAlive reports whether a namespace is mounted at path: the kernel's
// word, whatever the records say.
func namespaceAlive(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// removeNamespace lets go of the namespace at path; without processes in it,
// the kernel ends it. A missing mount or file is fine.
func removeNamespace(path string) error { return userns.LetGo(path) }
