package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nearestBridge is where LLDP frames are sent. A bridge does not pass frames
// to such addresses on but hands them to its host as if they had come in by the
// port itself, and no hook of the bridge family sees them (br_handle_frame in
// the kernel's net/bridge/br_input.c).
var nearestBridge = net.HardwareAddr{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}

// sendFrame sends one Ethernet frame from the container.
func sendFrame(t testing.TB, ns Namespace, to, from net.HardwareAddr, kind uint16, payload []byte) {
	t.Helper()
	_, err := inside(t, ns.Path, func() (struct{}, error) {
		link, err := netlink.LinkByName(containerInterface)
		if err != nil {
			return struct{}{}, err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return struct{}{}, err
		}
		defer unix.Close(fd)
		frame := append(append(append([]byte{}, to...), from...), byte(kind>>8), byte(kind))
		return struct{}{}, unix.Sendto(fd, append(frame, payload...), 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// datagram is an IPv4 packet with UDP in it.
func datagram(from netip.Addr, to netip.AddrPort, text string) []byte {
	packet := make([]byte, 28, 28+len(text))
	packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(packet[2:], uint16(28+len(text)))
	copy(packet[12:], from.AsSlice())
	copy(packet[16:], to.Addr().AsSlice())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	binary.BigEndian.PutUint16(packet[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(packet[20:], 4000)
	binary.BigEndian.PutUint16(packet[22:], to.Port())
	binary.BigEndian.PutUint16(packet[24:], uint16(8+len(text)))
	return append(packet, text...)
}

func macOf(t testing.TB, n *Network, owner string) net.HardwareAddr {
	t.Helper()
	mac, err := net.ParseMAC(n.owned[owner].MAC)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

func TestContainerCannotReachTheHostByFramesThatBridgesKeep(t *testing.T) {
	cfg := newConfig(t)
	socket, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	port := uint16(socket.LocalAddr().(*net.UDPAddr).Port)
	n := open(t, cfg)
	ns := acquire(t, n, "instance-1")
	mac := macOf(t, n, "instance-1")
	for last := range byte(16) {
		to := append(net.HardwareAddr{}, nearestBridge...)
		to[5] = last
		sendFrame(t, ns, to, mac, unix.ETH_P_IP, datagram(ns.Address, netip.AddrPortFrom(ns.Gateway, port), "forbidden"))
	}
	_ = socket.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	text := make([]byte, 100)
	if count, from, err := socket.ReadFrom(text); err == nil {
		t.Errorf("the host's service got %q from %v", text[:count], from)
	}
}

func TestContainerCannotDrawTrafficByFramesThatBridgesKeep(t *testing.T) {
	n := open(t, newConfig(t))
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	service := listen(t, b.Path, b.Address.String()+":0")
	if _, err := connect(t, hostPath, service); err != nil {
		t.Fatal(err)
	}
	sendFrame(t, a, nearestBridge, macOf(t, n, "instance-b"), unix.ETH_P_IP, datagram(a.Address, netip.AddrPortFrom(a.Gateway, 9), "stolen"))
	if _, err := connect(t, hostPath, service); err != nil {
		t.Errorf("traffic to the other owner went astray: %v", err)
	}
}

// TestContainerSeesNoTrafficOfOthers lets the bridge forget where b is, as it
// does of itself after some minutes of silence.
func TestContainerSeesNoTrafficOfOthers(t *testing.T) {
	n := open(t, newConfig(t))
	a, b := acquire(t, n, "instance-a"), acquire(t, n, "instance-b")
	service := listen(t, b.Path, b.Address.String()+":0")
	if _, err := connect(t, hostPath, service); err != nil {
		t.Fatal(err)
	}
	output(t, "ip", "link", "set", n.cfg.Bridge, "type", "bridge", "fdb_flush")
	fd, err := inside(t, a.Path, func() (int, error) {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(hostToNetwork(unix.ETH_P_IP)))
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300_000})
		}
		return fd, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := connect(t, hostPath, service); err != nil {
		t.Error(err)
	}
	frame := make([]byte, 2000)
	for {
		count, _, err := unix.Recvfrom(fd, frame, 0)
		if err != nil {
			return
		}
		if to, _ := netip.AddrFromSlice(frame[30:34]); count >= 34 && to == b.Address {
			t.Fatalf("%v saw a packet for %v", a.Address, b.Address)
		}
	}
}

func hostToNetwork(number uint16) uint16 { return number<<8 | number>>8 }
