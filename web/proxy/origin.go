package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"ecolink/scheduler"
)

// Kind is what of an instance is reached.
type Kind string

// The kinds, as they stand in paths.
const (
	Service Kind = "service"
	Jupyter Kind = "jupyter"
)

// label is how a kind begins its host's name. Public services have the plain name.
func (k Kind) label() string {
	if k == Jupyter {
		return "jupyter-"
	}
	return "instance-"
}

// target is one thing that is reached.
type target struct {
	kind Kind
	id   scheduler.InstanceID
}

// prefix is the target's path on the console's origin, with a slash at its end.
func (t target) prefix() string { return fmt.Sprintf("/gpu-instances/%d/%s/", t.id, t.kind) }

// String names the target: a pass is signed for it.
func (t target) String() string { return t.kind.label() + strconv.FormatInt(int64(t.id), 10) }

// Origins are the addresses by which browsers come: the console's, and those of
// instances.
type Origins struct {
	console *url.URL // without a path
	scheme  string   // of instances' hosts
	suffix  string   // with the dot: ".apps.example.org"; "" for no hosts
	port    string   // with the colon; "" for the scheme's own
}

// ParseOrigins reads the console's address and the pattern of instances' hosts,
// such as https://*.apps.example.org. Without a pattern, a console on loopback has
// *.localhost, which browsers take for loopback on their own (RFC 6761 section
// 6.3), and any other has none.
func ParseOrigins(console, pattern string) (Origins, error) {
	c, err := url.Parse(console)
	if err != nil || c.Host == "" {
		return Origins{}, fmt.Errorf("%q is no address of a console", console)
	}
	o := Origins{console: &url.URL{Scheme: c.Scheme, Host: c.Host}}
	if pattern == "" {
		ip, err := netip.ParseAddr(c.Hostname())
		if c.Scheme != "http" || !strings.EqualFold(c.Hostname(), "localhost") && (err != nil || !ip.IsLoopback()) {
			return o, nil
		}
		pattern = "http://*.localhost"
		if c.Port() != "" {
			pattern += ":" + c.Port()
		}
	}
	// url.Parse takes a * in a host for what it is.
	p, err := url.Parse(pattern)
	if err != nil || p.Scheme != "http" && p.Scheme != "https" || p.User != nil || strings.Trim(p.Path, "/") != "" || p.RawQuery != "" || p.Fragment != "" {
		return o, fmt.Errorf("%q: write it like https://*.apps.example.org", pattern)
	}
	suffix, ok := strings.CutPrefix(strings.ToLower(p.Hostname()), "*")
	if !ok || len(suffix) < 2 || suffix[0] != '.' || strings.ContainsAny(suffix, "*[]") {
		return o, fmt.Errorf("%q: its host begins with *. and has a name behind it, like https://*.apps.example.org", pattern)
	}
	name := strings.ToLower(c.Hostname())
	if strings.HasSuffix(name, suffix) && isLabel(strings.TrimSuffix(name, suffix)) {
		return o, fmt.Errorf("%q: the console is at %s, which would be an instance's: give the console another name", pattern, name)
	}
	// An instance's page can set cookies for the domain that its host has in common
	// with the console; only those that HTTPS protects by their own name are safe
	// from it.
	if c.Scheme != "https" && suffix != ".localhost" && sameDomain(name, suffix[1:]) {
		return o, fmt.Errorf("%q: instances could set the console's cookies, since both are below one domain: use one that has nothing in common with %s, or HTTPS for the console", pattern, name)
	}
	o.scheme, o.suffix = p.Scheme, suffix
	if p.Port() != "" {
		o.port = ":" + p.Port()
	}
	return o, nil
}

// isLabel tells whether a host's first label is one of an instance's.
func isLabel(s string) bool {
	return strings.HasPrefix(s, Service.label()) || strings.HasPrefix(s, Jupyter.label())
}

// sameDomain tells whether two hosts are below one domain that a browser may take
// cookies for. A single label, as .lan, is none; which longer ones are none, as
// co.uk, is not known here, and they count.
func sameDomain(a, b string) bool {
	if _, err := netip.ParseAddr(a); err == nil {
		return false
	}
	if a == b {
		return true
	}
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	common := 0
	for common < min(len(x), len(y)) && x[len(x)-1-common] == y[len(y)-1-common] {
		common++
	}
	return common >= 2
}

// Apart tells whether instances have hosts of their own.
func (o Origins) Apart() bool { return o.suffix != "" }

// Secure tells whether browsers come to instances' hosts by HTTPS.
func (o Origins) Secure() bool { return o.scheme == "https" }

// host is the address of a target's own host.
func (o Origins) host(t target) *url.URL {
	return &url.URL{Scheme: o.scheme, Host: t.String() + o.suffix + o.port}
}

// ServiceURL is where an instance's service is reached: by browsers, and by programs
// with an API key. It is on the instance's own host, where its absolute links work,
// or on the console's origin where instances have no hosts.
func (o Origins) ServiceURL(id scheduler.InstanceID) string {
	t := target{Service, id}
	if o.Apart() {
		return o.host(t).JoinPath("/").String()
	}
	return o.console.String() + t.prefix()
}

// JupyterURL is where members open an instance's Jupyter.
func (o Origins) JupyterURL(id scheduler.InstanceID) string {
	t := target{Jupyter, id}
	if o.Apart() {
		return o.host(t).String() + t.prefix()
	}
	return o.console.String() + t.prefix()
}

// match finds whose host a request came to. below says that it is one of ours, also
// when it is nobody's.
func (o Origins) match(host string) (t target, below bool) {
	if !o.Apart() {
		return t, false
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	label, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), o.suffix)
	if !ok || label+o.suffix == strings.ToLower(o.console.Hostname()) { // the pattern may well be above the console
		return t, false
	}
	for _, kind := range []Kind{Service, Jupyter} {
		if digits, ok := strings.CutPrefix(label, kind.label()); ok {
			if id, ok := number(digits); ok {
				return target{kind, id}, true
			}
		}
	}
	return t, true
}

// parsePath finds whose path this is, and what of it is behind the prefix, in the
// encoding that it came in. slash is false for the prefix without its last slash.
func parsePath(escaped string) (t target, rest string, slash, ok bool) {
	tail, ok := strings.CutPrefix(escaped, "/gpu-instances/")
	if !ok {
		return t, "", false, false
	}
	digits, tail, _ := strings.Cut(tail, "/")
	if t.id, ok = number(digits); !ok {
		return t, "", false, false
	}
	word, rest, slash := strings.Cut(tail, "/")
	t.kind = Kind(word)
	return t, rest, slash, t.kind == Service || t.kind == Jupyter
}

// number reads an instance's number in the one way that we write it.
func number(digits string) (scheduler.InstanceID, bool) {
	n, err := strconv.ParseInt(digits, 10, 64)
	return scheduler.InstanceID(n), err == nil && n > 0 && strconv.FormatInt(n, 10) == digits
}
