// Package keepertest lets tests run the real ecolink-keeper: it builds the
// binary, and starts a role of it as containerd's shim does.
//
// Only tests import it: those of the keeper's packages and of its users.
package keepertest
