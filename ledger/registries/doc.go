// Package registries keeps the log-ins that accounts have for container registries:
// host, user name and a sealed password, one for a host in each account.
//
// A log-in is used for images that its own account asks for from that very host,
// and for nothing else. The password goes in and comes out for the pull; no list
// shows it. It is sealed (package secrets) for exactly this account, host and user.
//
// Owners of the account store and remove log-ins; who may is for the caller to
// check with identity. It never contacts a registry. The scheduler takes log-ins
// from it, web stores and lists them.
package registries
