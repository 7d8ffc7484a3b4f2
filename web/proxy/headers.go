package proxy

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// passCookie is a member's pass to one instance's host.
const passCookie = "ecolink_pass"

// ourCookies is how the names of all cookies of ours begin.
const ourCookies = "ecolink_"

// ourKeys is how all API keys begin (SPEC.md 1).
const ourKeys = "eco_"

// isOurs tells whether a cookie is ours, in any of its spellings. Browsers take the
// prefixes in any case (RFC 6265bis section 5.7), and so do some servers the names.
func isOurs(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__host-"), "__secure-")
	return strings.HasPrefix(name, ourCookies)
}

// stripRequest takes out of a request's header what is not the container's
// business: our cookies and keys, and what the outside says about who asks.
func stripRequest(h http.Header) {
	lines := h.Values("Cookie")
	h.Del("Cookie")
	for _, line := range lines {
		var kept []string
		for pair := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(pair, "=")
			if pair = strings.TrimSpace(pair); pair != "" && !isOurs(name) {
				kept = append(kept, pair)
			}
		}
		if len(kept) > 0 {
			h.Add("Cookie", strings.Join(kept, "; "))
		}
	}
	if slices.ContainsFunc(h.Values("Authorization"), isOurKey) {
		h.Del("Authorization")
	}
	for name := range h {
		// Many servers hand both to their programs as HTTP_X_FORWARDED_FOR (RFC 3875
		// section 4.1.18).
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if strings.HasPrefix(plain, "X-Forwarded-") || strings.HasPrefix(plain, "X-Ecolink-") || slices.Contains(aboutCallers, plain) {
			delete(h, name)
		}
	}
}

// aboutCallers are the other headers in which proxies tell who asks and for what.
var aboutCallers = []string{"Forwarded", "X-Real-Ip", "X-Scheme", "X-Original-Url", "X-Rewrite-Url", "X-Client-Ip", "True-Client-Ip"}

// isOurKey tells whether an Authorization is an API key of EcoLink's.
func isOurKey(authorization string) bool {
	scheme, token, _ := strings.Cut(authorization, " ")
	return strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(strings.TrimSpace(token), ourKeys)
}

// wholeSite are the headers of an answer that act beyond the page that it is: on
// the browser's state of the host, or of the whole site.
var wholeSite = []string{
	"Alt-Svc", "Clear-Site-Data", "Nel", "Public-Key-Pins", "Report-To", "Reporting-Endpoints", "Strict-Transport-Security",
}

// stripResponse takes out of an answer's header what is not the container's to say.
// shared means that the answer leaves on the console's origin.
func stripResponse(h http.Header, shared bool) {
	for _, name := range wholeSite {
		h.Del(name)
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Ecolink-") {
			h.Del(name)
		}
	}
	cookies := h.Values("Set-Cookie")
	h.Del("Set-Cookie")
	if shared {
		h.Del("Service-Worker-Allowed")
		return
	}
	for _, line := range cookies {
		if line, ok := confine(line); ok {
			h.Add("Set-Cookie", line)
		}
	}
}

// confine keeps a Set-Cookie to the host that it is set on, and refuses one with a
// name of ours.
func confine(line string) (string, bool) {
	pair, attributes, _ := strings.Cut(line, ";")
	name, _, hasName := strings.Cut(pair, "=")
	// A cookie without a name is sent as its value, which then reads like one with.
	if !hasName || strings.TrimSpace(name) == "" || isOurs(name) {
		return "", false
	}
	kept := []string{strings.TrimSpace(pair)}
	for attribute := range strings.SplitSeq(attributes, ";") {
		word, _, _ := strings.Cut(attribute, "=")
		if attribute = strings.TrimSpace(attribute); attribute != "" && !strings.EqualFold(strings.TrimSpace(word), "Domain") {
			kept = append(kept, attribute)
		}
	}
	return strings.Join(kept, "; "), true
}

// relocate corrects the address that an answer leads to. A service knows itself by
// the host that the request named, but not always by which scheme, or by its own
// loopback; and it does not know the prefix (without its last slash) that was
// taken off its paths.
func relocate(location, outer, prefix string, port int) string {
	u, err := url.Parse(location)
	if err != nil || u.Opaque != "" || u.User != nil {
		return location
	}
	switch {
	case u.Host == "":
		if u.Scheme != "" {
			return location
		}
	case (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "") && (strings.EqualFold(u.Host, outer) || isItself(u, port)):
		u.Scheme, u.Host = "", ""
		if u.Path == "" {
			u.Path = "/"
		}
	default:
		return location
	}
	path := u.EscapedPath()
	if strings.HasPrefix(path, "/") {
		if prefix != "" && path != prefix && !strings.HasPrefix(path, prefix+"/") {
			path = prefix + path
		}
		// "//evil.example/" would be another host's.
		path = "/" + strings.TrimLeft(path, "/\\")
	}
	if path == "" && u.RawQuery == "" && u.Fragment == "" {
		return location
	}
	out := path
	if u.RawQuery != "" || u.ForceQuery {
		out += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		out += "#" + u.EscapedFragment()
	}
	return out
}

// isItself tells whether an address is the service's own, as seen from within.
func isItself(u *url.URL, port int) bool {
	if u.Port() != strconv.Itoa(port) && (u.Port() != "" || port != 80) {
		return false
	}
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}
