// Package registry reaches container registries for agent/runtime: it says which
// hosts serve a name (a mirror first, then the registry itself), with which
// log-in, and keeps what users name from doing harm.
//
// A user names any host, and EcoLink connects to it from inside the box's network.
// So each connection is checked where it is made, when the address is known, and
// for redirects and token servers as well: link-local addresses (cloud metadata),
// the containers' own network and addresses that are no host's are always refused.
// Loopback is for registries that are named by it, if the operator leaves that on,
// and for mirrors, whom the operator has named; a name on the Internet that
// resolves to loopback is refused. Other private addresses are allowed: that is
// where an organisation's registry is. Errors say no more of a host than that it
// does not answer as a registry, so that nobody maps a network with them.
//
// A log-in goes to the registry that it is for and to no mirror, a mirror's to that
// mirror alone.
//
// It waits for no registry for ever: a host that sends no header, or no byte of a
// body, is given up, and one that asks for patience (429) gets it, within limits.
// It stores nothing and knows nothing of images.
package registry
