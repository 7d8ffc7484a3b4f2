package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// listenBacklog is how many connections may wait to be accepted.
const listenBacklog = 128

// Listen listens inside the owner's namespace: on its loopback when the address
// names localhost, on all of its addresses when it names no host. Port 0 is any
// that is free. The listener is closed with Close and not by Release: what it
// accepts afterwards is nothing.
//
// Errors: ErrNotOwned, *net.OpError.
func (n *Network) Listen(ctx context.Context, owner, address string) (net.Listener, error) {
	ns, ok := n.Lookup(owner)
	if !ok {
		return nil, fmt.Errorf("listen on %s in the network of %q: %w", address, owner, ErrNotOwned)
	}
	at, err := listenAddress(address)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: err}
	}
	l, err := listenIn(ns.Path, at)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: err}
	}
	return l, nil
}

// listenAddress reads what to listen on. Containers have no IPv6 but on their
// loopback, so that all addresses are the IPv4 ones.
func listenAddress(address string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var addr netip.Addr
	switch host {
	case "localhost":
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case "", "*":
		addr = netip.IPv4Unspecified()
	default:
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, &net.AddrError{Err: "not an IP address", Addr: host}
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// listenIn listens on a socket made in the namespace at path; see dialIn.
func listenIn(path string, at netip.AddrPort) (net.Listener, error) {
	domain, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: as4(at.Addr())})
	if at.Addr().Is6() {
		domain, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd, err := socketIn(path, domain)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // FileListener has its own
	err = errors.Join(os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)),
		os.NewSyscallError("bind", unix.Bind(fd, addr)))
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, listenBacklog))
	}
	if err != nil {
		return nil, err
	}
	return net.FileListener(f)
}
