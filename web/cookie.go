package web

// SessionCookie is the cookie of who is signed in to the console.
const SessionCookie = "ecolink_session"

// CookieName is what a cookie of ours is called in a browser that comes by HTTPS,
// or does not. With __Host- no other host of the domain, and nobody who answers for
// this one without TLS, can put another's there (RFC 6265bis section 4.1.3.2).
func CookieName(name string, secure bool) string {
	if secure {
		return "__Host-" + name
	}
	return name
}
