package web

import (
	"net/url"
	"strconv"
)

// BoxName is the host, with its port if it has one, of the address that people know
// the box by. Who signs a challenge sees by it for which box.
func BoxName(publicURL string) string {
	if u, err := url.Parse(publicURL); err == nil && u.Host != "" {
		return u.Host
	}
	return "localhost"
}

// SSHAddress is where people find the SSH server, and how they know it again. The
// zero one says that it is off.
type SSHAddress struct {
	Host        string
	Port        int
	HostKey     string // as known_hosts has it, without the name
	Fingerprint string // SHA256:…
}

// On tells whether there is an SSH server.
func (a SSHAddress) On() bool { return a.Port != 0 }

// Name is the host in known_hosts: [host]:port, or the host alone at SSH's own port.
func (a SSHAddress) Name() string {
	if a.Port == 22 {
		return a.Host
	}
	return "[" + a.Host + "]:" + strconv.Itoa(a.Port)
}

// Command is what to type to enter an instance.
func (a SSHAddress) Command(instance string) string {
	if a.Port == 22 {
		return "ssh " + instance + "@" + a.Host
	}
	return "ssh -p " + strconv.Itoa(a.Port) + " " + instance + "@" + a.Host
}
