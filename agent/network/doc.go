// Package network gives every container a network namespace of its own: an
// address on this box's bridge, a default route, masqueraded egress, and
// nobody else in reach.
//
// The wiring is done by the distribution's CNI plugins (bridge and
// host-local). Running them takes tens of milliseconds, so a few namespaces
// are always prepared ahead ("warm"), and [Network.Acquire] only renames a
// record. A background goroutine makes the next one when nobody is waiting.
//
// What the package holds to:
//
//   - Two owners never reach each other, nor see each other's traffic: their
//     bridge ports are isolated in the kernel, the bridge is told where each
//     MAC is instead of learning it, and a bridge-family nftables table lets a
//     port send only from the MAC and IPv4 address that it was given.
//   - A container reaches the host by ICMP, by DNS when the host itself is the
//     resolver, and on the ports of [Config.AllowTCP]. Everything else that is
//     addressed to the host is rejected, and so are ports that the host
//     forwards to other machines or containers (DNAT), the addresses where
//     clouds keep the machine's own credentials, and the ranges of
//     [Config.Block]. A nameserver in them answers on port 53 only.
//   - Nobody outside opens a connection to a container. The host itself may:
//     that is how the proxies reach them.
//   - The record of a namespace is written before the namespace is made and
//     removed after it is gone, and nothing here runs unless the one lock of
//     [Config.RunDir] is held, by this process or by plugins that it started.
//     A second lock, on the name, keeps networks in other folders off.
//     So a process killed at any moment leaves nothing that the next [New]
//     cannot find again or clear away.
//   - What others made is not touched: an interface that this package did not
//     create is an error, not a thing to reuse.
//
// With [Config.UserNamespaces], each namespace belongs to a user namespace that is
// made with it (package userns) and has a range of ids of its own; a container that
// runs in both has the powers over its network that root without one would have.
// Switching that keeps what owners have until they acquire anew.
// Networks of several boxes on one machine share those ranges without ever having one
// in common: each notes in /run/ecolink-ids which it uses. Boxes that don't see the
// same /run, each in a container of its own, don't know of each other, and what one
// can't see of the other's run folder counts as gone. The folder stays on the machine.
//
// It never knows what an owner is (it is a name, one per namespace), never
// starts or stops containers, never publishes ports, and never handles IPv6:
// IPv6 is off on the bridge, so that no container can speak it with the host.
//
// [Config.RunDir] holds bind mounts that containerd must see: the process must
// share the mount namespace of containerd, or a systemd unit must be free of
// the settings that give it one of its own (ProtectSystem, PrivateTmp,
// ReadWritePaths and their like).
//
// The package agent calls it: Acquire before a container is created, Release
// after it is deleted, Owners when it reconciles what is with what should be.
package network
