package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to an address as a program in the owner's namespace would: what
// listens on the loopback there answers too, the namespace's routes and the
// filter of its port hold, and the host's own ports are as far away as they are
// for the container. network is tcp, tcp4 or tcp6; the host of address is an IP
// address, or localhost for whichever of the container's own addresses takes the
// connection. ctx bounds the connecting, not the connection.
//
// Errors: ErrNotOwned, *net.OpError.
func (n *Network) Dial(ctx context.Context, owner, network, address string) (net.Conn, error) {
	ns, ok := n.Lookup(owner)
	if !ok {
		return nil, fmt.Errorf("dial %s in the network of %q: %w", address, owner, ErrNotOwned)
	}
	targets, err := ns.targets(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var errs []error
	for _, target := range targets {
		conn, err := dialIn(ctx, ns.Path, target)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(target), Err: err})
		if ctx.Err() != nil {
			break
		}
	}
	// The first is the address that was meant; the others were only tried as well.
	return nil, errs[0]
}

// targets lists what an address can mean in the namespace, the likeliest first.
func (ns Namespace) targets(network, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort(network, service)
	if err != nil {
		return nil, err
	}
	var hosts []netip.Addr
	if strings.EqualFold(host, "localhost") || host == "" {
		hosts = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), ns.Address}
	} else {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return nil, &net.AddrError{Err: "not an IP address", Addr: host}
		}
		hosts = []netip.Addr{addr.Unmap()}
	}
	var out []netip.AddrPort
	for _, h := range hosts {
		if network == "tcp" || (network == "tcp4") == h.Is4() {
			out = append(out, netip.AddrPortFrom(h, uint16(port)))
		}
	}
	if len(out) == 0 {
		return nil, &net.AddrError{Err: "no address of this network", Addr: address}
	}
	return out, nil
}

// dialIn connects from within the namespace at path. A socket belongs for good
// to the namespace that it was made in, so a thread goes there only to make it,
// and any may wait for the connection.
func dialIn(ctx context.Context, path string, to netip.AddrPort) (net.Conn, error) {
	domain, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port()), Addr: as4(to.Addr())})
	if to.Addr().Is6() {
		domain, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fd, err := socketIn(path, domain)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket") // not blocking, so it waits in the poller
	defer f.Close()                        // FileConn has its own
	if err := connectSocket(ctx, f, addr); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

// socketIn makes a TCP socket in the namespace at path.
func socketIn(path string, domain int) (fd int, err error) {
	ns, err := os.Open(path)
	if err != nil {
		return -1, err
	}
	defer ns.Close()
	fd = -1
	onOwnThread(func() (back bool) {
		home, openErr := os.Open("/proc/thread-self/ns/net")
		if openErr != nil {
			err = openErr
			return true
		}
		defer home.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return true
		}
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil
	})
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, nil
}

// connectSocket connects f, or gives up when ctx ends.
func connectSocket(ctx context.Context, f *os.File, to unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// The end of ctx wakes the wait by a deadline in the past.
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	begun := false
	var result error
	err = raw.Write(func(fd uintptr) (done bool) {
		if !begun {
			begun = true
			result = unix.Connect(int(fd), to)
			return !errors.Is(result, unix.EINPROGRESS)
		}
		var code int
		if code, result = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); result != nil {
			return true
		}
		if code != 0 {
			result = unix.Errno(code)
			return true
		}
		// Woken without an answer: connected, or not yet.
		if _, err := unix.Getpeername(int(fd)); err != nil {
			return !errors.Is(err, unix.ENOTCONN)
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = result
	}
	return os.NewSyscallError("connect", err)
}
