package registry

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// Login is a name and password (or token) for a registry.
type Login struct{ Username, Password string }

// String keeps the password out of logs.
func (l *Login) String() string { return "a log-in as " + l.Username }

// Mirror is asked before the registry that it has copies of.
type Mirror struct {
	URL   *url.URL // scheme and host; http only where the operator says so
	Login *Login   // nil: none
}

// Config is the operator's say.
type Config struct {
	// Mirrors of registries, by their domain as it stands in names (docker.io).
	Mirrors map[string][]Mirror
	// NoLoopback refuses names of registries on this very machine.
	NoLoopback bool
	// Refuse are further addresses that nobody may have EcoLink connect to.
	Refuse []netip.Prefix
	// HeaderTimeout is the longest wait for the header of an answer, StallTimeout
	// for the next byte of a body. Zero is the default: 15 and 30 seconds.
	HeaderTimeout, StallTimeout time.Duration
	// TLS has further authorities that registries are trusted by; nil: the system's.
	TLS *tls.Config `json:"-"` // tests hand their places to a child of theirs
}

// Client reaches registries. Its methods may be called from many goroutines.
type Client struct {
	cfg              Config
	outside, inside  *http.Client // inside may connect to loopback
	outsideT, within *patient
}

// The defaults of Config.
const (
	headerTimeout = 15 * time.Second
	stallTimeout  = 30 * time.Second
)

// New makes a client. The caller closes it when done.
func New(cfg Config) *Client {
	if cfg.HeaderTimeout == 0 {
		cfg.HeaderTimeout = headerTimeout
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = stallTimeout
	}
	c := &Client{cfg: cfg}
	c.outsideT = newPatient(cfg, guard{refuse: cfg.Refuse})
	c.within = newPatient(cfg, guard{refuse: cfg.Refuse, loopback: true})
	c.outside, c.inside = &http.Client{Transport: c.outsideT}, &http.Client{Transport: c.within}
	return c
}

// Close ends idle connections.
func (c *Client) Close() {
	c.outsideT.next.CloseIdleConnections()
	c.within.next.CloseIdleConnections()
}

// Resolver finds and fetches images, with the log-in where the registry asks for
// one; nil is nobody's. It is for one image: what it was allowed it remembers.
func (c *Client) Resolver(login *Login) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: func(domain string) ([]docker.RegistryHost, error) { return c.hosts(domain, login) },
	})
}

// Local tells whether the domain of a name means this very machine.
func Local(domain string) bool {
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Check refuses a domain that can't be asked, before any connection is made.
func (c *Client) Check(domain string) error {
	if Local(domain) {
		if c.cfg.NoLoopback {
			return &ForbiddenError{Address: domain, Why: "registries on this machine are switched off"}
		}
		return nil
	}
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return guard{refuse: c.cfg.Refuse}.check(ip)
	}
	return nil
}

// hosts lists who serves the names of a domain, in the order that they are asked.
func (c *Client) hosts(domain string, login *Login) ([]docker.RegistryHost, error) {
	if err := c.Check(domain); err != nil {
		return nil, err
	}
	var out []docker.RegistryHost
	for _, m := range c.cfg.Mirrors[domain] {
		client := c.outside
		if Local(m.URL.Host) {
			client = c.inside
		}
		host := c.host(client, m.URL.Scheme, m.URL.Host, m.Login)
		host.Path = path.Join("/", m.URL.Path, host.Path)
		out = append(out, host)
	}
	client, scheme := c.outside, "https"
	if Local(domain) {
		// A registry on this very machine needs no TLS, as with every other client.
		client, scheme = c.inside, "http"
	}
	host, err := docker.DefaultHost(domain)
	if err != nil {
		return nil, err
	}
	return append(out, c.host(client, scheme, host, login)), nil
}

func (c *Client) host(client *http.Client, scheme, host string, login *Login) docker.RegistryHost {
	credentials := func(string) (string, string, error) { return "", "", nil }
	if login != nil {
		credentials = func(asking string) (string, string, error) {
			if asking != host { // where a registry sends us is not who the log-in is for
				return "", "", nil
			}
			return login.Username, login.Password, nil
		}
	}
	return docker.RegistryHost{
		Client: client, Host: host, Scheme: scheme, Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		Authorizer:   docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(credentials)),
	}
}
